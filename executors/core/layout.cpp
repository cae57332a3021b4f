#include <algorithm>
#include <functional>
#include <numeric>

#include <halfstep/executors/core/layout.h>

namespace halfstep::core {
namespace {

// Strides agree along every axis that has more than one element (or block).
bool same_strides(const Dims& padded, const Dims& a, const Dims& b) {
  for (std::size_t i = 0; i < padded.size(); ++i)
    if (padded[i] != 1 && a[i] != b[i]) return false;
  return true;
}

// Whether an unpadded blocked order is row-major all the same, as for [N, 16 k, 1, 1] in blocks of 16 channels: every
// part of an axis has the stride that row-major gives it.
bool is_row_major_in_blocks(const Layout::Order& order) {
  const Dims wanted = row_major_strides(order.dims);
  Dims inside(order.dims.size(), 1);  // elements of each axis within the parts seen so far, from the innermost
  std::int64_t stride = 1;
  for (std::size_t i = order.blocks.size(); i-- > 0;) {
    const auto axis = static_cast<std::size_t>(order.block_axes[i]);
    if (order.blocks[i] != 1 && stride != wanted[axis] * inside[axis]) return false;
    inside[axis] *= order.blocks[i];
    stride *= order.blocks[i];
  }
  for (std::size_t axis = 0; axis < order.dims.size(); ++axis)
    if (order.dims[axis] != inside[axis] && order.strides[axis] != wanted[axis] * inside[axis]) return false;
  return true;
}

}  // namespace

Dims dims_of(const Shape& shape) {
  if (shape.rank() == 0) return {1};
  return {shape.begin(), shape.end()};
}

Dims row_major_strides(const Dims& dims) {
  Dims strides(dims.size(), 1);
  for (std::size_t i = dims.size(); i-- > 1;) strides[i - 1] = strides[i] * dims[i];
  return strides;
}

Layout::Layout(Order order, std::shared_ptr<const void> origin) {
  if (order.dims == order.padded && is_row_major_in_blocks(order)) return;
  order_ = std::move(order);
  origin_ = std::move(origin);
}

bool Layout::is_permutation() const {
  if (is_row_major()) return true;
  if (!order_.blocks.empty() || is_padded()) return false;
  std::int64_t expected = 1;
  const std::vector<std::size_t> order = axis_order();
  for (auto axis = order.rbegin(); axis != order.rend(); ++axis) {
    if (order_.dims[*axis] != 1 && order_.strides[*axis] != expected) return false;
    expected *= order_.dims[*axis];
  }
  return true;
}

std::vector<std::size_t> Layout::axis_order() const {
  std::vector<std::size_t> order(order_.dims.size());
  std::iota(order.begin(), order.end(), 0);
  // Axes of extent 1 may have any stride; they sort as if behind everything else.
  auto key = [&](std::size_t axis) { return order_.dims[axis] == 1 ? 0 : order_.strides[axis]; };
  std::stable_sort(order.begin(), order.end(), [&](std::size_t a, std::size_t b) { return key(a) > key(b); });
  return order;
}

std::int64_t Layout::stored(std::int64_t count) const {
  if (is_row_major()) return count;
  return std::accumulate(order_.padded.begin(), order_.padded.end(), std::int64_t{1}, std::multiplies<>());
}

std::optional<std::int64_t> Layout::channels_together(const Shape& shape) const {
  if (is_row_major()) return 1;
  const auto& [dims, padded, strides, inner, inner_axes] = order_;
  if (dims != dims_of(shape) || dims.size() < 2) return std::nullopt;
  const bool is_blocked = inner.size() == 1 && inner_axes[0] == 1;
  if (!inner.empty() && !is_blocked) return std::nullopt;
  const std::int64_t together = is_blocked ? inner[0] : dims[1];
  Dims expected(dims.size()), blocks = padded;
  blocks[1] /= together;
  std::int64_t stride = together;
  auto place = [&](std::size_t axis) {
    expected[axis] = stride;
    stride *= blocks[axis];
  };
  for (std::size_t axis = dims.size(); axis-- > 2;) place(axis);
  place(1);
  place(0);
  if (!is_blocked) expected[1] = 1;
  return same_strides(is_blocked ? blocks : padded, expected, strides) ? std::optional(together) : std::nullopt;
}

bool Layout::operator==(const Layout& other) const {
  const Order &a = order_, &b = other.order_;
  return a.dims == b.dims && a.padded == b.padded && a.blocks == b.blocks && a.block_axes == b.block_axes &&
         same_strides(a.padded, a.strides, b.strides);
}

Dims strides_like(const Layout& layout, const Dims& dims) {
  if (layout.is_row_major()) return row_major_strides(dims);
  const std::vector<std::size_t> order = layout.axis_order();
  Dims strides(dims.size());
  std::int64_t stride = 1;
  for (auto axis = order.rbegin(); axis != order.rend(); ++axis) {
    strides[*axis] = stride;
    stride *= dims[*axis];
  }
  return strides;
}

}  // namespace halfstep::core
