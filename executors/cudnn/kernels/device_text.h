// What every generated kernel begins with: types, conversions, and the functions that formulas are written in. The text
// is CUDA C++ for NVRTC without any header of the toolkit; the host's compiler takes it as well.
#pragma once

#include <string_view>

namespace halfstep::cudnn {

inline constexpr std::string_view kDeviceText = R"text(
typedef long long i64;
typedef unsigned long long u64;
typedef unsigned int u32;
struct f16 { unsigned short bits; };
struct bf16 { unsigned short bits; };

// Elements in memory and values in arithmetic: float for every float type.
static __device__ __forceinline__ float bits_to_float(u32 bits) { return __uint_as_float(bits); }
static __device__ __forceinline__ float load(float x) { return x; }
static __device__ __forceinline__ int load(int x) { return x; }
static __device__ __forceinline__ i64 load(i64 x) { return x; }
static __device__ __forceinline__ bool load(bool x) { return x; }
static __device__ __forceinline__ float load(bf16 x) { return bits_to_float((u32)x.bits << 16); }
#ifdef HALFSTEP_ON_HOST
static float load(f16 x) { return on_host_half_to_float(x.bits); }
static unsigned short half_bits(float x) { return on_host_float_to_half(x); }
#else
static __device__ __forceinline__ float load(f16 x) {
  float y;
  asm("cvt.f32.f16 %0, %1;" : "=f"(y) : "h"(x.bits));
  return y;
}
static __device__ __forceinline__ unsigned short half_bits(float x) {
  unsigned short y;
  asm("cvt.rn.f16.f32 %0, %1;" : "=h"(y) : "f"(x));
  return y;
}
#endif

// Rounds to nearest even where the type is narrower; float to integer truncates, what is out of range to the nearest
// that is not, and NaN to 0; to bool is != 0.
template <class T> struct Rounding;
template <> struct Rounding<float> { template <class From> static __device__ float of(From x) { return (float)x; } };
template <> struct Rounding<f16> {
  template <class From> static __device__ f16 of(From x) { f16 y; y.bits = half_bits((float)x); return y; }
};
template <> struct Rounding<bf16> {
  template <class From> static __device__ bf16 of(From from) {
    const float x = (float)from;
    const u32 bits = __float_as_uint(x);
    bf16 y;
    y.bits = x != x ? (unsigned short)(bits >> 16 | 0x40) : (unsigned short)((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
    return y;
  }
};
template <> struct Rounding<bool> { template <class From> static __device__ bool of(From x) { return x != (From)0; } };
template <> struct Rounding<int> {
  static __device__ int of(float x) {
    return x != x ? 0 : x <= -2147483648.0f ? (int)0x80000000u : x >= 2147483648.0f ? 0x7fffffff : (int)x;
  }
  static __device__ int of(i64 x) { return (int)x; }
  static __device__ int of(int x) { return x; }
  static __device__ int of(bool x) { return x; }
};
template <> struct Rounding<i64> {
  static __device__ i64 of(float x) {
    return x != x                          ? 0
           : x <= -9223372036854775808.0f ? (i64)0x8000000000000000ull
           : x >= 9223372036854775808.0f  ? 0x7fffffffffffffffll
                                           : (i64)x;
  }
  static __device__ i64 of(i64 x) { return x; }
  static __device__ i64 of(int x) { return x; }
  static __device__ i64 of(bool x) { return x; }
};
template <class T, class From>
static __device__ __forceinline__ T round_to(From x) { return Rounding<T>::of(x); }

// Elements that are moved at once.
template <class T, int V>
struct alignas(sizeof(T) * V) Vector { T at[V]; };
template <class T, int V, class I>
static __device__ __forceinline__ Vector<T, V> read(const void* p, I i) {
  return *reinterpret_cast<const Vector<T, V>*>(static_cast<const T*>(p) + i);
}
template <class T, int V, class I>
static __device__ __forceinline__ void write(void* p, I i, const Vector<T, V>& v) {
  *reinterpret_cast<Vector<T, V>*>(static_cast<T*>(p) + i) = v;
}

// Integers wrap; a division by zero gives zero, as no exception can be raised.
static __device__ __forceinline__ float add(float a, float b) { return a + b; }
static __device__ __forceinline__ float sub(float a, float b) { return a - b; }
static __device__ __forceinline__ float mul(float a, float b) { return a * b; }
static __device__ __forceinline__ float divide(float a, float b) { return a / b; }
static __device__ __forceinline__ float negate(float a) { return -a; }
static __device__ __forceinline__ float absolute(float a) { return fabsf(a); }
template <class T> static __device__ __forceinline__ T add(T a, T b) { return (T)((u64)a + (u64)b); }
template <class T> static __device__ __forceinline__ T sub(T a, T b) { return (T)((u64)a - (u64)b); }
template <class T> static __device__ __forceinline__ T mul(T a, T b) { return (T)((u64)a * (u64)b); }
template <class T> static __device__ __forceinline__ T negate(T a) { return (T)(0ull - (u64)a); }
template <class T> static __device__ __forceinline__ T absolute(T a) { return a < 0 ? negate(a) : a; }
template <class T> static __device__ __forceinline__ T divide(T a, T b) {
  return b == 0 ? (T)0 : b == -1 ? negate(a) : a / b;
}
static __device__ __forceinline__ float remainder_of(float a, float b) { return fmodf(a, b); }
template <class T> static __device__ __forceinline__ T remainder_of(T a, T b) {
  return b == 0 || b == -1 ? (T)0 : a % b;
}
static __device__ __forceinline__ float floored_remainder(float a, float b) {
  const float r = fmodf(a, b);
  if (r == 0) return copysignf(r, b);
  return (r < 0) != (b < 0) ? r + b : r;
}
template <class T> static __device__ __forceinline__ T floored_remainder(T a, T b) {
  const T r = remainder_of(a, b);
  return r != 0 && (r < 0) != (b < 0) ? r + b : r;
}
template <class T> static __device__ __forceinline__ T smaller(T a, T b) { return a != a || a < b ? a : b; }
template <class T> static __device__ __forceinline__ T larger(T a, T b) { return a != a || a > b ? a : b; }
template <class T> static __device__ __forceinline__ T sign(T x) { return x > 0 ? (T)1 : x < 0 ? (T)-1 : x; }
template <class T> static __device__ __forceinline__ T relu(T x) { return x < (T)0 ? (T)0 : x; }
// base^exponent; a negative exponent gives the truncated reciprocal.
static __device__ inline i64 integer_power(i64 base, i64 exponent) {
  if (exponent < 0) {
    if (base != 1 && base != -1) return 0;
    exponent &= 1;
  }
  u64 result = 1;
  for (u64 b = (u64)base; exponent > 0; exponent >>= 1, b *= b)
    if (exponent & 1) result *= b;
  return (i64)result;
}
static __device__ __forceinline__ float between_0_and_1(float x) { return x < 0.0f ? 0.0f : x > 1.0f ? 1.0f : x; }
static __device__ __forceinline__ float logistic(float x) {
  const float e = expf(-fabsf(x));
  return x != x ? x : x >= 0 ? 1.0f / (1.0f + e) : e / (1.0f + e);
}
static __device__ __forceinline__ float softplus(float x) {
  return x != x ? x : (x > 0 ? x : 0.0f) + log1pf(expf(-fabsf(x)));
}
static __device__ __forceinline__ float gelu(float x) { return 0.5f * x * erfcf(-x * 0.70710678f); }
static __device__ __forceinline__ float gelu_tanh(float x) {
  return 0.5f * x * (1.0f + tanhf(0.79788456f * (x + 0.044715f * x * x * x)));
}
static __device__ __forceinline__ bool is_infinite(float x) { return fabsf(x) > 3.4028234e38f; }
static __device__ __forceinline__ float gelu_slope(float x) {
  if (is_infinite(x)) return x > 0 ? 1.0f : 0.0f;
  return 0.5f * erfcf(-x * 0.70710678f) + x * (expf(-0.5f * x * x) * 0.39894228f);
}
static __device__ __forceinline__ float gelu_tanh_slope(float x) {
  if (is_infinite(x)) return x > 0 ? 1.0f : 0.0f;
  const float t = tanhf(0.79788456f * (x + 0.044715f * x * x * x));
  const float rest = 1.0f - t * t;
  return 0.5f * (1.0f + t + (rest == 0 ? 0.0f : x * rest * 0.79788456f * (1.0f + 0.134145f * x * x)));
}
)text";

}  // namespace halfstep::cudnn
