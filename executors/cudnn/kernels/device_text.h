// What every generated kernel begins with: types and conversions. The text is CUDA C++ for NVRTC without any header of
// the toolkit; the host's compiler takes it as well.
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
// Of libdevice. Behind assembly NVRTC would not see that pointers read from memory are those of global memory.
extern "C" __device__ float __nv_half2float(unsigned short bits);
extern "C" __device__ unsigned short __nv_float2half_rn(float x);
static __device__ __forceinline__ float load(f16 x) { return __nv_half2float(x.bits); }
static __device__ __forceinline__ unsigned short half_bits(float x) { return __nv_float2half_rn(x); }
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

// Sums of integers wrap.
static __device__ __forceinline__ float add(float a, float b) { return a + b; }
template <class T> static __device__ __forceinline__ T add(T a, T b) { return (T)((u64)a + (u64)b); }
)text";

}  // namespace halfstep::cudnn
