// The order of a tensor's elements in memory, as oneDNN's descriptors tell it but without an element type.
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include <dnnl.hpp>

#include "graph/dtype.h"
#include "graph/shape.h"

namespace halfstep::onednn {

using Dims = dnnl::memory::dims;
using Desc = dnnl::memory::desc;
using DataType = dnnl::memory::data_type;

/// The CPU engine, shared by the process.
dnnl::engine& engine();

/// oneDNN's name of a float type (f32, f16, bf16), or `undef`.
DataType data_type(DType dtype);

/// Extents of a shape as oneDNN wants them: a scalar becomes one axis of extent 1.
Dims dims_of(const Shape& shape);

/// A row-major descriptor.
Desc row_major(const Dims& dims, DType dtype);
inline Desc row_major(const Shape& shape, DType dtype) { return row_major(dims_of(shape), dtype); }
/// A descriptor that leaves the order to the primitive.
Desc any_order(const Dims& dims, DType dtype);

/// Row-major, or what a oneDNN blocked descriptor says: outer strides and inner blocks.
/// Its logical extents may differ from the value's shape as long as the row-major order of elements is the same
/// (grouped convolution weights have one axis more).
class Layout {
 public:
  Layout() = default;  ///< row-major
  /// A descriptor whose elements lie row-major gives the row-major layout.
  explicit Layout(const Desc& desc);

  bool is_row_major() const { return dims_.empty(); }
  /// Permuted axes only: no inner blocks, no padding, no gaps.
  bool is_permutation() const;
  /// Whether memory holds padding (zeros) besides the elements.
  bool is_padded() const { return dims_ != padded_; }
  /// Elements in memory, padding included, of a value with `count` elements.
  std::int64_t stored(std::int64_t count) const;
  /// Axes from the slowest to the fastest in memory; only for permutations.
  std::vector<std::size_t> axis_order() const;

  /// How many channels (elements along axis 1) lie together, when all else is in row-major order around them: 1 for
  /// row-major, all for NHWC, 16 for NCHW in blocks of 16. Empty for any other order, and for axes that are not the
  /// shape's.
  std::optional<std::int64_t> channels_together(const Shape& shape) const;

  const Dims& dims() const { return dims_; }
  /// The descriptor of a value of this shape in this layout. Empty when oneDNN has no such descriptor for the type.
  Desc desc(const Shape& shape, DType dtype) const;
  /// A descriptor of other extents, as many, in the same order: axes permuted alike, or blocked alike. Empty when
  /// oneDNN has no such descriptor.
  Desc resized(const Dims& dims, DType dtype) const;

  /// The same order in memory (strides of axes of extent 1 do not count).
  bool operator==(const Layout& other) const;

 private:
  /// oneDNN's name of a blocked order; dnnl_format_tag_undef when it has none for this type.
  dnnl_format_tag_t tag(DType dtype) const;

  Dims dims_, padded_, strides_, inner_blocks_, inner_axes_;
  Desc origin_;  // what it was made from; empty for row-major
};

/// A descriptor of this shape with its axes in memory in the same order as in `layout`, which is a permutation of as
/// many axes, or row-major.
Desc permuted_like(const Layout& layout, const Shape& shape, DType dtype);

/// Copies a value from one layout to another, at once; the types must be floats unless both layouts are row-major.
void reorder_now(const Shape& shape, DType dtype, const void* from, const Layout& from_layout, void* to,
                 const Layout& to_layout);

}  // namespace halfstep::onednn
