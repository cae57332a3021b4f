// CUDA C++ for the host's compiler: the text of a kernel, behind this, becomes a shared object whose functions are run
// by generated.cpp on fibers, a thread at a time. Includes nothing, so that it compiles in a blink.
#pragma once

#define HALFSTEP_ON_HOST 1
#define __global__
#define __device__
#define __forceinline__ inline
#define __grid_constant__
#define __launch_bounds__(...)
#define __restrict__ __restrict
// One copy for all threads of a block, which are fibers of one thread, and blocks run one after the other. Of a thread,
// so that generated.cpp finds how much there is.
#define __shared__ static thread_local

struct OnHostDim {
  unsigned int x, y, z;
};
extern "C" {
// Set by generated.cpp whenever a thread goes on.
OnHostDim threadIdx, blockIdx, blockDim, gridDim;
void (*on_host_block_barrier)();
void (*on_host_warp_barrier)();
unsigned long long on_host_exchange[1024];  // a place for each thread of a block

float expf(float);
float expm1f(float);
float logf(float);
float log1pf(float);
float sqrtf(float);
double sqrt(double);
double log(double);
double sin(double);
double cos(double);
float powf(float, float);
float fmodf(float, float);
float fabsf(float);
float floorf(float);
float ceilf(float);
float rintf(float);
float copysignf(float, float);
float erff(float);
float sinf(float);
float cosf(float);
float tanf(float);
float asinf(float);
float acosf(float);
float atanf(float);
float sinhf(float);
float coshf(float);
float tanhf(float);
float asinhf(float);
float acoshf(float);
float atanhf(float);
}

inline float __uint_as_float(unsigned int bits) { return __builtin_bit_cast(float, bits); }
inline unsigned int __float_as_uint(float x) { return __builtin_bit_cast(unsigned int, x); }
inline unsigned int __umulhi(unsigned int a, unsigned int b) {
  return static_cast<unsigned int>((static_cast<unsigned long long>(a) * b) >> 32);
}

inline float on_host_half_to_float(unsigned short h) {
  const unsigned int sign = (h & 0x8000u) << 16, magnitude = h & 0x7fffu;
  if (magnitude >= 0x7c00u) return __uint_as_float(sign | 0x7f800000u | (magnitude & 0x3ffu) << 13);
  const float scaled = __uint_as_float(magnitude << 13) * 0x1p112f;  // subnormal halves become normal floats
  return __uint_as_float(sign | __float_as_uint(scaled));
}
inline unsigned short on_host_float_to_half(float x) {
  const unsigned int bits = __float_as_uint(x), sign = bits >> 16 & 0x8000u;
  const unsigned int magnitude = bits & 0x7fffffffu;
  if (magnitude > 0x7f800000u) return static_cast<unsigned short>(sign | 0x7e00u);
  if (magnitude >= 0x477ff000u) return static_cast<unsigned short>(sign | 0x7c00u);  // rounds to 2^16 or more
  if (magnitude < 0x38800000u)  // subnormal: adding 0.5 leaves the code in the last bits, rounded to nearest even
    return static_cast<unsigned short>(sign | (__float_as_uint(__uint_as_float(magnitude) + 0.5f) - 0x3f000000u));
  const unsigned int odd = magnitude >> 13 & 1u;
  return static_cast<unsigned short>(sign | ((magnitude - 0x38000000u + 0xfffu + odd) >> 13));
}

inline void __syncthreads() { on_host_block_barrier(); }
inline void __syncwarp(unsigned int = 0xffffffffu) { on_host_warp_barrier(); }

inline int __ffs(int x) { return __builtin_ffs(x); }
inline int __syncthreads_or(int value) {
  on_host_exchange[threadIdx.x] = value != 0;
  on_host_block_barrier();
  unsigned long long any = 0;
  for (unsigned int t = 0; t < blockDim.x; ++t) any |= on_host_exchange[t];
  on_host_block_barrier();
  return any != 0;
}
inline unsigned int __ballot_sync(unsigned int, bool value) {
  on_host_exchange[threadIdx.x] = value;
  on_host_warp_barrier();
  unsigned int bits = 0;
  const unsigned int first = threadIdx.x & ~31u;
  for (unsigned int lane = 0; lane < 32 && first + lane < blockDim.x; ++lane)
    bits |= static_cast<unsigned int>(on_host_exchange[first + lane]) << lane;
  on_host_warp_barrier();
  return bits;
}

/// What lane `lane` of this thread's warp gives, its own value where there is none.
template <class T>
T on_host_shuffle(T value, unsigned int lane) {
  static_assert(sizeof(T) <= sizeof(unsigned long long));
  const unsigned int here = threadIdx.x, there = lane < 32 ? (here & ~31u) + lane : here;
  __builtin_memcpy(&on_host_exchange[here], &value, sizeof value);
  on_host_warp_barrier();
  if (there < blockDim.x) __builtin_memcpy(&value, &on_host_exchange[there], sizeof value);
  on_host_warp_barrier();
  return value;
}
template <class T>
T __shfl_xor_sync(unsigned int, T value, unsigned int mask) {
  return on_host_shuffle(value, (threadIdx.x & 31u) ^ mask);
}

// Threads of a block take turns only at barriers, so a plain read and write is atomic.
template <class T>
T atomicExch(T* at, T value) {
  const T before = *at;
  *at = value;
  return before;
}
