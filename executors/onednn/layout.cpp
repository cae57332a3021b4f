#include "executors/onednn/layout.h"

#include <algorithm>
#include <cstring>
#include <functional>
#include <numeric>

#include "executors/onednn/threads.h"

namespace halfstep::onednn {
namespace {

Dims row_major_strides(const Dims& dims) {
  Dims strides(dims.size(), 1);
  for (std::size_t i = dims.size(); i-- > 1;) strides[i - 1] = strides[i] * dims[i];
  return strides;
}

// Strides agree along every axis that has more than one element (or block).
bool same_strides(const Dims& padded, const Dims& a, const Dims& b) {
  for (std::size_t i = 0; i < padded.size(); ++i)
    if (padded[i] != 1 && a[i] != b[i]) return false;
  return true;
}

// Whether an unpadded blocked order is row-major all the same, as for [N, 16 k, 1, 1] in blocks of 16 channels: every
// part of an axis has the stride that row-major gives it.
bool is_row_major_in_blocks(const Dims& dims, const Dims& strides, const Dims& blocks, const Dims& block_axes) {
  const Dims wanted = row_major_strides(dims);
  Dims inside(dims.size(), 1);  // elements of each axis within the parts seen so far, from the innermost
  std::int64_t stride = 1;
  for (std::size_t i = blocks.size(); i-- > 0;) {
    const auto axis = static_cast<std::size_t>(block_axes[i]);
    if (blocks[i] != 1 && stride != wanted[axis] * inside[axis]) return false;
    inside[axis] *= blocks[i];
    stride *= blocks[i];
  }
  for (std::size_t axis = 0; axis < dims.size(); ++axis)
    if (dims[axis] != inside[axis] && strides[axis] != wanted[axis] * inside[axis]) return false;
  return true;
}

/// Empty when the tag is of another number of axes.
Desc tagged(const Dims& dims, DType dtype, dnnl_format_tag_t tag) {
  if (tag == dnnl_format_tag_undef) return Desc();
  return Desc(dims, data_type(dtype), static_cast<dnnl::memory::format_tag>(tag), true);
}

std::int64_t product(const Dims& dims) {
  return std::accumulate(dims.begin(), dims.end(), std::int64_t{1}, std::multiplies<>());
}

}  // namespace

dnnl::engine& engine() {
  static dnnl::engine instance(dnnl::engine::kind::cpu, 0);
  return instance;
}

DataType data_type(DType dtype) {
  switch (dtype) {
    case DType::f32:
      return DataType::f32;
    case DType::f16:
      return DataType::f16;
    case DType::bf16:
      return DataType::bf16;
    default:
      return DataType::undef;
  }
}

Dims dims_of(const Shape& shape) {
  if (shape.rank() == 0) return {1};
  return {shape.begin(), shape.end()};
}

Desc row_major(const Dims& dims, DType dtype) { return Desc(dims, data_type(dtype), row_major_strides(dims)); }

Desc any_order(const Dims& dims, DType dtype) { return Desc(dims, data_type(dtype), dnnl::memory::format_tag::any); }

Layout::Layout(const Desc& desc) {
  const Dims dims = desc.get_dims(), padded = desc.get_padded_dims(), strides = desc.get_strides();
  const Dims blocks = desc.get_inner_blks();
  if (dims == padded && is_row_major_in_blocks(dims, strides, blocks, desc.get_inner_idxs())) return;
  dims_ = dims;
  padded_ = padded;
  strides_ = strides;
  inner_blocks_ = blocks;
  inner_axes_ = desc.get_inner_idxs();
  origin_ = desc;
}

bool Layout::is_permutation() const {
  if (is_row_major()) return true;
  if (!inner_blocks_.empty() || is_padded()) return false;
  std::int64_t expected = 1;
  const std::vector<std::size_t> order = axis_order();
  for (auto axis = order.rbegin(); axis != order.rend(); ++axis) {
    if (dims_[*axis] != 1 && strides_[*axis] != expected) return false;
    expected *= dims_[*axis];
  }
  return true;
}

std::vector<std::size_t> Layout::axis_order() const {
  std::vector<std::size_t> order(dims_.size());
  std::iota(order.begin(), order.end(), 0);
  // Axes of extent 1 may have any stride; they sort as if behind everything else.
  auto key = [&](std::size_t axis) { return dims_[axis] == 1 ? 0 : strides_[axis]; };
  std::stable_sort(order.begin(), order.end(), [&](std::size_t a, std::size_t b) { return key(a) > key(b); });
  return order;
}

std::int64_t Layout::stored(std::int64_t count) const { return is_row_major() ? count : product(padded_); }

std::optional<std::int64_t> Layout::channels_together(const Shape& shape) const {
  if (is_row_major()) return 1;
  if (dims_ != dims_of(shape) || dims_.size() < 2) return std::nullopt;
  const bool is_blocked = inner_blocks_.size() == 1 && inner_axes_[0] == 1;
  if (!inner_blocks_.empty() && !is_blocked) return std::nullopt;
  const std::int64_t together = is_blocked ? inner_blocks_[0] : dims_[1];
  Dims expected(dims_.size()), blocks = padded_;
  blocks[1] /= together;
  std::int64_t stride = together;
  auto place = [&](std::size_t axis) {
    expected[axis] = stride;
    stride *= blocks[axis];
  };
  for (std::size_t axis = dims_.size(); axis-- > 2;) place(axis);
  place(1);
  place(0);
  if (!is_blocked) expected[1] = 1;
  return same_strides(is_blocked ? blocks : padded_, expected, strides_) ? std::optional(together) : std::nullopt;
}

Desc Layout::desc(const Shape& shape, DType dtype) const {
  if (is_row_major()) return row_major(shape, dtype);
  if (origin_.get_data_type() == data_type(dtype)) return origin_;
  if (inner_blocks_.empty() && !is_padded()) return Desc(dims_, data_type(dtype), strides_);
  // Blocked descriptors can only be had by their tag.
  return tagged(dims_, dtype, tag(dtype));
}

Desc Layout::resized(const Dims& dims, DType dtype) const {
  if (is_row_major()) return row_major(dims, dtype);
  if (is_permutation()) return permuted_like(*this, Shape(dims), dtype);
  return tagged(dims, dtype, tag(dtype));
}

dnnl_format_tag_t Layout::tag(DType dtype) const {
  for (int i = dnnl_format_tag_any + 1; i < dnnl_format_tag_last; ++i) {
    const Desc candidate = tagged(dims_, dtype, static_cast<dnnl_format_tag_t>(i));
    if (candidate.get(true) && candidate.get_inner_blks() == inner_blocks_ && Layout(candidate) == *this)
      return static_cast<dnnl_format_tag_t>(i);
  }
  return dnnl_format_tag_undef;
}

bool Layout::operator==(const Layout& other) const {
  return dims_ == other.dims_ && padded_ == other.padded_ && inner_blocks_ == other.inner_blocks_ &&
         inner_axes_ == other.inner_axes_ && same_strides(padded_, strides_, other.strides_);
}

Desc permuted_like(const Layout& layout, const Shape& shape, DType dtype) {
  if (layout.is_row_major()) return row_major(shape, dtype);
  const std::vector<std::size_t> order = layout.axis_order();
  Dims strides(shape.rank());
  std::int64_t stride = 1;
  for (auto axis = order.rbegin(); axis != order.rend(); ++axis) {
    strides[*axis] = stride;
    stride *= shape[*axis];
  }
  return Desc(dims_of(shape), data_type(dtype), strides);
}

void reorder_now(const Shape& shape, DType dtype, const void* from, const Layout& from_layout, void* to,
                 const Layout& to_layout) {
  if (from_layout == to_layout) {
    std::memcpy(to, from, bytes_of(dtype, static_cast<std::size_t>(from_layout.stored(shape.count()))));
    return;
  }
  // Row-major takes the other side's extents; two other layouts with different extents meet in row-major.
  auto copy = [](const Desc& a, const void* source, const Desc& b, void* target) {
    const ThreadScope scope(0);
    dnnl::memory src(a, engine(), const_cast<void*>(source)), dst(b, engine(), target);
    dnnl::stream stream(engine());
    dnnl::reorder(src, dst).execute(stream, src, dst);
    stream.wait();
  };
  const Layout plain;
  if (from_layout.is_row_major()) {
    copy(row_major(to_layout.dims(), dtype), from, to_layout.desc(shape, dtype), to);
  } else if (to_layout.is_row_major()) {
    copy(from_layout.desc(shape, dtype), from, row_major(from_layout.dims(), dtype), to);
  } else if (from_layout.dims() == to_layout.dims()) {
    copy(from_layout.desc(shape, dtype), from, to_layout.desc(shape, dtype), to);
  } else {
    std::vector<std::byte> middle(bytes_of(dtype, static_cast<std::size_t>(shape.count())));
    reorder_now(shape, dtype, from, from_layout, middle.data(), plain);
    reorder_now(shape, dtype, middle.data(), plain, to, to_layout);
  }
}

}  // namespace halfstep::onednn
