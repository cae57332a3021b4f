// Several elementwise functions in one pass over memory: each computes a piece of its result that stays in the cache
// for those that read it.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "executors/onednn/simd/broadcast.h"
#include "executors/onednn/simd/range_function.h"

namespace halfstep::simd {

/// A value of a chain: an operand, a result, or what lies between.
struct ChainValue {
  enum class Kind : std::uint8_t {
    whole,   ///< in memory, an element for each of the results'
    spread,  ///< in memory, broadcast to the results' shape
    single,  ///< in memory, one element for all
    tile,    ///< a piece of it in the cache
  };
  Kind kind = Kind::tile;
  std::uint8_t bytes = 4;  ///< of an element
  std::uint8_t walk = 0;   ///< of `spread`: which operand of the chain's Broadcast
};

/// One function: which values it reads and which it gives, as indices. Results are `whole` or `tile`.
struct ChainStep {
  RangeFunction function;
  std::array<std::uint8_t, 3> operands{};
  std::uint8_t result = 0;
};

/// The elements of a result come out the same whatever the number of threads.
class ChainKernel {
 public:
  static constexpr std::size_t kMaxValues = 128;

  /// `walk` has the results' extents and the operands that are `spread`. A step comes after those it reads from.
  ChainKernel(const Broadcast& walk, std::vector<ChainValue> values, std::vector<ChainStep> steps);

  /// `memory` has the address of each value, but of those in tiles. A result may lie where an operand lies that is
  /// `whole`, as wide, and read by no step behind the one that gives the result.
  void operator()(const std::vector<void*>& memory) const;

 private:
  struct Piece {
    std::int64_t row, rows;     ///< innermost rows of the result
    std::int64_t begin, count;  ///< elements of each of them
  };
  void plan_tiles();
  void run(const std::vector<void*>& memory, const Piece& piece) const;
  void run_by_rows(const ChainStep& step, std::byte* const* at, const Piece& piece) const;

  Broadcast walk_;
  std::vector<ChainValue> values_;
  std::vector<ChainStep> steps_;
  std::vector<bool> by_rows_;              // per step: it reads a value that is spread
  std::vector<std::size_t> tile_offsets_;  // per value: in units of elements times bytes
  std::int64_t tile_ = 0;                  // elements of a piece at most
  std::int64_t bytes_ = 0;                 // memory traffic
};

}  // namespace halfstep::simd
