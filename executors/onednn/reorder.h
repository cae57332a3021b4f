// Copies from one layout to another that oneDNN has no fast primitive for: its own are for f32, and for half types on
// CPUs that compute in them. Where a block's elements alone change places, as in weights of bf16, these take long, too.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <vector>

#include "executors/onednn/kernel.h"
#include "executors/onednn/simd/block_shuffle.h"
#include "executors/onednn/simd/strided_copy.h"
#include <halfstep/executors/core/device.h>
#include <halfstep/executors/core/layout.h>

namespace halfstep::onednn {

/// Copies the elements of a value, of any type, and fills the padding of the target with zeros.
class Reorder {
 public:
  /// Layouts of a value with these extents; a layout that is not row-major has just them. Nothing where the two cut an
  /// axis into parts that are no multiples of each other.
  static std::optional<Reorder> find(const core::Dims& dims, const core::Layout& from, const core::Layout& to,
                                     std::size_t element_bytes);

  void operator()(const void* from, void* to) const;

 private:
  /// A box of elements along which both layouts have constant steps.
  struct Box {
    std::size_t from, to;  ///< where it begins, in bytes
    simd::StridedCopy copy;
  };
  std::vector<Box> boxes_;
  std::size_t cleared_ = 0;  ///< bytes of the target that are set to zero before
};

/// For layouts in the same blocks, padding included, that order the elements of a block otherwise; nothing for others,
/// and where elements that come together lie far apart.
std::optional<simd::BlockShuffle> find_shuffle(const core::Layout& from, const core::Layout& to,
                                               std::size_t element_bytes);

/// A memory, or a part of one, of float elements.
struct Place {
  Desc desc;
  BufferId buffer = kNoBuffer;
};

/// Copies elements to another place, and another type where the two differ.
Made make_move(const Place& from, const Place& to, const core::TakeScratch& take_scratch);

}  // namespace halfstep::onednn
