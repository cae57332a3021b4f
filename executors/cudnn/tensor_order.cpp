#include "executors/cudnn/tensor_order.h"

namespace halfstep::cudnn {

std::vector<std::int64_t> strides_in(TensorOrder order, const std::vector<std::int64_t>& extents) {
  if (order == TensorOrder::row_major || extents.size() < 3) return core::row_major_strides(extents);
  std::vector<std::int64_t> strides(extents.size(), 1);
  std::int64_t stride = extents[1];
  for (std::size_t axis = extents.size(); axis-- > 2;) {
    strides[axis] = stride;
    stride *= extents[axis];
  }
  strides[0] = stride;
  return strides;
}

core::Layout layout_in(TensorOrder order, const Shape& shape) {
  if (order == TensorOrder::row_major || shape.rank() < 3) return {};
  return core::Layout({shape.dims(), shape.dims(), strides_in(order, shape.dims()), {}, {}});
}

TensorOrder order_of(const core::Layout& layout) {
  return layout.is_row_major() ? TensorOrder::row_major : TensorOrder::channels_last;
}

std::int64_t channels_together(TensorOrder order, const Shape& shape) {
  return order == TensorOrder::row_major ? 1 : shape[1];
}

core::Layout layout_like(const core::Layout& result, const Shape& shape) {
  if (result.is_row_major()) return {};
  const std::vector<std::size_t> order = result.axis_order();
  const std::size_t missing = order.size() - shape.rank();
  core::Dims strides(shape.rank(), 1);
  std::int64_t stride = 1;
  for (auto axis = order.rbegin(); axis != order.rend(); ++axis) {
    if (*axis < missing) continue;
    strides[*axis - missing] = stride;
    stride *= shape[*axis - missing];
  }
  return shape.rank() == 0 ? core::Layout() : core::Layout({shape.dims(), shape.dims(), strides, {}, {}});
}

Shape in_memory_order(const core::Layout& result, const Shape& shape) {
  if (result.is_row_major()) return shape;
  const std::vector<std::size_t> order = result.axis_order();
  const std::size_t missing = order.size() - shape.rank();
  std::vector<std::int64_t> extents;
  for (const std::size_t axis : order) extents.push_back(axis < missing ? 1 : shape[axis - missing]);
  return Shape(extents);
}

}  // namespace halfstep::cudnn
