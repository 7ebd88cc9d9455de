#include "report.h"

#include <dlfcn.h>

#include <cstdio>
#include <mutex>

#include "library.h"

namespace sparse_detr {
namespace {

// TensorRT 11 put ILogger and ILoggerFinder under IVersionedInterface: their one method moved in the table of virtual
// functions, behind two others and the destructors. One build serves both, so it is called by its place.
struct LoggerSource {
  nvinfer1::ILoggerFinder* finder = nullptr;
  int major = 0;
};

std::mutex source_mutex;
LoggerSource logger_source;

template <typename Function>
Function* method(void* object, int major) {
  void** table = *static_cast<void***>(object);
  return reinterpret_cast<Function*>(table[major >= 11 ? 4 : 0]);
}

// Major version of the TensorRT library that the object's class comes from. Where it cannot be told, the older layout:
// taken for one of TensorRT 10, a finder of TensorRT 11 gives no logger, which is harmless; not so the other way.
int major_version(void* object) {
  Dl_info info{};
  if (!dladdr(*static_cast<void**>(object), &info)) return 10;
  void* library = dlopen(info.dli_fname, RTLD_LAZY | RTLD_NOLOAD);
  if (!library) return 10;
  auto* version = reinterpret_cast<int32_t (*)()>(dlsym(library, "getInferLibMajorVersion"));
  const int major = version ? version() : 10;
  dlclose(library);
  return major;
}

}  // namespace

void report(nvinfer1::ILogger::Severity severity, const std::string& message) noexcept {
  LoggerSource source;
  {
    const std::lock_guard<std::mutex> lock(source_mutex);
    source = logger_source;
  }
  void* logger = nullptr;
  if (source.finder) logger = method<void*(void*)>(source.finder, source.major)(source.finder);
  if (logger)
    method<void(void*, nvinfer1::ILogger::Severity, const char*)>(logger, source.major)(logger, severity,
                                                                                        message.c_str());
  else
    std::fprintf(stderr, "%s\n", message.c_str());
}

}  // namespace sparse_detr

void setLoggerFinder(nvinfer1::ILoggerFinder* finder) {
  const int major = finder ? sparse_detr::major_version(finder) : 0;
  const std::lock_guard<std::mutex> lock(sparse_detr::source_mutex);
  sparse_detr::logger_source = {finder, major};
}
