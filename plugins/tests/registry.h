// TensorRT's plugin registry, by the places of its methods: the table of virtual functions lost its deprecated entries
// in TensorRT 11, and one test serves both.
#pragma once

#include <NvInferRuntime.h>

#include "plugin_library.h"

namespace library {

class Registry {
 public:
  explicit Registry(const std::string& runtime) {
    void* handle = open(runtime);
    registry_ = symbol<void*()>(handle, "getPluginRegistry")();
    first_ = symbol<int32_t()>(handle, "getInferLibMajorVersion")() >= 11 ? 6 : 10;
  }

  void* load(const char* path) { return method<void*(void*, const char*)>(0)(registry_, path); }
  void unload(void* library) { method<void(void*, void*)>(1)(registry_, library); }
  bool lists(const char* name) {
    int32_t count = 0;
    auto* all = method<nvinfer1::IPluginCreatorInterface* const*(void*, int32_t*)>(3)(registry_, &count);
    return find(all, count, name) != nullptr;
  }
  nvinfer1::IPluginCreatorV3One* get(const char* name, const char* version, const char* name_space) {
    using Get = nvinfer1::IPluginCreatorInterface*(void*, const char*, const char*, const char*);
    return static_cast<nvinfer1::IPluginCreatorV3One*>(method<Get>(4)(registry_, name, version, name_space));
  }

 private:
  // Counted from loadLibrary: deregisterLibrary, registerCreator, getAllCreators, getCreator.
  template <typename Function>
  Function* method(int place) {
    return reinterpret_cast<Function*>((*static_cast<void***>(registry_))[first_ + place]);
  }

  void* registry_;
  int first_;
};

}  // namespace library
