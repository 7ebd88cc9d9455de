#include "ms_deform_attn.h"

#include <cmath>
#include <cstring>

#if defined(__GNUC__) && defined(__x86_64__)
#define SPARSE_DETR_X86 1
#define SPARSE_DETR_INLINE inline __attribute__((always_inline))
#elif defined(__GNUC__)
#define SPARSE_DETR_INLINE inline __attribute__((always_inline))
#else
#define SPARSE_DETR_INLINE inline
#endif

namespace sparse_detr {
namespace {

// e^x for x <= 0, to about one unit in the last place of float32; branch-free, so that a loop over it vectorises.
SPARSE_DETR_INLINE float exp_negative(float x) {
  x = x > -87.0f ? x : -87.0f;
  const float scaled = x * 1.44269504088896341f;
  const float whole = std::floor(scaled + 0.5f);
  const float rest = (x - whole * 0.693359375f) + whole * 2.12194440e-4f;
  float power = 1.9875691500e-4f;
  power = power * rest + 1.3981999507e-3f;
  power = power * rest + 8.3334519073e-3f;
  power = power * rest + 4.1665795894e-2f;
  power = power * rest + 1.6666665459e-1f;
  power = power * rest + 5.0000001201e-1f;
  power = power * rest * rest + rest + 1.0f;
  const int32_t bits = (static_cast<int32_t>(whole) + 127) << 23;
  float scale;
  std::memcpy(&scale, &bits, sizeof scale);
  return power * scale;
}

struct Level {
  float height, width;
  int64_t start;
};

// The four corners of every sample of one (query, head): where their rows start, and how much each counts.
struct Samples {
  int64_t row[4][kMaxSamples];
  float weight[4][kMaxSamples];
};

SPARSE_DETR_INLINE void softmax(const float* logits, int64_t count, float* weights) {
  float most = logits[0];
  for (int64_t i = 1; i < count; ++i) most = logits[i] > most ? logits[i] : most;
  float sum = 0.0f;
  for (int64_t i = 0; i < count; ++i) {
    weights[i] = exp_negative(logits[i] - most);
    sum += weights[i];
  }
  const float scale = 1.0f / sum;
  for (int64_t i = 0; i < count; ++i) weights[i] *= scale;
}

SPARSE_DETR_INLINE void locate(const MSDeformAttnArguments& a, const Level* levels, const float* reference,
                               const float* offsets, const float* weights, Samples& samples) {
  const int64_t stride = a.heads * a.channels;
  const float per_point = 0.5f / static_cast<float>(a.points);
  for (int64_t level = 0; level < a.levels; ++level) {
    const float* place = reference + (a.reference_levels == 1 ? 0 : level * a.reference_size);
    const float width = levels[level].width, height = levels[level].height;
    const float scale_x = a.reference_size == 4 ? place[2] * per_point * width : 1.0f;
    const float scale_y = a.reference_size == 4 ? place[3] * per_point * height : 1.0f;
    const float centre_x = place[0] * width - 0.5f, centre_y = place[1] * height - 0.5f;
    const int64_t start = levels[level].start, columns = static_cast<int64_t>(width);
    for (int64_t point = 0; point < a.points; ++point) {
      const int64_t i = level * a.points + point;
      float x = centre_x + offsets[2 * i] * scale_x;
      float y = centre_y + offsets[2 * i + 1] * scale_y;
      // far outside is outside; written so that NaN is too, and so that the conversion to integers is defined
      x = x > -2.0f ? x : -2.0f;
      y = y > -2.0f ? y : -2.0f;
      x = x < width + 1.0f ? x : width + 1.0f;
      y = y < height + 1.0f ? y : height + 1.0f;
      const float left = std::floor(x), top = std::floor(y);
      const float right_share = x - left, bottom_share = y - top;
      const float last_x = width - 1.0f, last_y = height - 1.0f;
      // a corner outside counts nothing and reads the nearest token instead
      const float left_weight = (left >= 0.0f && left <= last_x) ? 1.0f - right_share : 0.0f;
      const float right_weight = (left >= -1.0f && left < last_x) ? right_share : 0.0f;
      const float top_weight = ((top >= 0.0f && top <= last_y) ? 1.0f - bottom_share : 0.0f) * weights[i];
      const float bottom_weight = ((top >= -1.0f && top < last_y) ? bottom_share : 0.0f) * weights[i];
      const float x0 = left < 0.0f ? 0.0f : (left > last_x ? last_x : left);
      const float x1 = left + 1.0f < 0.0f ? 0.0f : (left + 1.0f > last_x ? last_x : left + 1.0f);
      const float y0 = top < 0.0f ? 0.0f : (top > last_y ? last_y : top);
      const float y1 = top + 1.0f < 0.0f ? 0.0f : (top + 1.0f > last_y ? last_y : top + 1.0f);
      const int64_t row0 = start + static_cast<int64_t>(y0) * columns;
      const int64_t row1 = start + static_cast<int64_t>(y1) * columns;
      samples.row[0][i] = (row0 + static_cast<int64_t>(x0)) * stride;
      samples.row[1][i] = (row0 + static_cast<int64_t>(x1)) * stride;
      samples.row[2][i] = (row1 + static_cast<int64_t>(x0)) * stride;
      samples.row[3][i] = (row1 + static_cast<int64_t>(x1)) * stride;
      samples.weight[0][i] = top_weight * left_weight;
      samples.weight[1][i] = top_weight * right_weight;
      samples.weight[2][i] = bottom_weight * left_weight;
      samples.weight[3][i] = bottom_weight * right_weight;
    }
  }
}

// Weighted sum of rows. Channels is the compile-time width of the accumulator, 0 for any.
template <int Channels>
SPARSE_DETR_INLINE void accumulate(const float* value, const Samples& samples, int64_t count, int64_t channels,
                                   float* output) {
  constexpr int kBlock = Channels == 0 ? 8 : Channels;
  const int64_t width = Channels == 0 ? channels : Channels;
  for (int64_t first = 0; first < width; first += kBlock) {
    const int block = width - first < kBlock ? static_cast<int>(width - first) : kBlock;
    float sum[kBlock] = {};
    for (int64_t i = 0; i < count; ++i) {
      const float* p0 = value + samples.row[0][i] + first;
      const float* p1 = value + samples.row[1][i] + first;
      const float* p2 = value + samples.row[2][i] + first;
      const float* p3 = value + samples.row[3][i] + first;
      const float w0 = samples.weight[0][i], w1 = samples.weight[1][i];
      const float w2 = samples.weight[2][i], w3 = samples.weight[3][i];
      if (Channels != 0) {
        for (int c = 0; c < kBlock; ++c) sum[c] += w0 * p0[c] + w1 * p1[c] + w2 * p2[c] + w3 * p3[c];
      } else {
        for (int c = 0; c < block; ++c) sum[c] += w0 * p0[c] + w1 * p1[c] + w2 * p2[c] + w3 * p3[c];
      }
    }
    for (int c = 0; c < block; ++c) output[first + c] = sum[c];
  }
}

template <int Channels>
SPARSE_DETR_INLINE void rows(const MSDeformAttnArguments& a, int64_t first, int64_t last) {
  Level levels[kMaxLevels];
  int64_t start = 0;
  for (int64_t level = 0; level < a.levels; ++level) {
    const int64_t height = a.spatial_shapes[2 * level], width = a.spatial_shapes[2 * level + 1];
    levels[level] = {static_cast<float>(height), static_cast<float>(width), start};
    start += height * width;
  }
  const int64_t count = a.levels * a.points;
  const int64_t image_size = a.tokens * a.heads * a.channels;
  float weights[kMaxSamples];
  Samples samples;
  for (int64_t row = first; row < last; ++row) {
    const int64_t image = row / a.queries, query = row - image * a.queries;
    const int64_t reference_image = a.reference_batch == 1 ? 0 : image;
    const float* reference =
        a.reference_points + (reference_image * a.queries + query) * a.reference_levels * a.reference_size;
    for (int64_t head = 0; head < a.heads; ++head) {
      const int64_t index = row * a.heads + head;
      softmax(a.attention_logits + index * count, count, weights);
      locate(a, levels, reference, a.sampling_offsets + index * count * 2, weights, samples);
      accumulate<Channels>(a.value + image * image_size + head * a.channels, samples, count, a.channels,
                           a.output + index * a.channels);
    }
  }
}

SPARSE_DETR_INLINE void dispatch_width(const MSDeformAttnArguments& a, int64_t first, int64_t last) {
  switch (a.channels) {
    case 16: return rows<16>(a, first, last);
    case 32: return rows<32>(a, first, last);
    case 64: return rows<64>(a, first, last);
    default: return rows<0>(a, first, last);
  }
}

#ifdef SPARSE_DETR_X86
__attribute__((target("avx512f,avx512vl,avx512dq,avx512bw,avx2,fma,prefer-vector-width=512"))) void rows_avx512(
    const MSDeformAttnArguments& a, int64_t first, int64_t last) {
  dispatch_width(a, first, last);
}
__attribute__((target("avx2,fma"))) void rows_avx2(const MSDeformAttnArguments& a, int64_t first, int64_t last) {
  dispatch_width(a, first, last);
}
#endif
void rows_portable(const MSDeformAttnArguments& a, int64_t first, int64_t last) { dispatch_width(a, first, last); }

}  // namespace

void ms_deform_attn(const MSDeformAttnArguments& arguments, int64_t first, int64_t last) {
#ifdef SPARSE_DETR_X86
  static const int level = __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512vl") &&
                                   __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512bw")
                               ? 2
                               : __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
  if (level == 2) return rows_avx512(arguments, first, last);
  if (level == 1) return rows_avx2(arguments, first, last);
#endif
  rows_portable(arguments, first, last);
}

}  // namespace sparse_detr
