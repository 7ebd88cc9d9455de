// Types and dimensions of tensors as the build and the run describe them.
#pragma once

#include <NvInferRuntime.h>

#include <optional>

#include "../kernels/types.h"

namespace sparse_detr {

constexpr int64_t kUnknown = -1;  // a dimension that only the run knows

inline std::optional<SparseDetrType> float_type(nvinfer1::DataType type) {
  switch (type) {
    case nvinfer1::DataType::kFLOAT:
      return SPARSE_DETR_FLOAT32;
    case nvinfer1::DataType::kHALF:
      return SPARSE_DETR_FLOAT16;
    case nvinfer1::DataType::kBF16:
      return SPARSE_DETR_BFLOAT16;
    default:
      return std::nullopt;
  }
}

inline bool is_linear(const nvinfer1::PluginTensorDesc& tensor, nvinfer1::DataType type) {
  return tensor.format == nvinfer1::TensorFormat::kLINEAR && tensor.type == type;
}

inline nvinfer1::Dims known_dims(const nvinfer1::DimsExprs& expressions) {
  nvinfer1::Dims dims{};
  dims.nbDims = expressions.nbDims;
  for (int32_t i = 0; i < dims.nbDims; ++i)
    dims.d[i] = expressions.d[i]->isConstant() ? expressions.d[i]->getConstantValue() : kUnknown;
  return dims;
}

// Whether two dimensions can be the same.
inline bool agree(int64_t a, int64_t b) { return a == kUnknown || b == kUnknown || a == b; }
inline bool agree_or_one(int64_t a, int64_t b) { return a == 1 || agree(a, b); }
inline bool within(int64_t a, int64_t least, int64_t most) { return a == kUnknown || (least <= a && a <= most); }

}  // namespace sparse_detr
