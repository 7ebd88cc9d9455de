// DCNv4's FlashDeformAttn, from a checkout of OpenGVLab/DCNv4. It takes the logits behind each head's locations.
#include "cuda/flash_deform_im2col_cuda.cuh"
#include "peer_call.h"

namespace {

constexpr int kChannelsOfThread = 8;  // as its Python chooses for every shape

template <typename T>
int32_t launch(const PeerAttention& a, cudaStream_t stream) {
  try {
    flash_deformable_im2col_cuda<T>(stream, static_cast<const T*>(a.value),
                                    static_cast<const int64_t*>(a.spatial_shapes),
                                    static_cast<const int64_t*>(a.level_starts), static_cast<const T*>(a.locations),
                                    static_cast<T*>(a.output), a.batch, a.tokens, a.heads, a.channels, a.levels,
                                    a.queries, a.points, kChannelsOfThread, a.block_threads, true);
  } catch (const std::exception&) {
    return PEER_REFUSED;
  }
  return cudaPeekAtLastError();
}

}  // namespace

PEER_LAUNCH(const PeerAttention* a, cudaStream_t stream) {
  switch (a->type) {
    case PEER_FLOAT32:
      return launch<float>(*a, stream);
    case PEER_FLOAT16:
      return launch<__half>(*a, stream);
    case PEER_BFLOAT16:
      return launch<__nv_bfloat16>(*a, stream);
    default:
      return PEER_UNSUPPORTED;
  }
}
