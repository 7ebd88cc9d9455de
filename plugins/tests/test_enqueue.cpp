// What the plugins hand to their kernels: every pointer, size and type, with kernels that only remember it.
//   test_enqueue LIBRARY LOGGER    LIBRARY: the plugins with recording_kernels.cpp
#include <cstring>

#include "check.h"
#include "plugin_tests.h"
#include "recording_kernels.h"

namespace {

using library::create;
using library::Plugin;
using library::tensor;
using plugin_tests::Creators;
using plugin_tests::DataType;
using plugin_tests::kBF16;
using plugin_tests::kF16;
using plugin_tests::kF32;
using plugin_tests::kI64;

// Addresses that nothing is read from; each is another.
void* address(int number) { return reinterpret_cast<void*>(static_cast<uintptr_t>(0x1000 * (number + 1))); }
const cudaStream_t kStream = reinterpret_cast<cudaStream_t>(address(99));

int32_t enqueue(const Plugin& plugin, const std::vector<nvinfer1::PluginTensorDesc>& in,
                const nvinfer1::PluginTensorDesc& out) {
  std::vector<const void*> inputs;
  for (size_t i = 0; i < in.size(); ++i) inputs.push_back(address(static_cast<int>(i)));
  void* outputs[] = {address(50)};
  return plugin.runtime->enqueue(in.data(), &out, inputs.data(), outputs, address(60), kStream);
}

int32_t change(const Plugin& plugin, const std::vector<nvinfer1::PluginTensorDesc>& in,
               const nvinfer1::PluginTensorDesc& out) {
  return plugin.runtime->onShapeChange(in.data(), static_cast<int32_t>(in.size()), &out, 1);
}

// Sizes of which no two that could be taken for each other are the same: 2 images, 3 heads of 16 channels, 7 queries,
// levels of 4 by 5 and 1 by 6, 8 points.
std::vector<nvinfer1::PluginTensorDesc> attention_inputs(DataType type, DataType reference, int64_t batch = 1,
                                                         int64_t levels = 1, int64_t numbers = 4) {
  return {tensor(type, {2, 26, 3, 16}), tensor(kI64, {2, 2}), tensor(reference, {batch, 7, levels, numbers}),
          tensor(type, {2, 7, 3, 2, 8, 2}), tensor(type, {2, 7, 3, 16})};
}

void check_sizes(const SparseDetrMSDeformAttn& a) {
  CHECK_EQUAL(a.batch, 2);
  CHECK_EQUAL(a.tokens, 26);
  CHECK_EQUAL(a.heads, 3);
  CHECK_EQUAL(a.channels, 16);
  CHECK_EQUAL(a.queries, 7);
  CHECK_EQUAL(a.levels, 2);
  CHECK_EQUAL(a.points, 8);
  CHECK_EQUAL(a.split, 0);
}

void test_attention(const Creators& c, Recorded& seen) {
  const Plugin from_input = create(c.attention, {}), fixed = create(c.attention, {{"level_shapes", {4, 5, 1, 6}}});
  const nvinfer1::PluginTensorDesc out = tensor(kF32, {2, 7, 48});
  seen = {};
  CHECK_EQUAL(enqueue(from_input, attention_inputs(kF32, kF32), out), 0);
  CHECK_EQUAL(seen.launches, 1);
  CHECK(seen.stream == kStream);
  SparseDetrMSDeformAttn a = seen.attention;
  CHECK(a.value == address(0));
  CHECK(static_cast<const void*>(a.spatial_shapes) == address(1));
  CHECK(a.reference_points == address(2));
  CHECK(a.sampling_offsets == address(3));
  CHECK(a.attention_logits == address(4));
  CHECK(a.output == address(50));
  check_sizes(a);
  CHECK_EQUAL(a.reference_batch, 1);
  CHECK_EQUAL(a.reference_levels, 1);
  CHECK_EQUAL(a.reference_size, 4);
  CHECK_EQUAL(enqueue(from_input, attention_inputs(kF32, kF32, 2, 2, 2), out), 0);
  CHECK_EQUAL(seen.attention.reference_batch, 2);
  CHECK_EQUAL(seen.attention.reference_levels, 2);
  CHECK_EQUAL(seen.attention.reference_size, 2);
  CHECK_EQUAL(enqueue(from_input, attention_inputs(kF32, kF32, 1, 2, 2), out), 0);
  CHECK_EQUAL(seen.attention.reference_batch, 1);
  CHECK_EQUAL(seen.attention.reference_levels, 2);
  // the shapes as attribute: the input is not read
  CHECK_EQUAL(enqueue(fixed, attention_inputs(kF32, kF32), out), 0);
  CHECK(seen.attention.spatial_shapes == nullptr);
  const int32_t shapes[16] = {4, 5, 1, 6};
  CHECK(std::memcmp(seen.attention.level_shapes, shapes, sizeof shapes) == 0);
  // types
  const std::pair<DataType, SparseDetrType> types[] = {
      {kF32, SPARSE_DETR_FLOAT32}, {kF16, SPARSE_DETR_FLOAT16}, {kBF16, SPARSE_DETR_BFLOAT16}};
  for (const auto& [type, expected] : types) {
    CHECK_EQUAL(enqueue(from_input, attention_inputs(type, kF32), out), 0);
    CHECK_EQUAL(seen.attention.type, expected);
    CHECK_EQUAL(seen.attention.reference_type, SPARSE_DETR_FLOAT32);
    CHECK_EQUAL(enqueue(from_input, attention_inputs(type, type), out), 0);
    CHECK_EQUAL(seen.attention.reference_type, expected);
  }
}

void test_selection(const Creators& c, Recorded& seen) {
  const Plugin fixed = create(c.selection, {{"max_keep", {4}}});
  const Plugin run_time = create(c.selection, {{"tensorrt_plugin_shape_input_indices", {1}}});
  seen = {};
  CHECK_EQUAL(enqueue(fixed, {tensor(kF16, {2, 9}), tensor(kI64, {1})}, tensor(kI64, {2, 4})), 0);
  SparseDetrSelectTokens a = seen.selection;
  CHECK_EQUAL(seen.launches, 1);
  CHECK(seen.stream == kStream);
  CHECK(a.scores == address(0));
  CHECK(static_cast<const void*>(a.num_keep) == address(1));
  CHECK(static_cast<void*>(a.indices) == address(50));
  CHECK_EQUAL(a.batch, 2);
  CHECK_EQUAL(a.tokens, 9);
  CHECK_EQUAL(a.width, 4);
  CHECK_EQUAL(a.counts, 1);
  CHECK_EQUAL(a.type, SPARSE_DETR_FLOAT16);
  CHECK_EQUAL(enqueue(fixed, {tensor(kBF16, {2, 9}), tensor(kI64, {2})}, tensor(kI64, {2, 4})), 0);
  CHECK_EQUAL(seen.selection.counts, 2);
  CHECK_EQUAL(seen.selection.type, SPARSE_DETR_BFLOAT16);
  // the number of the run comes as the width of the output; a value beside the scores is not read
  for (const auto& in : {std::vector{tensor(kF32, {3, 9})}, std::vector{tensor(kF32, {3, 9}), tensor(kI64, {1})}}) {
    CHECK_EQUAL(enqueue(run_time, in, tensor(kI64, {3, 6})), 0);
    a = seen.selection;
    CHECK(a.scores == address(0) && a.num_keep == nullptr);
    CHECK_EQUAL(a.batch, 3);
    CHECK_EQUAL(a.width, 6);
    CHECK_EQUAL(a.counts, 1);
    CHECK_EQUAL(a.type, SPARSE_DETR_FLOAT32);
  }
}

void test_failures(const Creators& c, Recorded& seen, const library::Logger& logger) {
  const Plugin attention = create(c.attention, {{"level_shapes", {4, 5, 1, 6}}});
  const Plugin selection = create(c.selection, {{"max_keep", {4}}});
  const std::vector<nvinfer1::PluginTensorDesc> scores = {tensor(kF32, {2, 9}), tensor(kI64, {2})};
  const nvinfer1::PluginTensorDesc out = tensor(kF32, {2, 7, 48}), indices = tensor(kI64, {2, 4});
  seen = {};
  seen.answer = cudaErrorInvalidValue;
  for (const bool first : {true, false}) {
    logger.clear();
    CHECK((first ? enqueue(attention, attention_inputs(kF32, kF32), out) : enqueue(selection, scores, indices)) != 0);
    CHECK(logger.last_error().find(first ? "sparse_detr::MSDeformAttn: " : "sparse_detr::SelectTokens: ") == 0);
  }
  // a size that is not known, or does not fit, never reaches a kernel
  seen = {};
  std::vector<nvinfer1::PluginTensorDesc> inputs = attention_inputs(kF32, kF32);
  for (int64_t size : {int64_t{-1}, int64_t{1} << 31}) {
    inputs[0].dims.d[1] = size;
    CHECK(enqueue(attention, inputs, out) != 0);
    CHECK(enqueue(selection, {tensor(kF32, {2, size}), tensor(kI64, {2})}, indices) != 0);
  }
  CHECK_EQUAL(seen.launches, 0);
  // the kernels' own check is asked when shapes change, with what they will be launched with
  CHECK_EQUAL(change(attention, attention_inputs(kF16, kF32), out), 0);
  check_sizes(seen.checked_attention);
  CHECK_EQUAL(seen.checked_attention.type, SPARSE_DETR_FLOAT16);
  CHECK_EQUAL(seen.checked_attention.level_shapes[3], 6);
  CHECK_EQUAL(change(selection, scores, indices), 0);
  CHECK_EQUAL(seen.checked_selection.tokens, 9);
  CHECK_EQUAL(seen.checked_selection.width, 4);
  seen.refusal = "not today";
  for (const bool first : {true, false}) {
    logger.clear();
    CHECK((first ? change(attention, attention_inputs(kF16, kF32), out) : change(selection, scores, indices)) != 0);
    CHECK(logger.last_error().find("not today") != std::string::npos);
  }
}

}  // namespace

int main(int count, char** values) {
  if (count != 3) return std::cerr << "usage: test_enqueue LIBRARY LOGGER\n", 2;
  void* plugins = library::open(values[1]);
  const library::Logger logger(values[2]);
  logger.attach(plugins);
  Recorded& seen = *library::symbol<RecordedGetter>(plugins, "recorded")();
  int32_t creators = 0;
  auto* all = library::symbol<nvinfer1::IPluginCreatorInterface* const*(int32_t&)>(plugins, "getCreators")(creators);
  const Creators found{library::find(all, creators, "MSDeformAttn"), library::find(all, creators, "SelectTokens")};
  if (!found.attention || !found.selection) throw std::runtime_error("a creator is missing");
  test_attention(found, seen);
  test_selection(found, seen);
  test_failures(found, seen, logger);
  library::Logger::detach(plugins);
  return check::result("enqueue", 3);
}
