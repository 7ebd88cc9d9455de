// Arithmetic of exact token selection: keys whose order as unsigned integers is the order of the scores, and which
// digit of a radix select holds the last kept score.
#pragma once

#include "numeric.h"

namespace sparse_detr {

constexpr int kDigitBits = 8;
constexpr int kDigits = 1 << kDigitBits;

// Passes of 8 bits that tell all scores of a type apart: a float16 has 19 significant bits as a float32, a bfloat16 16.
template <typename T>
struct KeyShape;
template <>
struct KeyShape<float> {
  static constexpr int kPasses = 4;
};
template <>
struct KeyShape<__half> {
  static constexpr int kPasses = 3;
};
template <>
struct KeyShape<__nv_bfloat16> {
  static constexpr int kPasses = 2;
};

// Higher scores have higher keys, as torch sorts: NaN above all and equal to NaN, -0 equal to 0.
template <typename T>
SPARSE_DETR_HD uint32_t score_key(T value) {
  const float score = to_float(value);
  const uint32_t bits = score == 0.0f ? 0u : bit_cast<uint32_t>(score);
  const uint32_t key = score != score ? 0xffffffffu : (bits & 0x80000000u) ? ~bits : bits | 0x80000000u;
  return key >> (32 - kDigitBits * KeyShape<T>::kPasses);
}

// Below the key of every score: what stands for a token that is not there. Never at or above a threshold.
constexpr uint32_t kNoKey = 0;

// A score is kept if its key is above `key`, or equal and among the first `ties` such scores.
struct Threshold {
  uint32_t key;
  int ties;
};

// How an image's tokens fill `width` places: each kept token `times` times, the highest `extra` of them once more.
struct Repetition {
  int times, extra;
};

SPARSE_DETR_HD Repetition repetition(int width, int kept) { return {width / kept, width % kept}; }

SPARSE_DETR_HD int clamp_count(int64_t count, int tokens, int width) {
  const int most = tokens < width ? tokens : width;
  return count < 1 ? 1 : count > most ? most : static_cast<int>(count);
}

}  // namespace sparse_detr
