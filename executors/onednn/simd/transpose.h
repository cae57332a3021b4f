// Transposing a tile that fits the first-level cache.
#pragma once

#include <cstddef>
#include <cstdint>

namespace halfstep::simd {

/// to[t * to_step + i] = from[i * from_step + t], for elements of 1, 2, 4 or 8 bytes.
void transpose(std::size_t element_bytes, const void* from, std::int64_t from_step, void* to, std::int64_t to_step,
               std::int64_t columns, std::int64_t rows);

}  // namespace halfstep::simd
