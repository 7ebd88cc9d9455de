// The tests of each plugin class, given its creators from wherever they were got.
#pragma once

#include "plugin_library.h"

namespace plugin_tests {

using nvinfer1::DataType;
constexpr DataType kF32 = DataType::kFLOAT, kF16 = DataType::kHALF, kBF16 = DataType::kBF16, kI64 = DataType::kINT64;

struct Creators {
  nvinfer1::IPluginCreatorV3One *attention, *selection;
  bool with_kernels = true;  // false: with recording_kernels.cpp, which refuse nothing by themselves
};

void test_attention(const Creators& creators, const library::Logger& logger);
void test_selection(const Creators& creators, const library::Logger& logger);

}  // namespace plugin_tests
