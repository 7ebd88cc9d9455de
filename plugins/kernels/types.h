// Types that the C interface shares.
#pragma once

#include <stdint.h>

// Element type of floating-point tensors.
enum SparseDetrType { SPARSE_DETR_FLOAT32 = 0, SPARSE_DETR_FLOAT16 = 1, SPARSE_DETR_BFLOAT16 = 2 };

#define SPARSE_DETR_KERNEL_API __attribute__((visibility("default")))

// Changes whenever timing or results of a kernel may: part of TensorRT's timing-cache key.
#define SPARSE_DETR_KERNEL_VERSION "1"
