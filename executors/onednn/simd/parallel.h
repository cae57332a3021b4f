// Work sharing for memory-bound kernels: OpenMP above a threshold, the calling thread below it.
#pragma once

#include <algorithm>
#include <cstdint>
#include <type_traits>

#include <omp.h>

namespace halfstep::simd {

/// Bytes of memory traffic that take about as long as entering and leaving a parallel region.
inline constexpr std::int64_t kParallelBytes = 128 * 1024;

/// Calls body(block) for every block in [0, blocks), each thread a contiguous share of them. `bytes` is the memory
/// traffic of all blocks together, which decides whether a parallel region pays. What a block computes must not depend
/// on the thread it runs on, so that results are the same for any number of threads. Every region has the default team
/// size: libgomp ends threads that a smaller team leaves over and would have to start them anew for the next primitive.
template <class Body>
void parallel_for(std::int64_t blocks, std::int64_t bytes, const Body& body) {
  if (blocks <= 1 || bytes < kParallelBytes || omp_in_parallel() || omp_get_max_threads() == 1) {
    for (std::int64_t block = 0; block < blocks; ++block) body(block);
    return;
  }
#pragma omp parallel for schedule(static)
  for (std::int64_t block = 0; block < blocks; ++block) body(block);
}

/// The number of blocks of `size` that cover n elements.
constexpr std::int64_t blocks_of(std::int64_t n, std::int64_t size) { return (n + size - 1) / size; }

/// The first byte of element i of an array whose elements take `size` bytes; const as the array is.
template <class Void>
Void* at(Void* array, std::int64_t i, std::size_t size) {
  using Byte = std::conditional_t<std::is_const_v<Void>, const char, char>;
  return static_cast<Byte*>(array) + i * static_cast<std::int64_t>(size);
}

}  // namespace halfstep::simd
