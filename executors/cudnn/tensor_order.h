// The orders in memory that kernels of the device take tensors in: row-major, and channels beside each other, which
// tensor cores want.
#pragma once

#include <cstdint>
#include <vector>

#include <halfstep/executors/core/layout.h>
#include <halfstep/graph/shape.h>

namespace halfstep::cudnn {

/// Of [N, C, spatial...], and of weights, whose channels are those of a group.
enum class TensorOrder : std::uint8_t { row_major, channels_last };

/// Elements between neighbours along each axis.
std::vector<std::int64_t> strides_in(TensorOrder order, const std::vector<std::int64_t>& extents);
/// Row-major where that is the same: of one channel, of one position, of fewer than three axes.
core::Layout layout_in(TensorOrder order, const Shape& shape);
/// The order that is nearer to a layout of this device.
TensorOrder order_of(const core::Layout& layout);

/// How many elements of axis 1 lie together.
std::int64_t channels_together(TensorOrder order, const Shape& shape);

/// A tensor that is broadcast to results of a layout, with its axes in memory in the order of theirs: its layout, and
/// its extents from the slowest axis to the fastest, as many as the results have.
core::Layout layout_like(const core::Layout& result, const Shape& shape);
Shape in_memory_order(const core::Layout& result, const Shape& shape);

}  // namespace halfstep::cudnn
