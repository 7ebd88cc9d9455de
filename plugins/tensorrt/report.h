// Messages to TensorRT's logger, and a guard that turns exceptions into error codes.
#pragma once

#include <NvInferRuntime.h>

#include <exception>
#include <string>

namespace sparse_detr {

// Return codes of plugin calls.
constexpr int32_t kSuccess = 0;
constexpr int32_t kFailure = -1;

// To the logger that TensorRT handed over; to stderr if there is none.
void report(nvinfer1::ILogger::Severity severity, const std::string& message) noexcept;

// Report an error; kFailure.
inline int32_t fail(const char* plugin, const std::string& why) noexcept {
  try {
    report(nvinfer1::ILogger::Severity::kERROR, std::string("sparse_detr::") + plugin + ": " + why);
  } catch (...) {  // no memory for the message
  }
  return kFailure;
}

// TensorRT's calls are noexcept: what a body throws is reported and becomes `otherwise`.
template <typename Result, typename Body>
Result guarded(const char* plugin, Result otherwise, Body body) noexcept {
  try {
    return body();
  } catch (const std::exception& error) {
    fail(plugin, error.what());
    return otherwise;
  }
}

}  // namespace sparse_detr
