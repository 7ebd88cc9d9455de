// Arithmetic of deformable attention for one sample (Deformable DETR, eq. 3): where it lies, which four tokens it
// reads and how much each counts. Float32 throughout; the same on the device and on the host.
#pragma once

#include <cmath>

#include "numeric.h"

namespace sparse_detr {

constexpr int kMaxLevels = 8;
constexpr int kMaxPoints = 8;
constexpr int kMaxSide = 1 << 20;  // tokens along one side of a level

struct alignas(16) Level {
  float height, width;
  int columns;  // width
  int start;    // first token
};

// The pixel that a zero offset samples, and how many pixels a unit of offset moves it.
struct Anchor {
  float x, y, scale_x, scale_y;
};

struct Corners {
  float4 weight;  // top left, top right, bottom left, bottom right
  int4 token;     // in the same order, always inside the level
};

SPARSE_DETR_HD float exponential(float x) {
#ifdef __CUDA_ARCH__
  return __expf(x);
#else
  return std::exp(x);
#endif
}

// floor(sample / points) for sample < 64 and points <= 8, given reciprocal = 512 / points + 1.
SPARSE_DETR_HD int level_of(int sample, int reciprocal) { return (sample * reciprocal) >> 9; }
SPARSE_DETR_HD int point_reciprocal(int points) { return 512 / points + 1; }

// Pixel centres lie at whole numbers (align_corners=False), hence the half pixel.
SPARSE_DETR_HD Anchor anchor_point(const Level& level, float2 centre) {
  return {centre.x * level.width - 0.5f, centre.y * level.height - 0.5f, 1.0f, 1.0f};
}

// A reference box scales its offsets: half its size, shared among the points (half_per_point = 0.5 / points).
SPARSE_DETR_HD Anchor anchor_box(const Level& level, float2 centre, float2 size, float half_per_point) {
  Anchor anchor = anchor_point(level, centre);
  anchor.scale_x = size.x * level.width * half_per_point;
  anchor.scale_y = size.y * level.height * half_per_point;
  return anchor;
}

// A corner outside the level counts nothing and names the nearest token instead, so that every load is valid.
SPARSE_DETR_HD Corners find_corners(const Level& level, const Anchor& anchor, float2 offset, float weight) {
  // Far outside is outside; written so that NaN is too, and so that the conversion to integers is defined.
  const float x = fmaxf(fminf(anchor.x + offset.x * anchor.scale_x, level.width + 1.0f), -2.0f);
  const float y = fmaxf(fminf(anchor.y + offset.y * anchor.scale_y, level.height + 1.0f), -2.0f);
  const float left = floorf(x), top = floorf(y);
  const float right_share = x - left, bottom_share = y - top;
  const float last_x = level.width - 1.0f, last_y = level.height - 1.0f;
  const float left_weight = (left >= 0.0f && left <= last_x) ? 1.0f - right_share : 0.0f;
  const float right_weight = (left >= -1.0f && left < last_x) ? right_share : 0.0f;
  const float top_weight = (top >= 0.0f && top <= last_y) ? (1.0f - bottom_share) * weight : 0.0f;
  const float bottom_weight = (top >= -1.0f && top < last_y) ? bottom_share * weight : 0.0f;
  const int x0 = static_cast<int>(fminf(fmaxf(left, 0.0f), last_x));
  const int x1 = static_cast<int>(fminf(fmaxf(left + 1.0f, 0.0f), last_x));
  const int top_row = level.start + static_cast<int>(fminf(fmaxf(top, 0.0f), last_y)) * level.columns;
  const int bottom_row = level.start + static_cast<int>(fminf(fmaxf(top + 1.0f, 0.0f), last_y)) * level.columns;
  return {make_float4(top_weight * left_weight, top_weight * right_weight, bottom_weight * left_weight,
                      bottom_weight * right_weight),
          make_int4(top_row + x0, top_row + x1, bottom_row + x0, bottom_row + x1)};
}

// Weighted sum of four rows' packs into the accumulator.
template <typename T>
SPARSE_DETR_HD void accumulate(const uint4 (&rows)[4], const float4& weight, float (&sum)[Pack<T>::kWidth]) {
  const float weights[4] = {weight.x, weight.y, weight.z, weight.w};
#pragma unroll
  for (int corner = 0; corner < 4; ++corner) {
    float values[Pack<T>::kWidth];
    Pack<T>::unpack(rows[corner], values);
#pragma unroll
    for (int i = 0; i < Pack<T>::kWidth; ++i) sum[i] += weights[corner] * values[i];
  }
}

}  // namespace sparse_detr
