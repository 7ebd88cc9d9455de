// The plugin library as its users meet it: opened at run time, by hand or by a TensorRT registry.
#pragma once

#include <NvInferRuntime.h>
#include <dlfcn.h>

#include <cstring>
#include <memory>
#include <stdexcept>
#include <string>
#include <vector>

namespace library {

using nvinfer1::PluginCapabilityType;

inline void* open(const std::string& path) {
  void* handle = dlopen(path.c_str(), RTLD_NOW | RTLD_LOCAL);
  if (!handle) throw std::runtime_error(dlerror());
  return handle;
}

template <typename Function>
Function* symbol(void* handle, const char* name) {
  void* found = dlsym(handle, name);
  if (!found) throw std::runtime_error(std::string("no symbol ") + name);
  return reinterpret_cast<Function*>(found);
}

// A logger that remembers its last error; foreign_logger.cpp says why it is a library of its own.
class Logger {
 public:
  explicit Logger(const std::string& path) : handle_(open(path)) {}
  void attach(void* plugins) const {
    symbol<void(void*)>(plugins, "setLoggerFinder")(symbol<void*()>(handle_, "logger_finder")());
  }
  static void detach(void* plugins) { symbol<void(void*)>(plugins, "setLoggerFinder")(nullptr); }
  std::string last_error() const { return symbol<const char*()>(handle_, "logger_last_error")(); }
  void clear() const { symbol<void()>(handle_, "logger_clear")(); }

 private:
  void* handle_;
};

inline nvinfer1::IPluginCreatorV3One* find(nvinfer1::IPluginCreatorInterface* const* creators, int32_t count,
                                           const std::string& name) {
  for (int32_t i = 0; i < count; ++i) {
    if (std::strcmp(creators[i]->getInterfaceInfo().kind, "PLUGIN CREATOR_V3ONE") != 0) continue;
    auto* creator = static_cast<nvinfer1::IPluginCreatorV3One*>(creators[i]);
    if (name == creator->getPluginName() && std::string("sparse_detr") == creator->getPluginNamespace()) return creator;
  }
  return nullptr;
}

struct Field {
  const char* name;
  std::vector<int64_t> values;
  nvinfer1::PluginFieldType type = nvinfer1::PluginFieldType::kINT64;
};

// A plugin with its three capabilities; empty if the creator refused.
struct Plugin {
  std::unique_ptr<nvinfer1::IPluginV3> owner;
  nvinfer1::IPluginV3OneCore* core = nullptr;
  nvinfer1::IPluginV3OneBuild* build = nullptr;
  nvinfer1::IPluginV3OneRuntime* runtime = nullptr;

  Plugin() = default;
  explicit Plugin(nvinfer1::IPluginV3* plugin) : owner(plugin) {
    if (!plugin) return;
    core = static_cast<nvinfer1::IPluginV3OneCore*>(plugin->getCapabilityInterface(PluginCapabilityType::kCORE));
    build = static_cast<nvinfer1::IPluginV3OneBuild*>(plugin->getCapabilityInterface(PluginCapabilityType::kBUILD));
    runtime =
        static_cast<nvinfer1::IPluginV3OneRuntime*>(plugin->getCapabilityInterface(PluginCapabilityType::kRUNTIME));
  }
  explicit operator bool() const { return owner != nullptr; }
};

inline Plugin create(nvinfer1::IPluginCreatorV3One* creator, const std::vector<Field>& fields,
                     nvinfer1::TensorRTPhase phase = nvinfer1::TensorRTPhase::kBUILD) {
  std::vector<std::vector<int32_t>> narrow(fields.size());
  std::vector<nvinfer1::PluginField> list;
  for (size_t i = 0; i < fields.size(); ++i) {
    const Field& field = fields[i];
    narrow[i].assign(field.values.begin(), field.values.end());
    const void* data = field.type == nvinfer1::PluginFieldType::kINT64 ? static_cast<const void*>(field.values.data())
                                                                       : static_cast<const void*>(narrow[i].data());
    list.emplace_back(field.name, data, field.type, static_cast<int32_t>(field.values.size()));
  }
  const nvinfer1::PluginFieldCollection collection{static_cast<int32_t>(list.size()), list.data()};
  return Plugin(creator->createPlugin("layer", &collection, phase));
}

// What TensorRT does when it writes and reads an engine.
inline Plugin round_trip(nvinfer1::IPluginCreatorV3One* creator, const Plugin& plugin) {
  const nvinfer1::PluginFieldCollection* fields = plugin.runtime->getFieldsToSerialize();
  return Plugin(creator->createPlugin("layer", fields, nvinfer1::TensorRTPhase::kRUNTIME));
}

inline nvinfer1::Dims dims(std::initializer_list<int64_t> sizes) {
  nvinfer1::Dims result{};
  for (int64_t size : sizes) result.d[result.nbDims++] = size;
  return result;
}

inline nvinfer1::PluginTensorDesc tensor(nvinfer1::DataType type, std::initializer_list<int64_t> sizes = {},
                                         nvinfer1::TensorFormat format = nvinfer1::TensorFormat::kLINEAR) {
  return {dims(sizes), type, format, -1.0f};
}

// Does the plugin take these types and formats, asked one after another as TensorRT does?
inline bool supports(const Plugin& plugin, const std::vector<nvinfer1::PluginTensorDesc>& tensors) {
  std::vector<nvinfer1::DynamicPluginTensorDesc> all(tensors.size());
  for (size_t i = 0; i < tensors.size(); ++i) {
    all[i].desc = tensors[i];
    if (!plugin.build->supportsFormatCombination(static_cast<int32_t>(i), all.data(),
                                                 static_cast<int32_t>(tensors.size()) - 1, 1))
      return false;
  }
  return true;
}

}  // namespace library
