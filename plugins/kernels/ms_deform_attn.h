// C interface of the fused multi-scale deformable attention kernel.
#pragma once

#include <cuda_runtime_api.h>

#include "types.h"

#ifdef __cplusplus
extern "C" {
#endif

// All pointers are device memory, 16-byte aligned, contiguous. Set to zero what is not used.
typedef struct SparseDetrMSDeformAttn {
  const void* value;              // [batch, tokens, heads, channels] of type
  const int64_t* spatial_shapes;  // [levels, 2], (height, width); NULL: level_shapes holds them
  const void* reference_points;   // [reference_batch, queries, reference_levels, reference_size] of reference_type
  const void* sampling_offsets;   // [batch, queries, heads, levels, points, 2] of type
  const void* attention_logits;   // [batch, queries, heads, levels * points] of type
  void* output;                   // [batch, queries, heads * channels] of type
  int32_t level_shapes[16];       // [levels, 2] on the host, read where spatial_shapes is NULL
  int32_t batch, tokens, heads, channels, queries, levels, points;
  int32_t reference_batch;   // batch, or 1: the same for all images
  int32_t reference_levels;  // levels, or 1: the same for all levels
  int32_t reference_size;    // 2: (x, y), or 4: (x, y, w, h)
  int32_t type;              // SparseDetrType
  int32_t reference_type;    // type, or SPARSE_DETR_FLOAT32
  int32_t split;             // 0: chosen by the size of the work; 1: never, 2: always share a query's samples out
} SparseDetrMSDeformAttn;

// NULL, or why these sizes and types cannot run: a static text.
SPARSE_DETR_KERNEL_API const char* sparse_detr_check_ms_deform_attn(const SparseDetrMSDeformAttn* arguments);

// Enqueue on the stream; neither allocates nor synchronises. cudaErrorInvalidValue where the check above finds a fault.
// Shapes on the device that do not add up to `tokens` cannot be refused in time: the output is NaN then, nothing is
// read outside the tensors. Values must be finite: a corner outside its level weighs nothing but reads the nearest
// token, and nothing times infinity is not a number.
SPARSE_DETR_KERNEL_API cudaError_t sparse_detr_launch_ms_deform_attn(const SparseDetrMSDeformAttn* arguments,
                                                                     cudaStream_t stream);

#ifdef __cplusplus
}
#endif
