#include "select_tokens.cuh"

namespace sparse_detr {
namespace {

const char* find_fault(const SparseDetrSelectTokens& a) {
  if (a.type < SPARSE_DETR_FLOAT32 || a.type > SPARSE_DETR_BFLOAT16) return "type must be float32, float16 or bfloat16";
  if (a.batch < 0) return "batch must not be negative";
  if (a.tokens < 1 || a.tokens > SPARSE_DETR_MAX_TOKENS) return "there must be 1..2^20 tokens";
  if (a.width < 1 || a.width > SPARSE_DETR_MAX_TOKENS) return "1..2^20 tokens must be kept";
  if (a.num_keep && a.counts != a.batch && a.counts != 1) return "num_keep must have one element for each image, or 1";
  return nullptr;
}

template <typename T, int Cached>
cudaError_t launch(const SparseDetrSelectTokens& a, cudaStream_t stream) {
  void* arguments[] = {const_cast<SparseDetrSelectTokens*>(&a)};
  return cudaLaunchKernel(reinterpret_cast<const void*>(&select_tokens_kernel<T, Cached>),
                          dim3(static_cast<unsigned>(a.batch)), dim3(kSelectThreads), arguments, 0, stream);
}

template <typename T>
cudaError_t launch_type(const SparseDetrSelectTokens& a, cudaStream_t stream) {
  return with_cache(a.tokens, [&](auto cached) { return launch<T, decltype(cached)::value>(a, stream); });
}

}  // namespace
}  // namespace sparse_detr

extern "C" const char* sparse_detr_check_select_tokens(const SparseDetrSelectTokens* arguments) {
  return sparse_detr::find_fault(*arguments);
}

extern "C" cudaError_t sparse_detr_launch_select_tokens(const SparseDetrSelectTokens* arguments, cudaStream_t stream) {
  const SparseDetrSelectTokens& a = *arguments;
  if (sparse_detr::find_fault(a)) return cudaErrorInvalidValue;
  if (a.batch == 0) return cudaSuccess;
  switch (a.type) {
    case SPARSE_DETR_FLOAT32:
      return sparse_detr::launch_type<float>(a, stream);
    case SPARSE_DETR_FLOAT16:
      return sparse_detr::launch_type<__half>(a, stream);
    default:
      return sparse_detr::launch_type<__nv_bfloat16>(a, stream);
  }
}
