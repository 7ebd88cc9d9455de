#include "select_tokens_plugin.h"

#include <stdexcept>

#include "../kernels/select_tokens.h"
#include "tensors.h"

namespace sparse_detr {
namespace {

using nvinfer1::DataType;
using nvinfer1::Dims;

enum Input { kScores, kNumKeep };
constexpr const char* kName = SelectTokensPlugin::kName;

// Why these shapes cannot run, unknown dimensions apart; NULL if they can.
const char* find_fault(const Dims& scores, const Dims* num_keep) {
  if (scores.nbDims != 2) return "scores must be [batch, tokens]";
  if (!within(scores.d[1], 1, SPARSE_DETR_MAX_TOKENS)) return "there must be 1 to 2^20 tokens";
  if (!num_keep) return nullptr;
  if (num_keep->nbDims != 1 || !agree_or_one(num_keep->d[0], scores.d[0])) return "num_keep must be [batch] or [1]";
  return nullptr;
}

SparseDetrSelectTokens arguments_of(const nvinfer1::PluginTensorDesc* inputs, const nvinfer1::PluginTensorDesc* outputs,
                                    bool has_counts) {
  const auto narrow = [](int64_t size) {
    if (size < 0 || size > INT32_MAX) throw std::invalid_argument("a dimension is not known or too large");
    return static_cast<int32_t>(size);
  };
  SparseDetrSelectTokens a{};
  a.batch = narrow(inputs[kScores].dims.d[0]);
  a.tokens = narrow(inputs[kScores].dims.d[1]);
  a.width = narrow(outputs[0].dims.d[1]);
  a.counts = has_counts ? narrow(inputs[kNumKeep].dims.d[0]) : 1;
  a.type = float_type(inputs[kScores].type).value();
  return a;
}

}  // namespace

void SelectTokensAttributes::read(const Fields& fields) {
  max_keep = fields.integers("max_keep");
  shape_inputs = fields.integers(kShapeInputs);
  if (is_fixed() && (max_keep.size() != 1 || max_keep[0] < 1 || max_keep[0] > SPARSE_DETR_MAX_TOKENS))
    throw std::invalid_argument("max_keep must be one number, 1..2^20");
  if (shape_inputs == std::vector<int64_t>{-1}) shape_inputs = {kNumKeep};  // counted from the end
  if (!shape_inputs.empty() && shape_inputs != std::vector<int64_t>{kNumKeep})
    throw std::invalid_argument("only input 1, num_keep, can be a shape input");
  if (is_fixed() == !shape_inputs.empty())
    throw std::invalid_argument(
        "how many tokens to keep must be known: either the attribute max_keep, or num_keep as shape input "
        "(tensorrt_plugin_shape_input_indices = [1])");
}

void SelectTokensAttributes::write(FieldList& fields) const {
  if (is_fixed()) fields.add("max_keep", max_keep.data(), max_keep.size());
  if (!shape_inputs.empty()) fields.add(kShapeInputs, shape_inputs.data(), shape_inputs.size());
}

std::string SelectTokensAttributes::text() const {
  return is_fixed() ? " max_keep " + std::to_string(max_keep[0]) : " max_keep at run time";
}

// TensorRT's parser keeps shape inputs apart from the ordinary ones. Should a version count them among the inputs of a
// run, that is taken too: the value is never read there.
const char* SelectTokensPlugin::wrong_count(int32_t inputs, int32_t outputs) const {
  if (outputs == 1 && (inputs == 2 || (inputs == 1 && !attributes_.is_fixed()))) return nullptr;
  return attributes_.is_fixed() ? "with max_keep, scores and num_keep must be ordinary inputs, and 1 output"
                                : "scores must be the only ordinary input, num_keep the shape input, and 1 output";
}

int32_t SelectTokensPlugin::getOutputDataTypes(DataType* outputs, int32_t output_count, const DataType* inputs,
                                               int32_t input_count) const noexcept {
  if (const char* why = wrong_count(input_count, output_count)) return fail(kName, why);
  if (!float_type(inputs[kScores])) return fail(kName, "scores must be float32, float16 or bfloat16");
  outputs[0] = DataType::kINT64;
  return kSuccess;
}

int32_t SelectTokensPlugin::getOutputShapes(const nvinfer1::DimsExprs* inputs, int32_t input_count,
                                            const nvinfer1::DimsExprs* shapes, int32_t shape_count,
                                            nvinfer1::DimsExprs* outputs, int32_t output_count,
                                            nvinfer1::IExprBuilder& builder) noexcept {
  return guarded(kName, kFailure, [&] {
    if (const char* why = wrong_count(input_count, output_count)) return fail(kName, why);
    if (shape_count != (attributes_.is_fixed() ? 0 : 1))
      return fail(kName, "num_keep must be a shape input where max_keep is not given, and only there");
    const Dims scores = known_dims(inputs[kScores]);
    const Dims num_keep = attributes_.is_fixed() ? known_dims(inputs[kNumKeep]) : Dims{};
    if (const char* why = find_fault(scores, attributes_.is_fixed() ? &num_keep : nullptr)) return fail(kName, why);
    if (attributes_.is_fixed() && !within(scores.d[1], attributes_.max_keep[0], SPARSE_DETR_MAX_TOKENS))
      return fail(kName, "max_keep is more than there are tokens");
    // the values of a shape input come as if they were dimensions
    if (!attributes_.is_fixed() && shapes[0].nbDims != 1)
      return fail(kName, "num_keep as shape input must have one element: all images keep as many");
    outputs[0].nbDims = 2;
    outputs[0].d[0] = inputs[kScores].d[0];
    outputs[0].d[1] = attributes_.is_fixed() ? builder.constant(attributes_.max_keep[0]) : shapes[0].d[0];
    return kSuccess;
  });
}

bool SelectTokensPlugin::supportsFormatCombination(int32_t position, const nvinfer1::DynamicPluginTensorDesc* tensors,
                                                   int32_t input_count, int32_t output_count) noexcept {
  if (const char* why = wrong_count(input_count, output_count)) return fail(kName, why), false;
  const nvinfer1::PluginTensorDesc& tensor = tensors[position].desc;
  if (position == kScores) return float_type(tensor.type) && is_linear(tensor, tensor.type);
  return is_linear(tensor, DataType::kINT64);
}

int32_t SelectTokensPlugin::configurePlugin(const nvinfer1::DynamicPluginTensorDesc* inputs, int32_t input_count,
                                            const nvinfer1::DynamicPluginTensorDesc*, int32_t output_count) noexcept {
  if (const char* why = wrong_count(input_count, output_count)) return fail(kName, why);
  const auto check = [&](const Dims& scores, const Dims& num_keep) {
    return find_fault(scores, attributes_.is_fixed() ? &num_keep : nullptr);
  };
  const nvinfer1::DynamicPluginTensorDesc &scores = inputs[kScores], &num_keep = inputs[input_count - 1];
  const char* why = check(scores.desc.dims, num_keep.desc.dims);
  if (!why) why = check(scores.min, num_keep.min);
  if (!why) why = check(scores.max, num_keep.max);
  return why ? fail(kName, why) : kSuccess;
}

int32_t SelectTokensPlugin::onShapeChange(const nvinfer1::PluginTensorDesc* inputs, int32_t input_count,
                                          const nvinfer1::PluginTensorDesc* outputs, int32_t output_count) noexcept {
  return guarded(kName, kFailure, [&] {
    if (const char* why = wrong_count(input_count, output_count)) return fail(kName, why);
    const Dims* num_keep = attributes_.is_fixed() ? &inputs[kNumKeep].dims : nullptr;
    if (const char* why = find_fault(inputs[kScores].dims, num_keep)) return fail(kName, why);
    const SparseDetrSelectTokens arguments = arguments_of(inputs, outputs, attributes_.is_fixed());
    if (const char* why = sparse_detr_check_select_tokens(&arguments)) return fail(kName, why);
    return kSuccess;
  });
}

int32_t SelectTokensPlugin::enqueue(const nvinfer1::PluginTensorDesc* input_tensors,
                                    const nvinfer1::PluginTensorDesc* output_tensors, const void* const* inputs,
                                    void* const* outputs, void*, cudaStream_t stream) noexcept {
  return guarded(kName, kFailure, [&] {
    SparseDetrSelectTokens a = arguments_of(input_tensors, output_tensors, attributes_.is_fixed());
    a.scores = inputs[kScores];
    if (attributes_.is_fixed()) a.num_keep = static_cast<const int64_t*>(inputs[kNumKeep]);
    a.indices = static_cast<int64_t*>(outputs[0]);
    const cudaError_t status = sparse_detr_launch_select_tokens(&a, stream);
    return status == cudaSuccess ? kSuccess : fail(kName, cudaGetErrorString(status));
  });
}

}  // namespace sparse_detr
