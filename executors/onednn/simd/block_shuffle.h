// Copying blocks of a tensor's elements, which change places within a block and blocks among themselves.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <vector>

namespace halfstep::simd {

/// What makes one block from another, 16 bytes at a time: each 16 of the target are picked from two 16 of the source.
struct ShuffleStep {
  std::int32_t from[2];        ///< where these begin, in bytes
  std::uint8_t picked[2][16];  ///< of each: the byte for every one of the target; 0x80 for none
};
/// Makes `count` blocks, `from_step` and `to_step` bytes apart.
using ShuffleFn = void (*)(const std::vector<ShuffleStep>& steps, const std::byte* from, std::int64_t from_step,
                           std::byte* to, std::int64_t to_step, std::int64_t count);

class BlockShuffle {
 public:
  /// How many blocks there are along an axis, and elements from one to the next.
  struct Axis {
    std::int64_t extent, from, to;
  };

  /// `sources`: for each element of a block of the target the one of the source's. Nothing where 16 bytes come from
  /// more than two places.
  static std::optional<BlockShuffle> find(std::span<const std::int64_t> sources, std::span<const Axis> axes,
                                          std::size_t element_bytes);

  void operator()(const void* from, void* to) const;

 private:
  std::vector<ShuffleStep> steps_;
  std::vector<Axis> axes_;  ///< in bytes, the last one innermost
  std::int64_t rows_ = 1;   ///< of blocks along the innermost axis
  ShuffleFn function_ = nullptr;
};

}  // namespace halfstep::simd
