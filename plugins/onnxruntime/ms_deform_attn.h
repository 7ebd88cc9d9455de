// Multi-scale deformable attention (Deformable DETR, eq. 3) on the CPU, float32: softmax, sampling locations, bilinear
// sampling and the weighted sum in one pass, nothing kept in between.
#pragma once

#include <cstddef>
#include <cstdint>

namespace sparse_detr {

constexpr int64_t kMaxLevels = 8;
constexpr int64_t kMaxPoints = 64;

struct MSDeformAttnArguments {
  const float* value;              // [batch, tokens, heads, channels]
  const int64_t* spatial_shapes;   // [levels, 2], (height, width)
  const float* reference_points;   // [reference_batch, queries, reference_levels, reference_size]
  const float* sampling_offsets;   // [batch, queries, heads, levels, points, 2]
  const float* attention_logits;   // [batch, queries, heads, levels * points]
  float* output;                   // [batch, queries, heads * channels]
  int64_t batch, tokens, heads, channels, queries, levels, points;
  int64_t reference_batch;   // batch, or 1: the same for all images
  int64_t reference_levels;  // levels, or 1: the same for all levels
  int64_t reference_size;    // 2: (x, y), or 4: (x, y, w, h)
};

// Instruction sets, each with all of those before it. The kernel takes the best that the machine has; the environment
// variable SPARSE_DETR_CPU_LEVEL (portable, avx2 or avx512) caps it, for tests and comparisons. It is read once a process.
enum class CpuLevel { kUnknown, kPortable, kAvx2, kAvx512 };

// The level that runs; kUnknown where the variable holds something else, and then nothing should run.
CpuLevel cpu_level();
const char* level_name(CpuLevel level);

// Compute the rows [first, last) of the batch * queries rows of the output. Rows are independent of each other.
void ms_deform_attn(const MSDeformAttnArguments& arguments, int64_t first, int64_t last);

}  // namespace sparse_detr
