// Stands in for torch's header of this name: sums of half-precision numbers are float32.
#pragma once

#include "ATen.h"

namespace at {

template <typename T>
struct OpMathType {
  using type = T;
};
template <>
struct OpMathType<__half> {
  using type = float;
};
template <>
struct OpMathType<__nv_bfloat16> {
  using type = float;
};
template <typename T>
using opmath_type = typename OpMathType<T>::type;

}  // namespace at
