#include "recording_kernels.h"

extern "C" __attribute__((visibility("default"))) Recorded* recorded() {
  static Recorded record{};
  return &record;
}

extern "C" const char* sparse_detr_check_ms_deform_attn(const SparseDetrMSDeformAttn* arguments) {
  recorded()->checked_attention = *arguments;
  return recorded()->refusal;
}

extern "C" const char* sparse_detr_check_select_tokens(const SparseDetrSelectTokens* arguments) {
  recorded()->checked_selection = *arguments;
  return recorded()->refusal;
}

extern "C" cudaError_t sparse_detr_launch_ms_deform_attn(const SparseDetrMSDeformAttn* arguments, cudaStream_t stream) {
  recorded()->attention = *arguments;
  recorded()->stream = stream;
  ++recorded()->launches;
  return recorded()->answer;
}

extern "C" cudaError_t sparse_detr_launch_select_tokens(const SparseDetrSelectTokens* arguments, cudaStream_t stream) {
  recorded()->selection = *arguments;
  recorded()->stream = stream;
  ++recorded()->launches;
  return recorded()->answer;
}

extern "C" const char* cudaGetErrorString(cudaError_t error) {
  return error == cudaSuccess ? "no error" : "the launch was refused";
}
