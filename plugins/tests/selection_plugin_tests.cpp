// The plugin class of SelectTokens: shapes, types, formats and refusals.
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

void test_selection_shapes(const Creators& c, const library::Logger& logger) {
  mock::Builder builder;
  const auto shape = [&](const Plugin& of, std::initializer_list<int64_t> scores,
                         std::initializer_list<int64_t> num_keep, int32_t inputs_count,
                         std::initializer_list<int64_t> values) -> std::string {
    const nvinfer1::DimsExprs inputs[] = {builder.dims("s", scores), builder.dims("n", num_keep)};
    const nvinfer1::DimsExprs shapes = builder.dims("k", values);
    nvinfer1::DimsExprs output{};
    logger.clear();
    if (of.build->getOutputShapes(inputs, inputs_count, &shapes, values.size() ? 1 : 0, &output, 1, builder) != 0) {
      CHECK(logger.last_error().find("sparse_detr::SelectTokens: ") == 0);
      return "refused";
    }
    return mock::text(output);
  };
  const int64_t u = kUnknown;
  const Plugin fixed = create(c.selection, {{"max_keep", {5347}}});
  CHECK_EQUAL(shape(fixed, {2, 17821}, {1}, 2, {}), "2,5347");
  CHECK_EQUAL(shape(fixed, {2, 17821}, {2}, 2, {}), "2,5347");
  CHECK_EQUAL(shape(fixed, {u, u}, {u}, 2, {}), "s0,5347");
  CHECK_EQUAL(shape(fixed, {2, 17821}, {3}, 2, {}), "refused");
  CHECK_EQUAL(shape(fixed, {2, 17821}, {1, 1}, 2, {}), "refused");
  CHECK_EQUAL(shape(fixed, {2, 5346}, {1}, 2, {}), "refused");
  CHECK_EQUAL(shape(fixed, {2, (1 << 20) + 1}, {1}, 2, {}), "refused");
  CHECK_EQUAL(shape(fixed, {17821}, {1}, 2, {}), "refused");
  CHECK_EQUAL(shape(fixed, {2, 17821, 1}, {1}, 2, {}), "refused");
  CHECK_EQUAL(shape(fixed, {2, 17821}, {1}, 1, {}), "refused");
  CHECK_EQUAL(shape(fixed, {2, 17821}, {1}, 2, {u}), "refused");
  const Plugin run_time = create(c.selection, {{"tensorrt_plugin_shape_input_indices", {1}}});
  CHECK_EQUAL(shape(run_time, {u, 17821}, {1}, 1, {u}), "s0,k0");
  CHECK_EQUAL(shape(run_time, {2, u}, {1}, 2, {u}), "2,k0");
  CHECK_EQUAL(shape(run_time, {2, 100}, {1}, 1, {7}), "2,7");
  CHECK_EQUAL(shape(run_time, {2, 100}, {2}, 1, {u, u}), "refused");
  CHECK_EQUAL(shape(run_time, {2, 100}, {1}, 2, {}), "refused");
}

void test_selection_types(const Creators& c) {
  const Plugin fixed = create(c.selection, {{"max_keep", {3}}});
  const Plugin run_time = create(c.selection, {{"tensorrt_plugin_shape_input_indices", {1}}});
  for (DataType type : {kF32, kF16, kBF16}) {
    CHECK(supports(fixed, {tensor(type), tensor(kI64), tensor(kI64)}));
    CHECK(supports(run_time, {tensor(type), tensor(kI64)}));
    CHECK(supports(run_time, {tensor(type), tensor(kI64), tensor(kI64)}));
    DataType output = type;
    const DataType inputs[2] = {type, kI64};
    CHECK_EQUAL(fixed.build->getOutputDataTypes(&output, 1, inputs, 2), 0);
    CHECK(output == kI64);
    CHECK(fixed.build->getOutputDataTypes(&output, 2, inputs, 2) != 0);
    const DataType wrong[2] = {DataType::kINT8, kI64};
    CHECK(fixed.build->getOutputDataTypes(&output, 1, wrong, 2) != 0);
  }
  CHECK(!supports(fixed, {tensor(DataType::kINT8), tensor(kI64), tensor(kI64)}));
  CHECK(!supports(fixed, {tensor(kF32), tensor(DataType::kINT32), tensor(kI64)}));
  CHECK(!supports(fixed, {tensor(kF32), tensor(kI64), tensor(DataType::kINT32)}));
  CHECK(!supports(fixed, {tensor(kF32, {}, nvinfer1::TensorFormat::kCHW4), tensor(kI64), tensor(kI64)}));
  CHECK(!supports(fixed, {tensor(kF32), tensor(kI64)}));
}

void test_selection_run(const Creators& c) {
  const Plugin fixed = create(c.selection, {{"max_keep", {3}}});
  const auto change = [&](const Plugin& of, std::vector<nvinfer1::PluginTensorDesc> in,
                          nvinfer1::PluginTensorDesc out) {
    return of.runtime->onShapeChange(in.data(), static_cast<int32_t>(in.size()), &out, 1);
  };
  CHECK_EQUAL(change(fixed, {tensor(kF16, {2, 9}), tensor(kI64, {2})}, tensor(kI64, {2, 3})), 0);
  CHECK_EQUAL(change(fixed, {tensor(kF16, {0, 9}), tensor(kI64, {1})}, tensor(kI64, {0, 3})), 0);
  CHECK(change(fixed, {tensor(kF16, {2, 9}), tensor(kI64, {3})}, tensor(kI64, {2, 3})) != 0);
  CHECK(change(fixed, {tensor(kF16, {2, 0}), tensor(kI64, {1})}, tensor(kI64, {2, 3})) != 0);
  const Plugin run_time = create(c.selection, {{"tensorrt_plugin_shape_input_indices", {1}}});
  CHECK_EQUAL(change(run_time, {tensor(kF32, {2, 1 << 20})}, tensor(kI64, {2, 5000})), 0);
  if (c.with_kernels) CHECK(change(run_time, {tensor(kF32, {2, 9})}, tensor(kI64, {2, 0})) != 0);
  std::vector<nvinfer1::PluginTensorDesc> tensors = {tensor(kF32, {2, 9}), tensor(kI64, {1}), tensor(kI64, {2, 3})};
  std::vector<nvinfer1::DynamicPluginTensorDesc> dynamic(3);
  for (size_t i = 0; i < 3; ++i) dynamic[i] = {tensors[i], tensors[i].dims, tensors[i].dims, tensors[i].dims};
  CHECK_EQUAL(fixed.build->configurePlugin(dynamic.data(), 2, &dynamic[2], 1), 0);
  CHECK_EQUAL(run_time.build->configurePlugin(dynamic.data(), 1, &dynamic[2], 1), 0);
  CHECK_EQUAL(fixed.build->getWorkspaceSize(dynamic.data(), 2, &dynamic[2], 1), size_t{0});
  // each of the three shapes that TensorRT tells is looked at, of both inputs
  const auto configured = [&](size_t input, nvinfer1::Dims nvinfer1::DynamicPluginTensorDesc::* shape, int32_t axis,
                              int64_t size) {
    std::vector<nvinfer1::DynamicPluginTensorDesc> changed = dynamic;
    (changed[input].*shape).d[axis] = size;
    return fixed.build->configurePlugin(changed.data(), 2, &changed[2], 1) == 0;
  };
  for (auto shape : {&nvinfer1::DynamicPluginTensorDesc::min, &nvinfer1::DynamicPluginTensorDesc::max}) {
    CHECK(configured(0, shape, 1, 1 << 20));
    CHECK(!configured(0, shape, 1, (1 << 20) + 1));
    CHECK(!configured(0, shape, 1, 0));
    CHECK(!configured(1, shape, 0, 3));
  }
  dynamic[0].desc.dims.d[1] = (1 << 20) + 1;
  CHECK(fixed.build->configurePlugin(dynamic.data(), 2, &dynamic[2], 1) != 0);
  CHECK(fixed.build->configurePlugin(dynamic.data(), 1, &dynamic[2], 1) != 0);
}

}  // namespace

void test_selection(const Creators& creators, const library::Logger& logger) {
  test_selection_shapes(creators, logger);
  test_selection_types(creators);
  test_selection_run(creators);
}

}  // namespace plugin_tests
