// Walking the innermost rows of a broadcast result, shared among threads.
#pragma once

#include <algorithm>
#include <array>
#include <cstdint>

#include "executors/onednn/simd/broadcast.h"
#include "executors/onednn/simd/parallel.h"

namespace halfstep::simd {

/// Elements [begin, begin + count) of one innermost row.
struct RowPiece {
  std::array<std::int64_t, Broadcast::kMaxOperands> offsets;  ///< of the row, in each operand
  std::int64_t begin, count;
  std::int64_t result;  ///< offset of the piece in the result
};

/// Calls body(RowPiece) for pieces that cover the result; `block` is about how many elements a thread takes at a time,
/// `bytes` the memory traffic in all.
template <class Body>
void for_row_pieces(const Broadcast& shape, std::int64_t block, std::int64_t bytes, const Body& body) {
  const std::int64_t inner = shape.inner(), rows = shape.rows();
  if (inner == 0 || rows == 0) return;
  if (inner >= block) {  // several pieces a row
    const std::int64_t pieces = blocks_of(inner, block);
    parallel_for(rows * pieces, bytes, [&](std::int64_t i) {
      const std::int64_t row = i / pieces, begin = i % pieces * block;
      body(RowPiece{shape.row_offsets(row), begin, std::min(block, inner - begin), row * inner + begin});
    });
    return;
  }
  const std::int64_t group = block / inner;  // several rows a piece of work
  parallel_for(blocks_of(rows, group), bytes, [&](std::int64_t i) {
    const std::int64_t end = std::min(rows, (i + 1) * group);
    for (std::int64_t row = i * group; row < end; ++row) body(RowPiece{shape.row_offsets(row), 0, inner, row * inner});
  });
}

}  // namespace halfstep::simd
