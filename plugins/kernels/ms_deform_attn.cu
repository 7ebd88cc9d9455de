#include "ms_deform_attn.cuh"

namespace sparse_detr {
namespace {

const char* find_fault(const SparseDetrMSDeformAttn& a) {
  if (a.type < SPARSE_DETR_FLOAT32 || a.type > SPARSE_DETR_BFLOAT16) return "type must be float32, float16 or bfloat16";
  if (a.reference_type != a.type && a.reference_type != SPARSE_DETR_FLOAT32)
    return "reference_points must have the type of value, or float32";
  if (a.batch < 0 || a.batch > 65535 || a.queries < 0) return "batch must be 0..65535, queries not negative";
  if (a.heads < 1 || a.heads > 65535) return "there must be 1..65535 heads";
  if (a.channels < 8 || a.channels > 64 || a.channels % 8 != 0) return "channels of a head must be 8, 16, .. 64";
  if (a.levels < 1 || a.levels > kMaxLevels) return "there must be 1..8 levels";
  if (a.points < 1 || a.points > kMaxPoints) return "there must be 1..8 points";
  if (a.reference_batch != a.batch && a.reference_batch != 1)
    return "reference_points must have the batch of value, or 1";
  if (a.reference_levels != a.levels && a.reference_levels != 1)
    return "reference_points must have one entry for each level, or 1";
  if (a.reference_size != 2 && a.reference_size != 4) return "reference_points must hold 2 or 4 numbers";
  if (a.tokens < 1) return "value must have tokens";
  if (static_cast<int64_t>(a.tokens) * a.heads * a.channels > INT32_MAX)
    return "value must have less than 2^31 elements in an image";
  if (a.split < 0 || a.split > 2) return "split must be 0, 1 or 2";
  return nullptr;
}

template <typename T, int Lanes, int Split>
cudaError_t launch(const SparseDetrMSDeformAttn& a, cudaStream_t stream) {
  using Shape = AttentionShape<T, Lanes, Split>;
  const auto tiles = static_cast<unsigned>((static_cast<int64_t>(a.queries) + Shape::kTeams - 1) / Shape::kTeams);
  const dim3 grid(tiles, static_cast<unsigned>(a.heads), static_cast<unsigned>(a.batch));
  void* arguments[] = {const_cast<SparseDetrMSDeformAttn*>(&a)};
  return cudaLaunchKernel(reinterpret_cast<const void*>(&ms_deform_attn_kernel<T, Lanes, Split>), grid,
                          dim3(Shape::kThreads), arguments, 0, stream);
}

template <typename T>
cudaError_t launch_type(const SparseDetrMSDeformAttn& a, cudaStream_t stream) {
  return with_lanes<T>(a.channels, [&](auto lanes) {
    constexpr int kLanes = decltype(lanes)::value;
    bool split = a.split == 2;
    if (a.split == 0) {
      int device = 0, processors = 0;
      cudaError_t status = cudaGetDevice(&device);
      if (status == cudaSuccess) status = cudaDeviceGetAttribute(&processors, cudaDevAttrMultiProcessorCount, device);
      if (status != cudaSuccess) return status;
      // Under one block of 256 threads a multiprocessor, too few loads are in flight. To be tuned on a GPU.
      split = static_cast<int64_t>(a.batch) * a.queries * a.heads * kLanes < static_cast<int64_t>(processors) * 256;
    }
    return split ? launch<T, kLanes, kSharedOut<kLanes>>(a, stream) : launch<T, kLanes, 1>(a, stream);
  });
}

}  // namespace
}  // namespace sparse_detr

extern "C" const char* sparse_detr_check_ms_deform_attn(const SparseDetrMSDeformAttn* arguments) {
  return sparse_detr::find_fault(*arguments);
}

extern "C" cudaError_t sparse_detr_launch_ms_deform_attn(const SparseDetrMSDeformAttn* arguments, cudaStream_t stream) {
  const SparseDetrMSDeformAttn& a = *arguments;
  if (sparse_detr::find_fault(a)) return cudaErrorInvalidValue;
  if (a.batch == 0 || a.queries == 0) return cudaSuccess;
  switch (a.type) {
    case SPARSE_DETR_FLOAT32:
      return sparse_detr::launch_type<float>(a, stream);
    case SPARSE_DETR_FLOAT16:
      return sparse_detr::launch_type<__half>(a, stream);
    default:
      return sparse_detr::launch_type<__nv_bfloat16>(a, stream);
  }
}
