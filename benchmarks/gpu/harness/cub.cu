// Top-k by NVIDIA's CUB: a sort of one image, a segmented sort of a batch, and the top-k of CCCL 3.2 and newer.
// The CUB is that of the compiler, unless an include path puts a newer one before it.
#include <cub/device/device_radix_sort.cuh>
#include <cub/device/device_segmented_radix_sort.cuh>
#if __has_include(<cub/device/device_topk.cuh>)
#include <cub/device/device_topk.cuh>
#include <cuda/__execution/determinism.h>
#include <cuda/__execution/output_ordering.h>
#include <cuda/__execution/require.h>
#include <cuda/stream_ref>
#define PEER_HAS_TOPK 1
#else
#define PEER_HAS_TOPK 0
#endif

#include "peer_call.h"

namespace {

// Both sorts are stable: of equal scores the lower positions come first, as in our op.
cudaError_t sort(const PeerSelection& a, void* workspace, size_t& bytes, bool segmented, cudaStream_t stream) {
  const auto* scores = static_cast<const float*>(a.scores);
  const auto* positions = static_cast<const int32_t*>(a.positions);
  const auto* boundaries = static_cast<const int32_t*>(a.boundaries);
  auto* kept_scores = static_cast<float*>(a.kept_scores);
  auto* kept_positions = static_cast<int32_t*>(a.kept_positions);
  constexpr int kBits = 8 * sizeof(float);
  if (segmented)
    return cub::DeviceSegmentedRadixSort::SortPairsDescending(workspace, bytes, scores, kept_scores, positions,
                                                              kept_positions, a.batch * a.tokens, a.batch, boundaries,
                                                              boundaries + 1, 0, kBits, stream);
  return cub::DeviceRadixSort::SortPairsDescending(workspace, bytes, scores, kept_scores, positions, kept_positions,
                                                   a.tokens, 0, kBits, stream);
}

#if PEER_HAS_TOPK
// In no order, and of equal scores at the threshold any: less than our op promises.
cudaError_t topk(const PeerSelection& a, void* workspace, size_t& bytes, cudaStream_t stream) {
  const auto requirements =
      cuda::execution::require(cuda::execution::determinism::not_guaranteed, cuda::execution::output_ordering::unsorted);
  const auto environment = cuda::std::execution::env{cuda::stream_ref{stream}, requirements};
  return cub::DeviceTopK::MaxPairs(workspace, bytes, static_cast<const float*>(a.scores),
                                   static_cast<float*>(a.kept_scores), static_cast<const int32_t*>(a.positions),
                                   static_cast<int32_t*>(a.kept_positions), a.tokens, a.keep, environment);
}
#endif

}  // namespace

PEER_LAUNCH(PeerSelection* a, cudaStream_t stream) {
  auto bytes = static_cast<size_t>(a->workspace_bytes);
  cudaError_t status;
  if (a->method == PEER_SEGMENTED_SORT) {
    status = sort(*a, a->workspace, bytes, true, stream);
  } else if (a->batch != 1) {
    return PEER_UNSUPPORTED;
  } else if (a->method == PEER_SORT) {
    status = sort(*a, a->workspace, bytes, false, stream);
  } else {
#if PEER_HAS_TOPK
    status = topk(*a, a->workspace, bytes, stream);
#else
    return PEER_UNSUPPORTED;
#endif
  }
  if (!a->workspace) a->workspace_bytes = static_cast<int64_t>(bytes);
  return status;
}
