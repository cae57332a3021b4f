// What attention and its gradient share: the blocks they work on, the products of a block, and a thread's memory.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include <omp.h>

#include "executors/onednn/kernels/attention_product.h"
#include "executors/onednn/simd/attention.h"
#include "ops/attention/fused_attention.h"

namespace halfstep::onednn::attention {

using ops::FusedAttentionConfig;
using ops::RowView;

/// Queries of a block, and how many keys they see at most.
struct Block {
  std::int64_t first, queries, keys;
};
std::vector<Block> blocks_of(const FusedAttentionConfig& c);

/// An operand of products: rows where they lie, or, of a type that is not multiplied, a copy of a head's.
struct Source {
  RowView view;
  std::int64_t rows = 0, width = 0;
  DType type = DType::f32;
  simd::RowCastFn widen = nullptr;  ///< set where it is copied

  Source() = default;
  Source(const ops::RowSet& set, DType stored, DType computed)
      : view(*set.view), rows(set.extents[3]), width(set.width), type(stored) {
    if (stored != computed) widen = simd::find_row_widen(stored);
  }
  std::int64_t row() const { return widen ? width : view.strides[3]; }
  std::size_t copy_bytes() const { return widen ? static_cast<std::size_t>(rows * width) * sizeof(float) : 0; }
  const char* at(const void* tensor, std::int64_t b, std::int64_t h, std::int64_t g) const {
    return static_cast<const char*>(tensor) + static_cast<std::size_t>(view.start(b, h, g)) * bytes_of(type, 1);
  }
  /// Has a share of a head's rows loaded into the cache: they may lie too far apart for a CPU to do it by itself.
  void fetch(const void* tensor, std::int64_t b, std::int64_t h, std::int64_t g, std::size_t share,
             std::size_t shares) const {
    constexpr std::int64_t kLine = 64;
    const auto n = static_cast<std::int64_t>(shares), first = rows * static_cast<std::int64_t>(share) / n;
    const auto size = static_cast<std::int64_t>(bytes_of(type, 1)), step = view.strides[3] * size;
    const char* from = at(tensor, b, h, g) + first * step;
    for (std::int64_t left = rows * static_cast<std::int64_t>(share + 1) / n - first; left > 0; --left, from += step)
      for (std::int64_t byte = 0; byte < width * size; byte += kLine) __builtin_prefetch(from + byte);
  }
  /// The first row of a head, copied where it has to be.
  const char* read(const void* tensor, void* copy, std::int64_t b, std::int64_t h, std::int64_t g) const {
    const char* from = at(tensor, b, h, g);
    if (!widen) return from;
    widen(from, view.strides[3], copy, width, rows, width);
    return static_cast<const char*>(copy);
  }
};

/// A result of products: f32 where it lies, or rounded from an f32 copy of `rows` rows.
struct Target {
  RowView view;
  std::int64_t rows = 0, width = 0;
  DType type = DType::f32;
  simd::RowCastFn narrow = nullptr;

  Target() = default;
  Target(const ops::RowSet& set, DType stored, std::int64_t at_a_time)
      : view(*set.view), rows(at_a_time), width(set.width), type(stored) {
    if (stored != DType::f32) narrow = simd::find_row_narrow(stored);
  }
  std::int64_t row() const { return narrow ? width : view.strides[3]; }
  std::size_t copy_bytes() const { return narrow ? static_cast<std::size_t>(rows * width) * sizeof(float) : 0; }
  char* at(void* tensor, std::int64_t b, std::int64_t h, std::int64_t g, std::int64_t row) const {
    return static_cast<char*>(tensor) + static_cast<std::size_t>(view.start(b, h, g, row)) * bytes_of(type, 1);
  }
  void* open(void* tensor, void* copy, std::int64_t b, std::int64_t h, std::int64_t g, std::int64_t row = 0) const {
    return narrow ? copy : at(tensor, b, h, g, row);
  }
  void close(void* tensor, const void* copy, std::int64_t n, std::int64_t b, std::int64_t h, std::int64_t g,
             std::int64_t row = 0) const {
    if (narrow) narrow(copy, width, at(tensor, b, h, g, row), view.strides[3], n, width);
  }
};

/// Pieces of the memory that a thread has for itself.
class Pieces {
 public:
  std::size_t add(std::size_t bytes) {
    const std::size_t at = size_;
    size_ += (bytes + 63) / 64 * 64;
    return at;
  }
  std::size_t size() const { return size_; }

 private:
  std::size_t size_ = 0;
};

/// What forward and backward kernels have in common.
struct Plan {
  FusedAttentionConfig c;
  DType stored, computed;  ///< the tensors' type, and that of the products' operands
  std::vector<Block> blocks = blocks_of(c);
  Source q = Source(rows_of_q(c), stored, computed), k = Source(rows_of_k(c), stored, computed),
         v = Source(rows_of_v(c), stored, computed);
  std::vector<ThreadProduct> products = {};
  struct Operands {
    ThreadMatrix a, b, y;
    bool adds;
    bool operator==(const Operands&) const = default;
  };
  std::vector<Operands> made = {};  ///< of each product

  struct Head {
    std::int64_t b, h, g;
  };
  Head head(std::int64_t index) const {
    return {index / c.group / c.heads, index / c.group % c.heads, index % c.group};
  }
  /// The index of a product. Blocks of the same extents have the same.
  std::size_t add(const ThreadMatrix& a, const ThreadMatrix& b, const ThreadMatrix& y, bool adds = false) {
    const Operands operands{a, b, y, adds};
    const auto known = std::ranges::find(made, operands);
    if (known != made.end()) return static_cast<std::size_t>(known - made.begin());
    made.push_back(operands);
    products.push_back(ThreadProduct::make(a, b, y, adds));
    return products.size() - 1;
  }
  bool complete() const {
    return std::ranges::all_of(products, [](const ThreadProduct& p) { return static_cast<bool>(p); });
  }
  std::size_t product_scratch() const {
    std::size_t most = 0;
    for (const ThreadProduct& p : products) most = std::max(most, p.scratch_bytes());
    return most;
  }
  std::int64_t most_queries() const {
    std::int64_t most = 0;
    for (const Block& b : blocks) most = std::max(most, b.queries);
    return most;
  }
  std::size_t score_bytes(DType type) const {
    return bytes_of(type, static_cast<std::size_t>(most_queries() * c.keys));
  }
};

ThreadMatrix matrix(const Source& s, std::int64_t rows, DType type);
ThreadMatrix matrix(const Target& t, std::int64_t rows);
ThreadMatrix score_matrix(const Block& b, DType type);

simd::ScoreRows score_rows(const FusedAttentionConfig& c, const Block& block, float* scores, const float* mask,
                           std::int64_t b, std::int64_t h, std::int64_t g);

/// Calls body(thread, block) for all blocks; at most `threads` threads.
template <class Body>
void for_heads(std::int64_t blocks, int threads, const Body& body) {
  if (omp_in_parallel() || threads == 1) {
    for (std::int64_t i = 0; i < blocks; ++i) body(0, i);
    return;
  }
#pragma omp parallel for schedule(static) num_threads(threads)
  for (std::int64_t i = 0; i < blocks; ++i) body(omp_get_thread_num(), i);
}

/// What keeps a node from having a kernel here, or empty; `first` is the index of its first operand.
std::string refusal(KernelContext& context, const FusedAttentionConfig& c, std::size_t first);

/// Types to multiply in, best first.
std::vector<DType> product_types(DType stored);

}  // namespace halfstep::onednn::attention
