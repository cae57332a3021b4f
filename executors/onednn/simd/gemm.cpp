#include "executors/onednn/simd/gemm.h"

#include <algorithm>

#include <omp.h>

#include "executors/onednn/simd/parallel.h"

namespace halfstep::simd {
namespace {

// A block of b stays in the last cache, one of a in the second, and a tile's part of b in the first.
constexpr std::int64_t kDepth = 256, kRows = 144, kColumns = 2048;
constexpr std::int64_t kTogether = 4;  // panels of b that are packed together
constexpr std::int64_t kAlign = 16;    // floats of a cache line

std::int64_t round_up(std::int64_t n, std::int64_t size) { return blocks_of(n, size) * size; }
/// From one copied row of a to the next: they lie in different sets of the cache.
std::int64_t line_of(std::int64_t depth) { return round_up(depth, kAlign) + kAlign; }

/// The calling thread.
struct Alone {
  template <class Body>
  void share(std::int64_t count, const Body& body) const {
    for (std::int64_t i = 0; i < count; ++i) body(i, 0);
  }
};
/// All threads of a region, each a contiguous share; the next share begins when all have ended theirs.
struct Together {
  template <class Body>
  void share(std::int64_t count, const Body& body) const {
    const std::int64_t thread = omp_get_thread_num(), threads = omp_get_num_threads();
    for (std::int64_t i = count * thread / threads; i < count * (thread + 1) / threads; ++i) body(i, thread);
#pragma omp barrier
  }
};

template <class Void>
Void* element(Void* base, DType dtype, std::int64_t i) {
  return at(base, i, bytes_of(dtype, 1));
}

}  // namespace

/// Rows [row, row + rows) and columns [column, column + columns) of y, over [k, k + depth).
struct Gemm::Block {
  std::int64_t row, rows, column, columns, k, depth;
  const void* a;
  const float* b;  ///< packed, or where the block's first row begins
  const float* addend;
  void* y;
  float* partial;
};

Gemm::Gemm(GemmProblem problem, int threads)
    : p_(std::move(problem)),
      kernels_(find_gemm_kernels(p_.result)),
      partial_(find_gemm_kernels(DType::f32)),
      pack_a_(find_gemm_pack(p_.a.dtype)),
      pack_b_(find_gemm_pack(p_.b.dtype)),
      threads_(std::max(threads, 1)) {
  a_by_rows_ = p_.a.column == 1;
  // Few columns, or few rows: copying the operand would take as long as reading it for them. Columns of a that lie
  // multiples of this apart share sets of the first cache.
  constexpr std::int64_t kCollision = 256;
  rows_direct_ = p_.a.dtype == DType::f32 && p_.n <= 4 * kernels_.columns &&
                 (a_by_rows_ || (p_.a.row == 1 && p_.a.column % kCollision != 0));
  columns_direct_ = p_.b.dtype == DType::f32 && p_.b.column == 1 && p_.alpha == 1 && p_.m <= 2 * kernels_.rows &&
                    p_.n % kernels_.columns == 0;
  depth_ = std::min(p_.k, kDepth);
  columns_ = std::min(round_up(p_.n, kernels_.columns), kColumns);
  stacked_ = static_cast<std::int64_t>(p_.stack.size()) >= threads_;
  // As many blocks of rows as there are threads, or a multiple.
  const std::int64_t team = stacked_ ? 1 : threads_;
  std::int64_t blocks = blocks_of(p_.m, kRows);
  if (blocks >= team) blocks = round_up(blocks, team);
  rows_ = round_up(blocks_of(p_.m, blocks), kernels_.rows);
  packed_b_ = columns_direct_ ? 0 : round_up(depth_ * columns_, kAlign);
  packed_a_ = rows_direct_ ? 0 : rows_ * line_of(depth_) + kAlign;
  partial_sums_ = p_.result != DType::f32 && p_.k > depth_ ? round_up(p_.m * columns_, kAlign) : 0;
  scratch_floats_ =
      stacked_ ? threads_ * (packed_b_ + packed_a_ + partial_sums_) : packed_b_ + threads_ * packed_a_ + partial_sums_;
}

void Gemm::multiply_block(const Block& block, float* packed_a) const {
  const std::int64_t tile_rows = kernels_.rows, tile_columns = kernels_.columns;
  const bool first = block.k == 0, last = block.k + block.depth == p_.k;
  GemmTile tile = {};
  tile.depth = block.depth;
  const void* from = element(block.a, p_.a.dtype, block.row * p_.a.row + block.k * p_.a.column);
  if (rows_direct_) {
    tile.a_row = p_.a.row;
    tile.a_step = p_.a.column;
  } else if (a_by_rows_) {
    tile.a_row = line_of(block.depth);
    tile.a_step = 1;
    pack_a_(from, p_.a.row, 1, block.rows, block.depth, tile.a_row, 1, packed_a);
  } else {
    tile.a_row = 1;
    tile.a_step = tile_rows;
    pack_a_(from, p_.a.column, p_.a.row, block.depth, block.rows, tile_rows, 1, packed_a);
  }
  tile.b_step = columns_direct_ ? p_.b.row : tile_columns;
  const float* a = rows_direct_ ? static_cast<const float*>(from) : packed_a;
  const bool to_partial = block.partial && !last;
  const auto& kernel = to_partial ? partial_ : kernels_;
  tile.y_row = to_partial ? columns_ : p_.y_row;

  for (std::int64_t j = 0; j < block.columns; j += tile_columns) {
    const std::int64_t n = std::min(tile_columns, block.columns - j);
    tile.b = columns_direct_ ? block.b + j : block.b + j * block.depth;
    for (std::int64_t i = 0; i < block.rows; i += tile_rows) {
      const std::int64_t m = std::min(tile_rows, block.rows - i), row = block.row + i, column = block.column + j;
      tile.a = a + (rows_direct_ || a_by_rows_ ? i * tile.a_row : i * block.depth);
      void* y = element(block.y, p_.result, row * p_.y_row + column);
      float* partial = block.partial ? block.partial + row * columns_ + (column % columns_) : static_cast<float*>(y);
      tile.y = to_partial ? partial : y;
      if (!first) {
        tile.plus = partial;
        tile.plus_row = block.partial ? columns_ : p_.y_row;
        tile.plus_column = 1;
      } else if (block.addend) {
        tile.plus = block.addend + row * p_.addend_row + column * p_.addend_column;
        tile.plus_row = p_.addend_row;
        tile.plus_column = p_.addend_column;
      }
      kernel.tile(tile, m, n);
    }
  }
  if (!last || !p_.last) return;
  for (std::int64_t i = block.row; i < block.row + block.rows; ++i) {
    void* y = element(block.y, p_.result, i * p_.y_row + block.column);
    p_.last(y, y, block.columns);
  }
}

template <class Team>
void Gemm::multiply(const Team& team, const GemmProblem::Offsets& at, const void* a, const void* b, const float* addend,
                    void* y, float* scratch) const {
  float* const packed_b = scratch;
  float* const packed_a = packed_b + packed_b_;
  float* const partial = partial_sums_ ? packed_a + (stacked_ ? 1 : threads_) * packed_a_ : nullptr;
  const std::int64_t row_blocks = blocks_of(p_.m, rows_);
  for (std::int64_t column = 0; column < p_.n; column += columns_) {
    const std::int64_t columns = std::min(columns_, p_.n - column), panels = blocks_of(columns, kernels_.columns);
    // Few rows: blocks of columns for the threads as well.
    const std::int64_t parts =
        std::is_same_v<Team, Alone> || row_blocks >= threads_ ? 1 : std::min(panels, blocks_of(threads_, row_blocks));
    for (std::int64_t k = 0; k < p_.k; k += depth_) {
      const std::int64_t depth = std::min(depth_, p_.k - k);
      const void* from = element(b, p_.b.dtype, at.b + k * p_.b.row + column * p_.b.column);
      const float* block_b = static_cast<const float*>(from);
      if (!columns_direct_) {
        block_b = packed_b;
        team.share(blocks_of(panels, kTogether), [&](std::int64_t i, std::int64_t) {
          const std::int64_t j = i * kTogether * kernels_.columns;
          pack_b_(element(from, p_.b.dtype, j * p_.b.column), p_.b.row, p_.b.column, depth,
                  std::min(kTogether * kernels_.columns, columns - j), kernels_.columns, p_.alpha,
                  packed_b + j * depth);
        });
      }
      team.share(row_blocks * parts, [&](std::int64_t i, std::int64_t thread) {
        const std::int64_t row = i / parts * rows_, part = i % parts;
        const std::int64_t begin = panels * part / parts * kernels_.columns;
        const std::int64_t end = std::min(panels * (part + 1) / parts * kernels_.columns, columns);
        const Block block{row,
                          std::min(rows_, p_.m - row),
                          column + begin,
                          end - begin,
                          k,
                          depth,
                          element(a, p_.a.dtype, at.a),
                          columns_direct_ ? block_b + begin : block_b + begin * depth,
                          addend,
                          element(y, p_.result, at.y),
                          partial};
        multiply_block(block, packed_a + thread * packed_a_);
      });
    }
  }
}

void Gemm::operator()(const void* a, const void* b, const float* addend, void* y, void* scratch) const {
  float* const memory = static_cast<float*>(scratch);
  const auto count = static_cast<std::int64_t>(p_.stack.size());
  // Multiplications that take about as long as a region.
  constexpr std::int64_t kWorth = 1 << 19;
  const bool alone = threads_ == 1 || omp_in_parallel() || p_.m * p_.n * p_.k * count < kWorth;
  if (alone) {
    for (const auto& at : p_.stack) multiply(Alone(), at, a, b, addend, y, memory);
  } else if (stacked_) {
    const std::int64_t each = packed_b_ + packed_a_ + partial_sums_;
#pragma omp parallel for schedule(static)
    for (std::int64_t i = 0; i < count; ++i)
      multiply(Alone(), p_.stack[i], a, b, addend, y, memory + omp_get_thread_num() * each);
  } else {
#pragma omp parallel
    for (const auto& at : p_.stack) multiply(Together(), at, a, b, addend, y, memory);
  }
}

}  // namespace halfstep::simd
