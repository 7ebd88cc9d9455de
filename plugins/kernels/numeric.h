// Number types of the kernels: 16 bytes of values to and from float32, the type of all arithmetic.
#pragma once

#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include <cstdint>
#include <cstring>

#define SPARSE_DETR_HD __host__ __device__ __forceinline__

namespace sparse_detr {

template <typename To, typename From>
SPARSE_DETR_HD To bit_cast(const From& from) {
  static_assert(sizeof(To) == sizeof(From), "a bit cast keeps the size");
  To to;
  memcpy(static_cast<void*>(&to), static_cast<const void*>(&from), sizeof to);
  return to;
}

SPARSE_DETR_HD float to_float(float x) { return x; }
SPARSE_DETR_HD float to_float(__half x) { return __half2float(x); }
SPARSE_DETR_HD float to_float(__nv_bfloat16 x) { return __bfloat162float(x); }

// Two neighbouring values, in one load.
SPARSE_DETR_HD float2 load_pair(const float* source) { return *reinterpret_cast<const float2*>(source); }
SPARSE_DETR_HD float2 load_pair(const __half* source) {
  return __half22float2(*reinterpret_cast<const __half2*>(source));
}
SPARSE_DETR_HD float2 load_pair(const __nv_bfloat16* source) {
  return __bfloat1622float2(*reinterpret_cast<const __nv_bfloat162*>(source));
}

// 16 bytes: four float32 or eight 16-bit values.
template <typename T>
struct Pack {
  static constexpr int kWidth = 16 / sizeof(T);

  SPARSE_DETR_HD static void unpack(const uint4& bits, float (&values)[kWidth]) {
    const uint32_t words[4] = {bits.x, bits.y, bits.z, bits.w};
#pragma unroll
    for (int i = 0; i < 4; ++i) unpack_word(words[i], values, i, T());
  }

  SPARSE_DETR_HD static uint4 pack(const float (&values)[kWidth]) {
    uint32_t words[4];
#pragma unroll
    for (int i = 0; i < 4; ++i) words[i] = pack_word(values, i, T());
    return make_uint4(words[0], words[1], words[2], words[3]);
  }

 private:
  SPARSE_DETR_HD static void unpack_word(uint32_t word, float* values, int i, float) {
    values[i] = bit_cast<float>(word);
  }
  SPARSE_DETR_HD static void unpack_word(uint32_t word, float* values, int i, __half) {
    const float2 pair = __half22float2(bit_cast<__half2>(word));
    values[2 * i] = pair.x;
    values[2 * i + 1] = pair.y;
  }
  // A bfloat16 is the upper half of a float32.
  SPARSE_DETR_HD static void unpack_word(uint32_t word, float* values, int i, __nv_bfloat16) {
    values[2 * i] = bit_cast<float>(word << 16);
    values[2 * i + 1] = bit_cast<float>(word & 0xffff0000u);
  }
  SPARSE_DETR_HD static uint32_t pack_word(const float* values, int i, float) { return bit_cast<uint32_t>(values[i]); }
  SPARSE_DETR_HD static uint32_t pack_word(const float* values, int i, __half) {
    return bit_cast<uint32_t>(__floats2half2_rn(values[2 * i], values[2 * i + 1]));
  }
  SPARSE_DETR_HD static uint32_t pack_word(const float* values, int i, __nv_bfloat16) {
    return bit_cast<uint32_t>(__floats2bfloat162_rn(values[2 * i], values[2 * i + 1]));
  }
};

}  // namespace sparse_detr
