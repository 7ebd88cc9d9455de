// sparse_detr::SelectTokens for TensorRT.
//
// Inputs: scores, num_keep (int64). How many indices come out is known in one of two ways:
// - The attribute `max_keep`: fixed at build. num_keep is an ordinary input that may differ between images.
// - num_keep [1] marked as shape input (`tensorrt_plugin_shape_input_indices` = [1]): chosen at each run. Its value
//   reaches a plugin only through the dimension of the output, so all images keep as many.
#pragma once

#include "plugin.h"

namespace sparse_detr {

struct SelectTokensAttributes {
  static constexpr const char* kShapeInputs = "tensorrt_plugin_shape_input_indices";

  std::vector<int64_t> max_keep;      // one number, or empty
  std::vector<int64_t> shape_inputs;  // {1}, or empty

  static void declare(FieldList& names) {
    names.declare("max_keep");
    names.declare(kShapeInputs);
  }
  void read(const Fields& fields);
  void write(FieldList& fields) const;
  std::string text() const;
  bool is_fixed() const { return !max_keep.empty(); }
};

class SelectTokensPlugin final : public Plugin<SelectTokensPlugin, SelectTokensAttributes> {
 public:
  static constexpr const char* kName = "SelectTokens";
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

 private:
  const char* wrong_count(int32_t inputs, int32_t outputs) const;
};

using SelectTokensCreator = Creator<SelectTokensPlugin>;

}  // namespace sparse_detr
