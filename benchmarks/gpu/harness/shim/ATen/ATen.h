// Stands in for torch's header of this name: what the measured kernels' headers use of it, and nothing else.
#pragma once

#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include <cassert>
#include <cstdint>
#include <stdexcept>

// A message of any form follows the condition.
#define AT_ASSERTM(condition, ...) \
  do {                             \
    if (!(condition)) throw std::runtime_error("assertion failed: " #condition); \
  } while (0)
