// CUDA C++ for the host's compiler: the text of a kernel, behind this, becomes a shared object whose functions are run
// by built_kernel.cpp on fibers, a thread at a time. The compiler adds calls as for its sanitizers, which are answered
// here: what a thread reads and writes, and whether an address is a multiple of what is read there, is known. Includes
// nothing, so that it compiles in a blink.
#pragma once

#define HALFSTEP_ON_HOST 1
#define __global__
#define __device__
#define __forceinline__ inline
#define __grid_constant__
#define __launch_bounds__(...)
#define __restrict__ __restrict
// One copy for all threads of a block, which are fibers of one thread, and blocks run one after the other. Of a thread,
// so that built_kernel.cpp finds where and how much there is.
#define __shared__ static thread_local

#define ON_HOST_OWN __attribute__((no_sanitize("thread")))  // accesses are not the kernel's

struct OnHostDim {
  unsigned int x, y, z;
};
extern "C" {
// Set by built_kernel.cpp, the indices whenever a thread goes on.
OnHostDim threadIdx, blockIdx, blockDim, gridDim;
void (*on_host_block_barrier)(int line);
void (*on_host_warp_barrier)(int line);
void (*on_host_warp_meeting)(int line);
void (*on_host_access)(const void*, unsigned long bytes, int kind);  // 0: read, 1: write, 2: atomic
void (*on_host_fault)(const char*);

// What each thread of a block gives to those of its warp, or of its block, that meet.
struct OnHostGiven {
  unsigned long long value;
  bool is_there;
} on_host_given[1024];

void __tsan_init() {}
ON_HOST_OWN void __tsan_func_entry(void*) {}
ON_HOST_OWN void __tsan_func_exit() {}
#define ON_HOST_ACCESSES(n)                                                       \
  ON_HOST_OWN void __tsan_read##n(void* p) { on_host_access(p, n, 0); }           \
  ON_HOST_OWN void __tsan_write##n(void* p) { on_host_access(p, n, 1); }          \
  ON_HOST_OWN void __tsan_unaligned_read##n(void* p) { on_host_access(p, n, 0); } \
  ON_HOST_OWN void __tsan_unaligned_write##n(void* p) { on_host_access(p, n, 1); }
ON_HOST_ACCESSES(1)
ON_HOST_ACCESSES(2)
ON_HOST_ACCESSES(4)
ON_HOST_ACCESSES(8)
ON_HOST_ACCESSES(16)
ON_HOST_OWN void __tsan_read_range(void* p, unsigned long bytes) { on_host_access(p, bytes, 0); }
ON_HOST_OWN void __tsan_write_range(void* p, unsigned long bytes) { on_host_access(p, bytes, 1); }
ON_HOST_OWN void __ubsan_handle_type_mismatch_v1(void*, unsigned long) {
  on_host_fault("accesses an address that is no multiple of what is there");
}
ON_HOST_OWN void __ubsan_handle_out_of_bounds(void*, unsigned long) {
  on_host_fault("indexes what is not in an array");
}
#define ON_HOST_UNDEFINED(name)                                                 \
  ON_HOST_OWN void __ubsan_handle_##name(void*, unsigned long, unsigned long) { \
    on_host_fault("computes an undefined number (" #name ")");                  \
  }
ON_HOST_UNDEFINED(add_overflow)
ON_HOST_UNDEFINED(sub_overflow)
ON_HOST_UNDEFINED(mul_overflow)
ON_HOST_UNDEFINED(negate_overflow)
ON_HOST_UNDEFINED(divrem_overflow)
ON_HOST_UNDEFINED(shift_out_of_bounds)
ON_HOST_UNDEFINED(float_cast_overflow)

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

ON_HOST_OWN inline void __syncthreads(int line = __builtin_LINE()) { on_host_block_barrier(line); }
ON_HOST_OWN inline void __syncwarp(unsigned int = 0xffffffffu, int line = __builtin_LINE()) {
  on_host_warp_barrier(line);
}

inline int __popc(unsigned int x) { return __builtin_popcount(x); }
// Threads of a warp that meet order no memory.
ON_HOST_OWN inline unsigned int __ballot_sync(unsigned int, bool value, int line = __builtin_LINE()) {
  on_host_given[threadIdx.x] = {value, true};
  on_host_warp_meeting(line);
  unsigned int bits = 0;
  const unsigned int first = threadIdx.x & ~31u;
  for (unsigned int lane = 0; lane < 32 && first + lane < blockDim.x; ++lane)
    if (on_host_given[first + lane].is_there)
      bits |= static_cast<unsigned int>(on_host_given[first + lane].value) << lane;
  on_host_warp_meeting(line);
  on_host_given[threadIdx.x].is_there = false;
  return bits;
}
template <class T>
ON_HOST_OWN T __shfl_xor_sync(unsigned int, T value, unsigned int mask, int line = __builtin_LINE()) {
  static_assert(sizeof(T) <= sizeof on_host_given[0].value);
  const unsigned int there = threadIdx.x ^ mask;
  OnHostGiven& given = on_host_given[threadIdx.x];
  __builtin_memcpy(&given.value, &value, sizeof value);
  given.is_there = true;
  on_host_warp_meeting(line);
  if (mask < 32 && there < blockDim.x && on_host_given[there].is_there)
    __builtin_memcpy(&value, &on_host_given[there].value, sizeof value);
  else
    on_host_fault("asks for the value of a lane that is not there");
  on_host_warp_meeting(line);
  given.is_there = false;
  return value;
}

// Threads of a block take turns only at barriers, so a plain read and write is atomic.
template <class T>
ON_HOST_OWN T atomicAdd(T* at, T value) {
  on_host_access(at, sizeof value, 2);
  const T before = *at;
  *at = before + value;
  return before;
}
