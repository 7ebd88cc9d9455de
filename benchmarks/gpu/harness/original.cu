// Deformable DETR's own CUDA op (Sparse DETR's is the same), from a checkout of fundamentalvision/Deformable-DETR.
// It is dispatched for float32 only; float16 is the same template on a half-precision number, as mmcv dispatches it.
#include "cuda/ms_deform_im2col_cuda.cuh"
#include "peer_call.h"
#include "rounded.h"

namespace {

template <typename T>
int32_t launch(const PeerAttention& a, cudaStream_t stream) {
  ms_deformable_im2col_cuda<T>(stream, static_cast<const T*>(a.value), static_cast<const int64_t*>(a.spatial_shapes),
                               static_cast<const int64_t*>(a.level_starts), static_cast<const T*>(a.locations),
                               static_cast<const T*>(a.weights), a.batch, a.tokens, a.heads, a.channels, a.levels,
                               a.queries, a.points, static_cast<T*>(a.output));
  return cudaPeekAtLastError();
}

}  // namespace

PEER_LAUNCH(const PeerAttention* a, cudaStream_t stream) {
  switch (a->type) {
    case PEER_FLOAT32:
      return launch<float>(*a, stream);
    case PEER_FLOAT16:
      return launch<Rounded>(*a, stream);
    default:
      return PEER_UNSUPPORTED;
  }
}
