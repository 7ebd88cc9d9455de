// C interface of the exact token selection kernel.
#pragma once

#include <cuda_runtime_api.h>

#include "types.h"

#ifdef __cplusplus
extern "C" {
#endif

#define SPARSE_DETR_MAX_TOKENS (1 << 20)

// All pointers are device memory, contiguous.
typedef struct SparseDetrSelectTokens {
  const void* scores;       // [batch, tokens] of type
  const int64_t* num_keep;  // [batch] or [1], taken as 1..min(tokens, width); NULL: width for every image
  int64_t* indices;         // [batch, width]: ascending; an image that keeps fewer repeats its own
  int32_t batch, tokens, width;
  int32_t counts;  // elements of num_keep: batch, or 1: the same for all images
  int32_t type;    // SparseDetrType
} SparseDetrSelectTokens;

// NULL, or why these sizes and types cannot run: a static text.
SPARSE_DETR_KERNEL_API const char* sparse_detr_check_select_tokens(const SparseDetrSelectTokens* arguments);

// Enqueue on the stream; neither allocates nor synchronises and needs no workspace. cudaErrorInvalidValue where the
// check above finds a fault. Ties go to the lower index, -0 equals 0, NaN counts as the highest score.
SPARSE_DETR_KERNEL_API cudaError_t sparse_detr_launch_select_tokens(const SparseDetrSelectTokens* arguments,
                                                                    cudaStream_t stream);

#ifdef __cplusplus
}
#endif
