// A half-precision number that computes as torch's own type does: each operation in float32, each result rounded.
#pragma once

#include <cuda_fp16.h>

class Rounded {
 public:
  Rounded() = default;
  __host__ __device__ Rounded(float number) : number_(__float2half(number)) {}
  __host__ __device__ Rounded(double number) : Rounded(static_cast<float>(number)) {}
  __host__ __device__ Rounded(int number) : Rounded(static_cast<float>(number)) {}
  __host__ __device__ operator float() const { return __half2float(number_); }
  __host__ __device__ Rounded& operator+=(float number) { return *this = Rounded(static_cast<float>(*this) + number); }

 private:
  __half number_;
};

static_assert(sizeof(Rounded) == 2, "lies in memory as a float16");
