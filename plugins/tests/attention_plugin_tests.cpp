// The plugin class of MSDeformAttn: shapes, types, formats and refusals.
#include "check.h"
#include "mock_expressions.h"
#include "plugin_tests.h"

namespace plugin_tests {
namespace {

using library::create;
using library::Plugin;
using library::supports;
using library::tensor;

constexpr int64_t kUnknown = mock::kUnknown;

std::vector<nvinfer1::PluginTensorDesc> attention_tensors(DataType type, DataType reference, int64_t queries = 300) {
  return {tensor(type, {2, 21, 8, 32}),          tensor(kI64, {2, 2}),
          tensor(reference, {2, queries, 2, 4}), tensor(type, {2, queries, 8, 2, 4, 2}),
          tensor(type, {2, queries, 8, 8}),      tensor(type, {2, queries, 256})};
}

void test_attention_shapes(const Creators& c, const library::Logger& logger) {
  const Plugin plugin = create(c.attention, {});
  mock::Builder builder;
  const auto shape = [&](const Plugin& of, std::initializer_list<int64_t> value, std::initializer_list<int64_t> shapes,
                         std::initializer_list<int64_t> reference, std::initializer_list<int64_t> offsets,
                         std::initializer_list<int64_t> logits, int32_t shape_inputs = 0) -> std::string {
    const nvinfer1::DimsExprs inputs[] = {builder.dims("v", value), builder.dims("s", shapes),
                                          builder.dims("r", reference), builder.dims("o", offsets),
                                          builder.dims("l", logits)};
    nvinfer1::DimsExprs output{};
    logger.clear();
    if (of.build->getOutputShapes(inputs, 5, inputs + 1, shape_inputs, &output, 1, builder) != 0) {
      CHECK(logger.last_error().find("sparse_detr::MSDeformAttn: ") == 0);
      return "refused";
    }
    return mock::text(output);
  };
  const int64_t u = kUnknown;
  CHECK_EQUAL(shape(plugin, {2, 21, 8, 32}, {2, 2}, {2, 300, 2, 4}, {2, 300, 8, 2, 4, 2}, {2, 300, 8, 8}), "2,300,256");
  CHECK_EQUAL(shape(plugin, {u, u, 8, 32}, {2, 2}, {u, u, 2, 2}, {u, u, 8, 2, 4, 2}, {u, u, 8, 8}), "v0,o1,256");
  CHECK_EQUAL(shape(plugin, {2, 9, 3, 8}, {1, 2}, {1, 7, 1, 2}, {2, 7, 3, 1, 8, 2}, {2, 7, 3, 8}), "2,7,24");
  // channels of 8..64, multiples of 8
  for (int64_t channels : {4, 12, 72, 0})
    CHECK_EQUAL(shape(plugin, {2, 9, 3, channels}, {1, 2}, {1, 7, 1, 2}, {2, 7, 3, 1, 8, 2}, {2, 7, 3, 8}), "refused");
  CHECK_EQUAL(shape(plugin, {2, 9, 3, u}, {1, 2}, {1, 7, 1, 2}, {2, 7, 3, 1, 8, 2}, {2, 7, 3, 8}), "refused");
  // too many levels, too many points
  CHECK_EQUAL(shape(plugin, {2, 9, 3, 8}, {9, 2}, {1, 7, 1, 2}, {2, 7, 3, 9, 1, 2}, {2, 7, 3, 9}), "refused");
  CHECK_EQUAL(shape(plugin, {2, 9, 3, 8}, {1, 2}, {1, 7, 1, 2}, {2, 7, 3, 1, 9, 2}, {2, 7, 3, 9}), "refused");
  // ranks and dimensions that do not fit each other
  CHECK_EQUAL(shape(plugin, {2, 9, 24}, {1, 2}, {1, 7, 1, 2}, {2, 7, 3, 1, 8, 2}, {2, 7, 3, 8}), "refused");
  CHECK_EQUAL(shape(plugin, {2, 9, 3, 8}, {1, 3}, {1, 7, 1, 2}, {2, 7, 3, 1, 8, 2}, {2, 7, 3, 8}), "refused");
  CHECK_EQUAL(shape(plugin, {2, 9, 3, 8}, {2, 2}, {1, 7, 1, 2}, {2, 7, 3, 1, 8, 2}, {2, 7, 3, 8}), "refused");
  CHECK_EQUAL(shape(plugin, {2, 9, 3, 8}, {1, 2}, {1, 7, 1, 3}, {2, 7, 3, 1, 8, 2}, {2, 7, 3, 8}), "refused");
  CHECK_EQUAL(shape(plugin, {2, 9, 3, 8}, {1, 2}, {3, 7, 1, 2}, {2, 7, 3, 1, 8, 2}, {2, 7, 3, 8}), "refused");
  CHECK_EQUAL(shape(plugin, {2, 9, 3, 8}, {1, 2}, {1, 6, 1, 2}, {2, 7, 3, 1, 8, 2}, {2, 7, 3, 8}), "refused");
  CHECK_EQUAL(shape(plugin, {2, 9, 3, 8}, {1, 2}, {1, 7, 1, 2}, {2, 7, 4, 1, 8, 2}, {2, 7, 4, 8}), "refused");
  CHECK_EQUAL(shape(plugin, {2, 9, 3, 8}, {1, 2}, {1, 7, 1, 2}, {2, 7, 3, 1, 8, 2}, {2, 7, 3, 7}), "refused");
  CHECK_EQUAL(shape(plugin, {2, 9, 3, 8}, {1, 2}, {1, 7, 1, 2}, {2, 7, 3, 1, 8, 2}, {2, 7, 3, 8}, 1), "refused");
  CHECK_EQUAL(shape(plugin, {2, 1 << 24, 8, 32}, {1, 2}, {1, 7, 1, 2}, {2, 7, 8, 1, 8, 2}, {2, 7, 8, 8}), "refused");
  // the shapes as attribute must fit the tokens
  const Plugin fixed = create(c.attention, {{"level_shapes", {3, 3}}});
  CHECK_EQUAL(shape(fixed, {2, 9, 3, 8}, {1, 2}, {1, 7, 1, 2}, {2, 7, 3, 1, 8, 2}, {2, 7, 3, 8}), "2,7,24");
  CHECK_EQUAL(shape(fixed, {2, 8, 3, 8}, {1, 2}, {1, 7, 1, 2}, {2, 7, 3, 1, 8, 2}, {2, 7, 3, 8}), "refused");
  CHECK_EQUAL(shape(fixed, {2, 9, 3, 8}, {2, 2}, {1, 7, 1, 2}, {2, 7, 3, 2, 4, 2}, {2, 7, 3, 8}), "refused");
  nvinfer1::DimsExprs output{};
  CHECK(plugin.build->getOutputShapes(&output, 1, nullptr, 0, &output, 1, builder) != 0);
}

// From shapes that fit, one dimension more, or one larger: every one of them is looked at.
void test_attention_fits(const Creators& c) {
  const Plugin plugin = create(c.attention, {});
  mock::Builder builder;
  const std::vector<std::vector<int64_t>> good = {
      {2, 21, 8, 32}, {2, 2}, {2, 300, 2, 4}, {2, 300, 8, 2, 4, 2}, {2, 300, 8, 8}};
  const auto fits = [&](const std::vector<std::vector<int64_t>>& shapes) {
    std::vector<nvinfer1::DimsExprs> inputs;
    for (const auto& shape : shapes) {
      nvinfer1::DimsExprs dims{};
      for (int64_t size : shape) dims.d[dims.nbDims++] = size == kUnknown ? builder.named("x") : builder.number(size);
      inputs.push_back(dims);
    }
    nvinfer1::DimsExprs output{};
    return plugin.build->getOutputShapes(inputs.data(), 5, nullptr, 0, &output, 1, builder) == 0;
  };
  CHECK(fits(good));
  for (size_t input = 0; input < good.size(); ++input) {
    auto changed = good;
    changed[input].push_back(1);
    CHECK(!fits(changed));
    for (size_t axis = 0; axis < good[input].size(); ++axis) {
      changed = good;
      ++changed[input][axis];
      const bool tokens = input == 0 && axis == 1;  // how many there are is only known with the attribute
      CHECK(fits(changed) == tokens);
    }
  }
  CHECK(!fits({{2, 21, 8, 32}, {0, 2}, {2, 300, 1, 4}, {2, 300, 8, 0, 4, 2}, {2, 300, 8, 0}}));
  CHECK(!fits({{2, 21, 8, 32}, {2, 2}, {2, 300, 2, 4}, {2, 300, 8, 2, 0, 2}, {2, 300, 8, 0}}));
  const int64_t u = kUnknown;
  CHECK(!fits({{2, 21, u, 32}, {2, 2}, {2, 300, 2, 4}, {2, 300, u, 2, 4, 2}, {2, 300, u, 8}}));
  CHECK(!fits({{2, 21, 8, 32}, {2, 2}, {2, 300, 2, 4}, {2, 300, 8, 2, u, 2}, {2, 300, 8, u}}));
}

void test_attention_types(const Creators& c) {
  const Plugin plugin = create(c.attention, {});
  for (DataType type : {kF32, kF16, kBF16}) {
    CHECK(supports(plugin, attention_tensors(type, type)));
    CHECK(supports(plugin, attention_tensors(type, kF32)));
    const DataType inputs[5] = {type, kI64, kF32, type, type};
    DataType output = kI64;
    CHECK_EQUAL(plugin.build->getOutputDataTypes(&output, 1, inputs, 5), 0);
    CHECK(output == type);
    for (size_t position = 0; position < 6; ++position) {
      auto tensors = attention_tensors(type, type);
      tensors[position].format = nvinfer1::TensorFormat::kHWC8;
      CHECK(!supports(plugin, tensors));
      tensors = attention_tensors(type, type);
      tensors[position].type = position == 1 ? DataType::kINT32 : DataType::kINT8;
      CHECK(!supports(plugin, tensors));
      tensors = attention_tensors(type, type);
      tensors[position].type = type == kF16 ? kBF16 : kF16;
      CHECK(!supports(plugin, tensors));
    }
  }
  CHECK(!supports(plugin, attention_tensors(kF32, kF16)));
  const DataType wrong[5] = {DataType::kINT8, kI64, kF32, kF32, kF32};
  DataType output = kI64;
  CHECK(plugin.build->getOutputDataTypes(&output, 1, wrong, 5) != 0);
  CHECK(plugin.build->getOutputDataTypes(&output, 1, wrong, 4) != 0);
  const DataType right[5] = {kF32, kI64, kF32, kF32, kF32};
  CHECK(plugin.build->getOutputDataTypes(&output, 2, right, 5) != 0);
}

void test_attention_run(const Creators& c) {
  const Plugin plugin = create(c.attention, {});
  const auto change = [&](const std::vector<nvinfer1::PluginTensorDesc>& t) {
    return plugin.runtime->onShapeChange(t.data(), 5, &t[5], 1);
  };
  for (int64_t queries : {0, 1, 1783, 5347}) CHECK_EQUAL(change(attention_tensors(kF16, kF32, queries)), 0);
  auto tensors = attention_tensors(kF16, kF16);
  tensors[0].dims.d[1] = int64_t{1} << 33;
  CHECK(change(tensors) != 0);
  tensors[0].dims.d[1] = kUnknown;
  CHECK(change(tensors) != 0);
  tensors = attention_tensors(kF16, kF16);
  tensors[4].dims.d[1] = 299;
  CHECK(change(tensors) != 0);
  tensors = attention_tensors(kF16, kF16);
  tensors[0].type = DataType::kINT8;
  CHECK(change(tensors) != 0);
  std::vector<nvinfer1::DynamicPluginTensorDesc> dynamic(6);
  tensors = attention_tensors(kF16, kF16);
  for (size_t i = 0; i < 6; ++i) dynamic[i] = {tensors[i], tensors[i].dims, tensors[i].dims, tensors[i].dims};
  CHECK_EQUAL(plugin.build->configurePlugin(dynamic.data(), 5, &dynamic[5], 1), 0);
  CHECK_EQUAL(plugin.build->getWorkspaceSize(dynamic.data(), 5, &dynamic[5], 1), size_t{0});
  CHECK(plugin.build->configurePlugin(dynamic.data(), 4, &dynamic[4], 1) != 0);
  // each of the three shapes that TensorRT tells is looked at, of every input
  for (size_t input = 0; input < 5; ++input) {
    const int32_t last = dynamic[input].min.nbDims - 1;
    auto changed = dynamic;
    changed[input].desc.dims.d[last] += 1;
    CHECK(plugin.build->configurePlugin(changed.data(), 5, &changed[5], 1) != 0);
    changed = dynamic;
    changed[input].min.d[last] += 1;
    CHECK(plugin.build->configurePlugin(changed.data(), 5, &changed[5], 1) != 0);
    changed = dynamic;
    changed[input].max.d[last] += 1;
    CHECK(plugin.build->configurePlugin(changed.data(), 5, &changed[5], 1) != 0);
  }
}

}  // namespace

void test_attention(const Creators& creators, const library::Logger& logger) {
  test_attention_shapes(creators, logger);
  test_attention_fits(creators);
  test_attention_types(creators);
  test_attention_run(creators);
}

}  // namespace plugin_tests
