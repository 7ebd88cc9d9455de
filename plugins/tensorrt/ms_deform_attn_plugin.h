// sparse_detr::MSDeformAttn for TensorRT.
//
// Inputs: value, spatial_shapes (int64), reference_points, sampling_offsets, attention_logits. One floating-point type
// for all; the reference points may stay float32 beside a 16-bit type. spatial_shapes is an ordinary input: TensorRT
// gives a plugin only expressions of shape inputs, at build, and never their values at the run. Where the shapes are
// known beforehand the attribute `level_shapes` (height, width of each level) hands them to the kernel as parameters
// and the input is not read.
#pragma once

#include "plugin.h"

namespace sparse_detr {

struct MSDeformAttnAttributes {
  std::vector<int64_t> level_shapes;  // empty: read from the input at each run

  static void declare(FieldList& names) { names.declare("level_shapes"); }
  void read(const Fields& fields);
  void write(FieldList& fields) const;
  std::string text() const;
};

class MSDeformAttnPlugin final : public Plugin<MSDeformAttnPlugin, MSDeformAttnAttributes> {
 public:
  static constexpr const char* kName = "MSDeformAttn";
  static constexpr int32_t kInputs = 5;
  using Plugin::Plugin;

  int32_t getOutputDataTypes(nvinfer1::DataType* outputs, int32_t output_count, const nvinfer1::DataType* inputs,
                             int32_t input_count) const noexcept override;
  int32_t getOutputShapes(const nvinfer1::DimsExprs* inputs, int32_t input_count, const nvinfer1::DimsExprs* shapes,
                          int32_t shape_count, nvinfer1::DimsExprs* outputs, int32_t output_count,
                          nvinfer1::IExprBuilder& builder) noexcept override;
  bool supportsFormatCombination(int32_t position, const nvinfer1::DynamicPluginTensorDesc* tensors,
                                 int32_t input_count, int32_t output_count) noexcept override;
  int32_t configurePlugin(const nvinfer1::DynamicPluginTensorDesc* inputs, int32_t input_count,
                          const nvinfer1::DynamicPluginTensorDesc* outputs, int32_t output_count) noexcept override;
  int32_t onShapeChange(const nvinfer1::PluginTensorDesc* inputs, int32_t input_count,
                        const nvinfer1::PluginTensorDesc* outputs, int32_t output_count) noexcept override;
  int32_t enqueue(const nvinfer1::PluginTensorDesc* input_tensors, const nvinfer1::PluginTensorDesc* output_tensors,
                  const void* const* inputs, void* const* outputs, void* workspace,
                  cudaStream_t stream) noexcept override;
};

using MSDeformAttnCreator = Creator<MSDeformAttnPlugin>;

}  // namespace sparse_detr
