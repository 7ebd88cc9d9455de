// A plugin of the library by plain functions, so that ctypes can enqueue it on a GPU without TensorRT.
#include "plugin_library.h"

namespace {

constexpr int kMaxRank = nvinfer1::Dims::MAX_DIMS;

}  // namespace

#define HARNESS_EXPORT extern "C" __attribute__((visibility("default")))

// NULL if the library or the plugin refuses. `field` may be NULL.
HARNESS_EXPORT void* harness_create(const char* path, const char* name, const char* field, const int64_t* values,
                                    int32_t count) try {
  using GetCreators = nvinfer1::IPluginCreatorInterface* const*(int32_t&);
  int32_t creators = 0;
  auto* all = library::symbol<GetCreators>(library::open(path), "getCreators")(creators);
  nvinfer1::IPluginCreatorV3One* creator = library::find(all, creators, name);
  if (!creator) return nullptr;
  std::vector<library::Field> fields;
  if (field) fields.push_back({field, std::vector<int64_t>(values, values + count)});
  library::Plugin plugin = library::create(creator, fields);
  return plugin ? new library::Plugin(std::move(plugin)) : nullptr;
} catch (const std::exception&) {
  return nullptr;
}

HARNESS_EXPORT void harness_destroy(void* plugin) { delete static_cast<library::Plugin*>(plugin); }

// Tensor i has type types[i] (nvinfer1::DataType), ranks[i] dimensions from dims[8 * i] and device memory pointers[i];
// the last is the output. What onShapeChange or enqueue returns: 0 if all is well.
HARNESS_EXPORT int32_t harness_enqueue(void* plugin, int32_t tensors, const int32_t* types, const int32_t* ranks,
                                       const int64_t* dims, void* const* pointers, void* stream) {
  std::vector<nvinfer1::PluginTensorDesc> described(static_cast<size_t>(tensors));
  for (int32_t i = 0; i < tensors; ++i) {
    nvinfer1::PluginTensorDesc& tensor = described[static_cast<size_t>(i)];
    tensor = library::tensor(static_cast<nvinfer1::DataType>(types[i]));
    tensor.dims.nbDims = ranks[i];
    for (int32_t axis = 0; axis < ranks[i]; ++axis) tensor.dims.d[axis] = dims[kMaxRank * i + axis];
  }
  const int32_t inputs = tensors - 1;
  nvinfer1::IPluginV3OneRuntime* runtime = static_cast<library::Plugin*>(plugin)->runtime;
  const int32_t status = runtime->onShapeChange(described.data(), inputs, &described.back(), 1);
  if (status != 0) return status;
  return runtime->enqueue(described.data(), &described.back(), pointers, &pointers[inputs], nullptr,
                          static_cast<cudaStream_t>(stream));
}
