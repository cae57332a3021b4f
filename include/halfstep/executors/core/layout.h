// The order of a tensor's elements in memory.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <vector>

#include <halfstep/base/api.h>
#include <halfstep/graph/shape.h>

namespace HALFSTEP_API halfstep {
namespace core {

using Dims = std::vector<std::int64_t>;

/// Extents of a shape with at least one axis: a scalar becomes one axis of extent 1.
Dims dims_of(const Shape& shape);
/// Elements between neighbours along each axis.
Dims row_major_strides(const Dims& dims);

/// Row-major, or outer strides and inner blocks, as libraries describe them.
/// The extents may differ from those of the value's shape if the row-major order of elements is the same (weights of
/// grouped convolutions have one more axis).
class Layout {
 public:
  struct Order {
    Dims dims;        ///< extents
    Dims padded;      ///< extents with padding
    Dims strides;     ///< elements between neighbours along each axis; between blocks if the axis is blocked
    Dims blocks;      ///< sizes of the inner blocks, from the outermost
    Dims block_axes;  ///< the axis of each block
  };

  Layout() = default;  ///< row-major
  /// An order equal to row-major gives the row-major layout. `origin` is a library's own description of the order;
  /// comparisons ignore it.
  explicit Layout(Order order, std::shared_ptr<const void> origin = nullptr);

  bool is_row_major() const { return order_.dims.empty(); }
  /// Permuted axes only: no inner blocks, no padding, no gaps.
  bool is_permutation() const;
  /// Whether memory holds padding (zeros) besides the elements.
  bool is_padded() const { return order_.dims != order_.padded; }
  /// Elements in memory, padding included, of a value with `count` elements.
  std::int64_t stored(std::int64_t count) const;
  /// Axes from the slowest to the fastest in memory; only for permutations.
  std::vector<std::size_t> axis_order() const;
  /// The number of channels (elements along axis 1) that are contiguous, with all other axes in row-major order around
  /// them: 1 for row-major, all for NHWC, 16 for NCHW in blocks of 16. Empty for any other order, and if the axes are
  /// not those of the shape.
  std::optional<std::int64_t> channels_together(const Shape& shape) const;

  /// Empty for row-major.
  const Dims& dims() const { return order_.dims; }
  const Order& order() const { return order_; }
  const void* origin() const { return origin_.get(); }

  /// The same order in memory (strides of axes of extent 1 do not count).
  bool operator==(const Layout& other) const;

 private:
  Order order_;
  std::shared_ptr<const void> origin_;
};

/// Strides of a tensor of these extents with the axis order of `layout`, which is row-major or a permutation of the
/// same number of axes.
Dims strides_like(const Layout& layout, const Dims& dims);

}  // namespace core
}  // namespace halfstep
