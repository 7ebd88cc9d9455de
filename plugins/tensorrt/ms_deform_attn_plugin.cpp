#include "ms_deform_attn_plugin.h"

#include <stdexcept>

#include "../kernels/ms_deform_attn.h"
#include "tensors.h"

namespace sparse_detr {
namespace {

using nvinfer1::DataType;
using nvinfer1::Dims;

enum Input { kValue, kSpatialShapes, kReferencePoints, kSamplingOffsets, kAttentionLogits };
constexpr const char* kName = MSDeformAttnPlugin::kName;
constexpr int32_t kInputs = MSDeformAttnPlugin::kInputs;
constexpr int64_t kMaxLevels = 8, kMaxPoints = 8, kMaxChannels = 64;

// Why these shapes cannot run, unknown dimensions apart; NULL if they can.
const char* find_fault(const Dims (&d)[kInputs], const std::vector<int64_t>& level_shapes) {
  const Dims &value = d[kValue], &shapes = d[kSpatialShapes], &reference = d[kReferencePoints];
  const Dims &offsets = d[kSamplingOffsets], &logits = d[kAttentionLogits];
  if (value.nbDims != 4) return "value must be [batch, tokens, heads, channels]";
  if (shapes.nbDims != 2 || !agree(shapes.d[1], 2)) return "spatial_shapes must be [levels, 2]";
  if (reference.nbDims != 4) return "reference_points must be [batch or 1, queries, levels or 1, 2 or 4]";
  if (offsets.nbDims != 6 || !agree(offsets.d[5], 2))
    return "sampling_offsets must be [batch, queries, heads, levels, points, 2]";
  if (logits.nbDims != 4) return "attention_logits must be [batch, queries, heads, levels * points]";
  const int64_t batch = value.d[0], heads = value.d[2], channels = value.d[3];
  const int64_t queries = offsets.d[1], levels = offsets.d[3], points = offsets.d[4];
  if (channels == kUnknown || heads == kUnknown) return "heads and channels of value must be fixed";
  if (channels < 8 || channels > kMaxChannels || channels % 8 != 0)
    return "channels of a head must be a multiple of 8, at most 64";
  if (levels == kUnknown || points == kUnknown) return "levels and points of sampling_offsets must be fixed";
  if (levels < 1 || levels > kMaxLevels) return "there must be 1 to 8 levels";
  if (points < 1 || points > kMaxPoints) return "there must be 1 to 8 points";
  if (!agree(shapes.d[0], levels)) return "spatial_shapes and sampling_offsets differ in levels";
  if (!agree(offsets.d[0], batch) || !agree(offsets.d[2], heads)) return "sampling_offsets and value differ";
  if (!agree(logits.d[0], batch) || !agree(logits.d[1], queries) || !agree(logits.d[2], heads) ||
      !agree(logits.d[3], levels * points))
    return "attention_logits and sampling_offsets differ";
  if (reference.d[3] != 2 && reference.d[3] != 4) return "reference_points must hold 2 or 4 numbers, known at build";
  if (!agree_or_one(reference.d[0], batch) || !agree(reference.d[1], queries) || !agree_or_one(reference.d[2], levels))
    return "reference_points and sampling_offsets differ";
  if (value.d[1] != kUnknown && value.d[1] * heads * channels > INT32_MAX)
    return "value must have less than 2^31 elements in an image";
  if (level_shapes.empty()) return nullptr;
  int64_t tokens = 0;
  for (size_t i = 0; i < level_shapes.size(); i += 2) tokens += level_shapes[i] * level_shapes[i + 1];
  if (static_cast<int64_t>(level_shapes.size()) != 2 * levels || !agree(value.d[1], tokens))
    return "the attribute level_shapes does not fit the tokens of value";
  return nullptr;
}

const char* wrong_count(int32_t inputs, int32_t outputs) {
  if (inputs == kInputs && outputs == 1) return nullptr;
  return "there must be 5 ordinary inputs, spatial_shapes not marked as shape input, and 1 output";
}

SparseDetrMSDeformAttn arguments_of(const nvinfer1::PluginTensorDesc* inputs, const std::vector<int64_t>& shapes) {
  const Dims &value = inputs[kValue].dims, &reference = inputs[kReferencePoints].dims;
  const Dims& offsets = inputs[kSamplingOffsets].dims;
  const auto narrow = [](int64_t size) {
    if (size < 0 || size > INT32_MAX) throw std::invalid_argument("a dimension is not known or too large");
    return static_cast<int32_t>(size);
  };
  SparseDetrMSDeformAttn a{};
  a.batch = narrow(value.d[0]);
  a.tokens = narrow(value.d[1]);
  a.heads = narrow(value.d[2]);
  a.channels = narrow(value.d[3]);
  a.queries = narrow(offsets.d[1]);
  a.levels = narrow(offsets.d[3]);
  a.points = narrow(offsets.d[4]);
  a.reference_batch = narrow(reference.d[0]);
  a.reference_levels = narrow(reference.d[2]);
  a.reference_size = narrow(reference.d[3]);
  a.type = float_type(inputs[kValue].type).value();
  a.reference_type = float_type(inputs[kReferencePoints].type).value();
  for (size_t i = 0; i < shapes.size(); ++i) a.level_shapes[i] = static_cast<int32_t>(shapes[i]);
  return a;
}

}  // namespace

void MSDeformAttnAttributes::read(const Fields& fields) {
  level_shapes = fields.integers("level_shapes");
  if (level_shapes.size() % 2 != 0 || level_shapes.size() > 2 * kMaxLevels)
    throw std::invalid_argument("level_shapes must be a height and a width for each of at most 8 levels");
  for (int64_t size : level_shapes)
    if (size < 1 || size > (1 << 20)) throw std::invalid_argument("level_shapes must lie in 1..2^20");
}

void MSDeformAttnAttributes::write(FieldList& fields) const {
  if (!level_shapes.empty()) fields.add("level_shapes", level_shapes.data(), level_shapes.size());
}

std::string MSDeformAttnAttributes::text() const {
  std::string text;
  for (int64_t size : level_shapes) text += (text.empty() ? " level_shapes " : ",") + std::to_string(size);
  return text;
}

int32_t MSDeformAttnPlugin::getOutputDataTypes(DataType* outputs, int32_t output_count, const DataType* inputs,
                                               int32_t input_count) const noexcept {
  if (const char* why = wrong_count(input_count, output_count)) return fail(kName, why);
  if (!float_type(inputs[kValue])) return fail(kName, "value must be float32, float16 or bfloat16");
  outputs[0] = inputs[kValue];
  return kSuccess;
}

int32_t MSDeformAttnPlugin::getOutputShapes(const nvinfer1::DimsExprs* inputs, int32_t input_count,
                                            const nvinfer1::DimsExprs*, int32_t shape_count,
                                            nvinfer1::DimsExprs* outputs, int32_t output_count,
                                            nvinfer1::IExprBuilder& builder) noexcept {
  return guarded(kName, kFailure, [&] {
    if (const char* why = wrong_count(input_count, output_count)) return fail(kName, why);
    if (shape_count != 0) return fail(kName, "no input may be marked as shape input");
    Dims dims[kInputs];
    for (int32_t i = 0; i < kInputs; ++i) dims[i] = known_dims(inputs[i]);
    if (const char* why = find_fault(dims, attributes_.level_shapes)) return fail(kName, why);
    outputs[0].nbDims = 3;
    outputs[0].d[0] = inputs[kValue].d[0];
    outputs[0].d[1] = inputs[kSamplingOffsets].d[1];
    outputs[0].d[2] = builder.constant(dims[kValue].d[2] * dims[kValue].d[3]);
    return kSuccess;
  });
}

bool MSDeformAttnPlugin::supportsFormatCombination(int32_t position, const nvinfer1::DynamicPluginTensorDesc* tensors,
                                                   int32_t input_count, int32_t output_count) noexcept {
  if (const char* why = wrong_count(input_count, output_count)) return fail(kName, why), false;
  const nvinfer1::PluginTensorDesc& tensor = tensors[position].desc;
  const DataType type = tensors[kValue].desc.type;
  switch (position) {
    case kValue:
      return float_type(type) && is_linear(tensor, type);
    case kSpatialShapes:
      return is_linear(tensor, DataType::kINT64);
    case kReferencePoints:
      return is_linear(tensor, type) || is_linear(tensor, DataType::kFLOAT);
    default:
      return is_linear(tensor, type);
  }
}

int32_t MSDeformAttnPlugin::configurePlugin(const nvinfer1::DynamicPluginTensorDesc* inputs, int32_t input_count,
                                            const nvinfer1::DynamicPluginTensorDesc*, int32_t output_count) noexcept {
  if (const char* why = wrong_count(input_count, output_count)) return fail(kName, why);
  Dims dims[3][kInputs];
  for (int32_t i = 0; i < kInputs; ++i) {
    dims[0][i] = inputs[i].desc.dims;
    dims[1][i] = inputs[i].min;
    dims[2][i] = inputs[i].max;
  }
  for (const auto& bounds : dims)
    if (const char* why = find_fault(bounds, attributes_.level_shapes)) return fail(kName, why);
  return kSuccess;
}

int32_t MSDeformAttnPlugin::onShapeChange(const nvinfer1::PluginTensorDesc* inputs, int32_t input_count,
                                          const nvinfer1::PluginTensorDesc*, int32_t output_count) noexcept {
  return guarded(kName, kFailure, [&] {
    if (const char* why = wrong_count(input_count, output_count)) return fail(kName, why);
    Dims dims[kInputs];
    for (int32_t i = 0; i < kInputs; ++i) dims[i] = inputs[i].dims;
    if (const char* why = find_fault(dims, attributes_.level_shapes)) return fail(kName, why);
    const SparseDetrMSDeformAttn arguments = arguments_of(inputs, attributes_.level_shapes);
    if (const char* why = sparse_detr_check_ms_deform_attn(&arguments)) return fail(kName, why);
    return kSuccess;
  });
}

int32_t MSDeformAttnPlugin::enqueue(const nvinfer1::PluginTensorDesc* input_tensors, const nvinfer1::PluginTensorDesc*,
                                    const void* const* inputs, void* const* outputs, void*,
                                    cudaStream_t stream) noexcept {
  return guarded(kName, kFailure, [&] {
    SparseDetrMSDeformAttn a = arguments_of(input_tensors, attributes_.level_shapes);
    a.value = inputs[kValue];
    if (attributes_.level_shapes.empty()) a.spatial_shapes = static_cast<const int64_t*>(inputs[kSpatialShapes]);
    a.reference_points = inputs[kReferencePoints];
    a.sampling_offsets = inputs[kSamplingOffsets];
    a.attention_logits = inputs[kAttentionLogits];
    a.output = outputs[0];
    const cudaError_t status = sparse_detr_launch_ms_deform_attn(&a, stream);
    return status == cudaSuccess ? kSuccess : fail(kName, cudaGetErrorString(status));
  });
}

}  // namespace sparse_detr
