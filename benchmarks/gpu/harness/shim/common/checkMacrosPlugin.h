// Stands in for TensorRT's header of this name: where its launcher writes errors.
#pragma once

#include <cuda_fp16.h>

#include <cstdint>
#include <iostream>

namespace nvinfer1 {
namespace plugin {

inline std::ostream& gLogError = std::cerr;

}  // namespace plugin
}  // namespace nvinfer1
