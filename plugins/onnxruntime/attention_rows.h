// The kernel itself, inlined into one function for each instruction set (ms_deform_attn.cpp).
#pragma once

#include <cmath>
#include <cstdint>
#include <cstring>

#include "ms_deform_attn.h"

#if defined(__GNUC__)
#define SPARSE_DETR_INLINE inline __attribute__((always_inline))
#else
#define SPARSE_DETR_INLINE inline
#endif

namespace sparse_detr {
namespace {

constexpr int64_t kFloatsPerLine = 16;  // of a 64-byte cache line

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

// Room for the samples (levels × points) of one head: what usual networks need, and all that a network may have.
constexpr int kUsualSamples = 64;
constexpr int kMaxSamples = static_cast<int>(kMaxLevels * kMaxPoints);

// What does not change from query to query, one entry a sample (level-major), so that every loop over samples is flat.
template <int Room>
struct Levels {
  float width[Room], height[Room];
  int32_t columns[Room], start[Room];
};

// Where the offsets of a query start from, in pixels, and what they are multiplied with.
template <int Room>
struct Centres {
  float x[Room], y[Room], scale_x[Room], scale_y[Room];
};

// The four corners of every sample of one (query, head): their tokens, and how much each counts.
template <int Room>
struct Samples {
  int32_t token[4][Room];
  float weight[4][Room];
};

template <int Room>
SPARSE_DETR_INLINE Levels<Room> describe_levels(const MSDeformAttnArguments& a) {
  Levels<Room> levels;
  int32_t start = 0;
  for (int64_t level = 0; level < a.levels; ++level) {
    const int32_t height = static_cast<int32_t>(a.spatial_shapes[2 * level]);
    const int32_t width = static_cast<int32_t>(a.spatial_shapes[2 * level + 1]);
    for (int64_t i = level * a.points; i < (level + 1) * a.points; ++i) {
      levels.width[i] = static_cast<float>(width);
      levels.height[i] = static_cast<float>(height);
      levels.columns[i] = width;
      levels.start[i] = start;
    }
    start += height * width;
  }
  return levels;
}

template <int Room>
SPARSE_DETR_INLINE void centre(const MSDeformAttnArguments& a, const Levels<Room>& levels, const float* reference,
                               Centres<Room>& centres) {
  const float per_point = 0.5f / static_cast<float>(a.points);
  for (int64_t level = 0; level < a.levels; ++level) {
    const float* place = reference + (a.reference_levels == 1 ? 0 : level * a.reference_size);
    for (int64_t i = level * a.points; i < (level + 1) * a.points; ++i) {
      const float width = levels.width[i], height = levels.height[i];
      centres.x[i] = place[0] * width - 0.5f;
      centres.y[i] = place[1] * height - 0.5f;
      centres.scale_x[i] = a.reference_size == 4 ? place[2] * per_point * width : 1.0f;
      centres.scale_y[i] = a.reference_size == 4 ? place[3] * per_point * height : 1.0f;
    }
  }
}

// Softmax with reductions by halves: the order of a tree, which vectorises.
template <int Count, int Room>
SPARSE_DETR_INLINE void softmax(const float* logits, int64_t samples, float* weights) {
  constexpr int kWidth = Count == 0 ? Room : Count;
  const int64_t count = Count == 0 ? samples : Count;
  float partial[kWidth];
  for (int i = 0; i < kWidth; ++i) partial[i] = i < count ? logits[i] : logits[0];
  for (int half = kWidth / 2; half > 0; half /= 2)
    for (int i = 0; i < half; ++i) partial[i] = partial[i] > partial[i + half] ? partial[i] : partial[i + half];
  const float most = partial[0];
  for (int i = 0; i < kWidth; ++i) partial[i] = i < count ? exp_negative(logits[i] - most) : 0.0f;
  for (int64_t i = 0; i < count; ++i) weights[i] = partial[i];
  for (int half = kWidth / 2; half > 0; half /= 2)
    for (int i = 0; i < half; ++i) partial[i] += partial[i + half];
  const float scale = 1.0f / partial[0];
  for (int64_t i = 0; i < count; ++i) weights[i] *= scale;
}

template <int Count, int Room>
SPARSE_DETR_INLINE void locate(const Levels<Room>& levels, const Centres<Room>& centres, const float* offsets,
                               const float* weights, int64_t samples, Samples<Room>& out) {
  const int64_t count = Count == 0 ? samples : Count;
  for (int64_t i = 0; i < count; ++i) {
    const float width = levels.width[i], height = levels.height[i];
    float x = centres.x[i] + offsets[2 * i] * centres.scale_x[i];
    float y = centres.y[i] + offsets[2 * i + 1] * centres.scale_y[i];
    // far outside is outside; written so that NaN is too, and so that the conversion to integers is defined
    x = x > -2.0f ? x : -2.0f;
    y = y > -2.0f ? y : -2.0f;
    x = x < width + 1.0f ? x : width + 1.0f;
    y = y < height + 1.0f ? y : height + 1.0f;
    const float left = std::floor(x), top = std::floor(y);
    const float right_share = x - left, bottom_share = y - top;
    const float last_x = width - 1.0f, last_y = height - 1.0f;
    // a corner outside counts nothing and reads the nearest token instead
    const float left_weight = (left >= 0.0f) & (left <= last_x) ? 1.0f - right_share : 0.0f;
    const float right_weight = (left >= -1.0f) & (left < last_x) ? right_share : 0.0f;
    const float top_weight = ((top >= 0.0f) & (top <= last_y) ? 1.0f - bottom_share : 0.0f) * weights[i];
    const float bottom_weight = ((top >= -1.0f) & (top < last_y) ? bottom_share : 0.0f) * weights[i];
    const float x0 = left < 0.0f ? 0.0f : (left > last_x ? last_x : left);
    const float x1 = left < -1.0f ? 0.0f : (left + 1.0f > last_x ? last_x : left + 1.0f);
    const float y0 = top < 0.0f ? 0.0f : (top > last_y ? last_y : top);
    const float y1 = top < -1.0f ? 0.0f : (top + 1.0f > last_y ? last_y : top + 1.0f);
    const int32_t row0 = levels.start[i] + static_cast<int32_t>(y0) * levels.columns[i];
    const int32_t row1 = levels.start[i] + static_cast<int32_t>(y1) * levels.columns[i];
    out.token[0][i] = row0 + static_cast<int32_t>(x0);
    out.token[1][i] = row0 + static_cast<int32_t>(x1);
    out.token[2][i] = row1 + static_cast<int32_t>(x0);
    out.token[3][i] = row1 + static_cast<int32_t>(x1);
    out.weight[0][i] = top_weight * left_weight;
    out.weight[1][i] = top_weight * right_weight;
    out.weight[2][i] = bottom_weight * left_weight;
    out.weight[3][i] = bottom_weight * right_weight;
  }
}

// Ask for the rows of one head while those of the head before are being summed: they lie anywhere in the value maps.
template <typename Samples>
SPARSE_DETR_INLINE void prefetch(const float* value, const Samples& samples, int64_t count, int64_t stride,
                                 int64_t channels) {
#if defined(__GNUC__)
  for (int corner = 0; corner < 4; ++corner)
    for (int64_t i = 0; i < count; ++i) {
      const float* row = value + samples.token[corner][i] * stride;
      for (int64_t c = 0; c < channels; c += kFloatsPerLine) __builtin_prefetch(row + c);
    }
#endif
}

// Weighted sum of the rows of all samples for channels first … first + width - 1.
template <typename Samples>
SPARSE_DETR_INLINE void accumulate_any(const float* value, const Samples& samples, int64_t count, int64_t stride,
                                       int64_t width, float* output) {
  for (int64_t c = 0; c < width; ++c) output[c] = 0.0f;
  for (int corner = 0; corner < 4; ++corner)
    for (int64_t i = 0; i < count; ++i) {
      const float* row = value + samples.token[corner][i] * stride;
      const float weight = samples.weight[corner][i];
      for (int64_t c = 0; c < width; ++c) output[c] += weight * row[c];
    }
}

#if defined(__GNUC__)
// The sums stay in registers: kVectors of Lanes floats, which the compiler splits where registers are narrower.
template <int Lanes, int kVectors, typename Samples>
SPARSE_DETR_INLINE void accumulate_lanes(const float* value, const Samples& samples, int64_t count, int64_t stride,
                                         float* output) {
  typedef float Vector __attribute__((vector_size(4 * Lanes), aligned(4), may_alias));
  Vector sum[kVectors] = {};
  for (int64_t i = 0; i < count; ++i)
    for (int corner = 0; corner < 4; ++corner) {
      const Vector* row = reinterpret_cast<const Vector*>(value + samples.token[corner][i] * stride);
      for (int v = 0; v < kVectors; ++v) sum[v] += samples.weight[corner][i] * row[v];
    }
  for (int v = 0; v < kVectors; ++v) reinterpret_cast<Vector*>(output)[v] = sum[v];
}
#endif

// Weighted sum of rows. Channels is known at compile time, or 0 for any.
template <int Channels, typename Samples>
SPARSE_DETR_INLINE void accumulate(const float* value, const Samples& samples, int64_t count, int64_t stride,
                                   int64_t channels, float* output) {
  int64_t first = 0;
#if defined(__GNUC__)
  if constexpr (Channels != 0) return accumulate_lanes<16, Channels / 16>(value, samples, count, stride, output);
  for (; first + 8 <= channels; first += 8)
    accumulate_lanes<8, 1>(value + first, samples, count, stride, output + first);
#endif
  if (first < channels) accumulate_any(value + first, samples, count, stride, channels - first, output + first);
}

template <int Channels, int Count, int Room = kUsualSamples>
SPARSE_DETR_INLINE void rows(const MSDeformAttnArguments& a, int64_t first, int64_t last) {
  const Levels<Room> levels = describe_levels<Room>(a);
  const int64_t count = Count == 0 ? a.levels * a.points : Count;
  const int64_t channels = Channels == 0 ? a.channels : Channels;
  const int64_t stride = a.heads * channels;
  float weights[Room];
  Centres<Room> centres;
  Samples<Room> samples[2];
  const float* waiting_value = nullptr;
  float* waiting_output = nullptr;
  int slot = 0;
  for (int64_t row = first; row < last; ++row) {
    const int64_t image = row / a.queries, query = row - image * a.queries;
    const int64_t reference_image = a.reference_batch == 1 ? 0 : image;
    centre(a, levels,
           a.reference_points + (reference_image * a.queries + query) * a.reference_levels * a.reference_size, centres);
    for (int64_t head = 0; head < a.heads; ++head) {
      const int64_t index = row * a.heads + head;
      const float* value = a.value + image * a.tokens * stride + head * channels;
      softmax<Count, Room>(a.attention_logits + index * count, count, weights);
      locate<Count, Room>(levels, centres, a.sampling_offsets + index * count * 2, weights, count, samples[slot]);
      prefetch(value, samples[slot], count, stride, channels);
      if (waiting_value) accumulate<Channels>(waiting_value, samples[1 - slot], count, stride, channels, waiting_output);
      waiting_value = value;
      waiting_output = a.output + index * channels;
      slot = 1 - slot;
    }
  }
  if (waiting_value) accumulate<Channels>(waiting_value, samples[1 - slot], count, stride, channels, waiting_output);
}

}  // namespace
}  // namespace sparse_detr
