// The plugin classes through TensorRT's interfaces; nothing is enqueued (test_enqueue.cpp does), no GPU is touched.
//   test_plugins LIBRARY LOGGER            by hand; LOGGER is a foreign_logger library
//   test_plugins LIBRARY LOGGER RUNTIME    loaded by the real registry of a TensorRT runtime library
#include <thread>

#include "check.h"
#include "plugin_tests.h"
#include "registry.h"

namespace {

using library::create;
using library::Field;
using library::Plugin;
using library::round_trip;
using library::tensor;
using nvinfer1::PluginFieldType;
using plugin_tests::Creators;
using plugin_tests::kF16;
using plugin_tests::kI64;

void test_identity(const Creators& c) {
  for (auto* creator : {c.attention, c.selection}) {
    CHECK_EQUAL(std::string(creator->getPluginVersion()), "1");
    CHECK_EQUAL(std::string(creator->getPluginNamespace()), "sparse_detr");
  }
  CHECK_EQUAL(c.attention->getFieldNames()->nbFields, 1);
  CHECK_EQUAL(std::string(c.attention->getFieldNames()->fields[0].name), "level_shapes");
  CHECK_EQUAL(c.selection->getFieldNames()->nbFields, 2);
}

void test_attributes(const Creators& c, const library::Logger& logger) {
  const auto refused = [&](nvinfer1::IPluginCreatorV3One* creator, const std::vector<Field>& fields) {
    logger.clear();
    const bool made = static_cast<bool>(create(creator, fields));
    CHECK(made || !logger.last_error().empty());
    return !made;
  };
  CHECK(refused(c.attention, {{"level_shapes", {3}}}));
  CHECK(refused(c.attention, {{"level_shapes", {3, 0}}}));
  CHECK(refused(c.attention, {{"level_shapes", std::vector<int64_t>(18, 1)}}));
  CHECK(refused(c.attention, {{"level_shapes", {(1 << 20) + 1, 1}}}));
  CHECK(!refused(c.attention, {{"level_shapes", {1 << 20, 1}}}));
  CHECK(refused(c.attention, {{"level_shape", {3, 3}}}));
  CHECK(refused(c.attention, {{"level_shapes", {3, 3}, PluginFieldType::kFLOAT32}}));
  CHECK(refused(c.selection, {}));
  CHECK(refused(c.selection, {{"max_keep", {0}}}));
  CHECK(refused(c.selection, {{"max_keep", {(1 << 20) + 1}}}));
  CHECK(refused(c.selection, {{"max_keep", {3, 3}}}));
  CHECK(refused(c.selection, {{"max_keep", {3}}, {"tensorrt_plugin_shape_input_indices", {1}}}));
  CHECK(refused(c.selection, {{"tensorrt_plugin_shape_input_indices", {0}}}));
  CHECK(!refused(c.selection, {{"tensorrt_plugin_shape_input_indices", {-1}, PluginFieldType::kINT32}}));
  CHECK(!refused(c.selection, {{"max_keep", {3}, PluginFieldType::kINT32}, {"plugin_version", {}}}));
  CHECK(static_cast<bool>(Plugin(c.attention->createPlugin("layer", nullptr, nvinfer1::TensorRTPhase::kBUILD))));
  // of a field that is given twice the last counts
  const Plugin last = create(c.selection, {{"max_keep", {3}}, {"max_keep", {4}}});
  CHECK(last && std::string(last.build->getTimingCacheID()).find("max_keep 4") != std::string::npos);
  // collections that are broken
  const int64_t value = 3;
  const nvinfer1::PluginField bad[] = {{nullptr, &value, PluginFieldType::kINT64, 1},
                                       {"max_keep", nullptr, PluginFieldType::kINT64, 1},
                                       {"max_keep", &value, PluginFieldType::kINT64, -1}};
  for (const nvinfer1::PluginField& field : bad)
    for (const int32_t count : {1, -1}) {
      const nvinfer1::PluginFieldCollection collection{count, count > 0 ? &field : nullptr}, none{1, nullptr};
      for (const auto* fields : {&collection, &none}) {
        logger.clear();
        CHECK(!Plugin(c.selection->createPlugin("layer", fields, nvinfer1::TensorRTPhase::kBUILD)));
        CHECK(!logger.last_error().empty());
      }
    }
}

void test_copies(const Creators& c) {
  const auto same = [](const Plugin& a, const Plugin& b) {
    if (!a || !b || std::strcmp(a.build->getTimingCacheID(), b.build->getTimingCacheID()) != 0) return false;
    const auto *left = a.runtime->getFieldsToSerialize(), *right = b.runtime->getFieldsToSerialize();
    if (left->nbFields != right->nbFields) return false;
    for (int32_t i = 0; i < left->nbFields; ++i) {
      const nvinfer1::PluginField &x = left->fields[i], &y = right->fields[i];
      if (std::strcmp(x.name, y.name) != 0 || x.type != y.type || x.length != y.length || x.data == y.data ||
          std::memcmp(x.data, y.data, sizeof(int64_t) * static_cast<size_t>(x.length)) != 0)
        return false;
    }
    return true;
  };
  const std::vector<std::pair<nvinfer1::IPluginCreatorV3One*, std::vector<Field>>> all = {
      {c.attention, {}},
      {c.attention, {{"level_shapes", {100, 134, 50, 67, 25, 34, 13, 17}}}},
      {c.attention, {{"level_shapes", {100, 134, 50, 67, 25, 34, 17, 13}}}},
      {c.selection, {{"max_keep", {5347}, PluginFieldType::kINT32}}},
      {c.attention, {{"level_shapes", {1, 12}}}},
      {c.attention, {{"level_shapes", {11, 2}}}},
      {c.selection, {{"max_keep", {5348}}}},
      {c.selection, {{"tensorrt_plugin_shape_input_indices", {1}, PluginFieldType::kINT32}}}};
  std::vector<std::string> ids;
  for (const auto& [creator, fields] : all) {
    Plugin plugin = create(creator, fields);
    CHECK(same(plugin, round_trip(creator, plugin)));
    const Plugin copy(plugin.owner->clone()), attached(plugin.runtime->attachToContext(nullptr));
    CHECK(same(plugin, copy) && same(plugin, attached));
    ids.push_back(plugin.build->getTimingCacheID());
    plugin = Plugin();  // a clone stands alone
    CHECK_EQUAL(ids.back(), copy.build->getTimingCacheID());
    CHECK(same(copy, round_trip(creator, copy)));
    CHECK_EQUAL(std::string(copy.core->getPluginName()), creator->getPluginName());
    CHECK_EQUAL(copy.build->getNbOutputs(), 1);
  }
  for (size_t i = 0; i < ids.size(); ++i)
    for (size_t k = 0; k < i; ++k) CHECK(ids[i] != ids[k]);
}

// Many threads make, clone and ask at once; a thread sanitizer sees any race.
void test_threads(const Creators& c) {
  const Plugin shared = create(c.selection, {{"max_keep", {3}}});
  std::vector<std::thread> threads;
  for (int i = 0; i < 4; ++i)
    threads.emplace_back([&] {
      for (int k = 0; k < 200; ++k) {
        const Plugin copy(shared.owner->clone());
        const auto in = {tensor(kF16, {2, 9}), tensor(kI64, {2})};
        const auto out = tensor(kI64, {2, 3});
        if (copy.runtime->onShapeChange(in.begin(), 2, &out, 1) != 0) std::abort();
        if (shared.runtime->getFieldsToSerialize()->nbFields != 1) std::abort();
        if (!create(c.attention, {})) std::abort();
      }
    });
  for (std::thread& thread : threads) thread.join();
}

void test_all(const Creators& c, const library::Logger& logger) {
  test_identity(c);
  plugin_tests::test_attention(c, logger);
  plugin_tests::test_selection(c, logger);
  test_attributes(c, logger);
  test_copies(c);
  test_threads(c);
}

void test_library(const char* path, const library::Logger& logger) {
  void* plugins = library::open(path);
  logger.attach(plugins);
  int32_t count = 0;
  auto* creators = library::symbol<nvinfer1::IPluginCreatorInterface* const*(int32_t&)>(plugins, "getCreators")(count);
  CHECK_EQUAL(count, 2);
  const Creators found{library::find(creators, count, "MSDeformAttn"), library::find(creators, count, "SelectTokens")};
  if (!found.attention || !found.selection) throw std::runtime_error("a creator is missing");
  const bool with_kernels = dlsym(plugins, "recorded") == nullptr;
  test_all({found.attention, found.selection, with_kernels}, logger);
  library::Logger::detach(plugins);
}

void test_registry(const char* path, const library::Logger& logger, const char* runtime) {
  library::Registry registry(runtime);
  CHECK(!registry.lists("MSDeformAttn"));
  CHECK(registry.load("/no/such/library.so") == nullptr);
  CHECK(registry.load(runtime) == nullptr);  // a library, but not of plugins
  void* loaded = registry.load(path);
  if (!loaded) throw std::runtime_error("the registry did not load the library");
  CHECK(registry.lists("MSDeformAttn") && registry.lists("SelectTokens"));
  CHECK(registry.get("MSDeformAttn", "2", "sparse_detr") == nullptr);
  CHECK(registry.get("MSDeformAttn", "1", "") == nullptr);
  const Creators found{registry.get("MSDeformAttn", "1", "sparse_detr"),
                       registry.get("SelectTokens", "1", "sparse_detr")};
  if (!found.attention || !found.selection) throw std::runtime_error("the registry lacks a creator");
  void* plugins = library::open(path);
  logger.attach(plugins);  // in place of the registry's, so that the tests can read the messages
  test_all(found, logger);
  library::Logger::detach(plugins);
  registry.unload(loaded);
  CHECK(!registry.lists("MSDeformAttn") && !registry.lists("SelectTokens"));
  void* again = registry.load(path);
  CHECK(again != nullptr && registry.lists("MSDeformAttn"));
  registry.unload(again);
}

}  // namespace

int main(int count, char** values) {
  if (count != 3 && count != 4) return std::cerr << "usage: test_plugins LIBRARY LOGGER [RUNTIME]\n", 2;
  const library::Logger logger(values[2]);
  if (count == 3)
    test_library(values[1], logger);
  else
    test_registry(values[1], logger, values[3]);
  return check::result(count == 3 ? "plugins" : "plugins in a registry", 10);
}
