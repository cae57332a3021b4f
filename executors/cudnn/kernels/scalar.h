// Scalars as kernels see them. Everything in this folder but the .cuh file and the texts is plain C++ as well: the same
// functors run on the device by one thread an index, and on the host in a loop.
#pragma once

#include <cmath>
#include <cstdint>
#include <limits>
#include <type_traits>

#include <halfstep/base/half.h>

#ifdef __CUDACC__
#include <cuda_bf16.h>
#include <cuda_fp16.h>
#define HALFSTEP_HD __host__ __device__
#else
#define HALFSTEP_HD
#endif

namespace halfstep::cudnn {

/// The type arithmetic on T happens in: float for every float type of the device, T itself for integers.
template <class T>
using Compute = std::conditional_t<std::is_integral_v<T>, T, float>;

HALFSTEP_HD inline float load(float x) { return x; }
HALFSTEP_HD inline std::int32_t load(std::int32_t x) { return x; }
HALFSTEP_HD inline std::int64_t load(std::int64_t x) { return x; }
HALFSTEP_HD inline bool load(bool x) { return x; }
HALFSTEP_HD inline float load(f16 x) {
#ifdef __CUDA_ARCH__
  return __half2float(__ushort_as_half(x.bits));
#else
  return static_cast<float>(x);
#endif
}
HALFSTEP_HD inline float load(bf16 x) {
#ifdef __CUDA_ARCH__
  return __uint_as_float(static_cast<std::uint32_t>(x.bits) << 16);
#else
  return static_cast<float>(x);
#endif
}

template <class T>
inline constexpr T kLeast = std::numeric_limits<T>::min();
template <class T>
inline constexpr T kGreatest = std::numeric_limits<T>::max();

/// Rounds to nearest even where T is narrower; float → integer truncates, what is out of range to the nearest that is
/// not, and NaN to 0; → bool is != 0.
template <class T, class From>
HALFSTEP_HD inline T round_to(From x) {
  if constexpr (std::is_same_v<T, f16>) {
#ifdef __CUDA_ARCH__
    T y;
    y.bits = __half_as_ushort(__float2half_rn(static_cast<float>(x)));
    return y;
#else
    return f16(static_cast<float>(x));
#endif
  } else if constexpr (std::is_same_v<T, bf16>) {
#ifdef __CUDA_ARCH__
    T y;
    y.bits = __bfloat16_as_ushort(__float2bfloat16_rn(static_cast<float>(x)));
    return y;
#else
    return bf16(static_cast<float>(x));
#endif
  } else if constexpr (std::is_same_v<T, bool>) {
    return x != From(0);
  } else if constexpr (std::is_integral_v<T> && std::is_floating_point_v<From>) {
    if (x != x) return T(0);
    if (x <= static_cast<From>(kLeast<T>)) return kLeast<T>;
    if (x >= static_cast<From>(kGreatest<T>)) return kGreatest<T>;
    return static_cast<T>(x);
  } else {
    return static_cast<T>(x);
  }
}

}  // namespace halfstep::cudnn
