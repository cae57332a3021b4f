#include "data/row_shape.h"

#include <algorithm>
#include <vector>

namespace halfstep {
namespace {

bool matches(const Shape& found, const Shape& wanted) {
  if (!wanted.is_ranked()) return true;
  if (found.rank() != wanted.rank()) return false;
  for (std::size_t i = 0; i < found.rank(); ++i)
    if (wanted[i] != Shape::kUnknown && wanted[i] != found[i]) return false;
  return true;
}

Shape last_to_front(const Shape& shape) {
  std::vector<std::int64_t> dims = shape.dims();
  std::rotate(dims.begin(), dims.end() - 1, dims.end());
  return Shape(std::move(dims));
}

Shape front_to_last(const Shape& shape) {
  std::vector<std::int64_t> dims = shape.dims();
  std::rotate(dims.begin(), dims.begin() + 1, dims.end());
  return Shape(std::move(dims));
}

Shape without_unit_axes(const Shape& shape) {
  std::vector<std::int64_t> dims = shape.dims();
  std::erase(dims, 1);
  return Shape(std::move(dims));
}

/// The shape that interprets the elements of `found`, in their order, as `wanted`.
std::optional<Shape> reshape_to_fit(const Shape& found, const Shape& wanted) {
  if (matches(found, wanted)) return found;
  if (!wanted.is_static()) {
    std::vector<std::int64_t> unit_first{1}, unit_last = found.dims();
    unit_first.insert(unit_first.end(), found.begin(), found.end());
    unit_last.push_back(1);
    for (const Shape& shape : {Shape(unit_first), Shape(unit_last), without_unit_axes(found), Shape{found.count()}})
      if (matches(shape, wanted)) return shape;
    return std::nullopt;
  }
  const Shape from = without_unit_axes(found), to = without_unit_axes(wanted);
  const bool one_is_flat = from.rank() <= 1 || to.rank() <= 1;
  if (from == to || (one_is_flat && found.count() == wanted.count())) return wanted;
  return std::nullopt;
}

std::optional<RowShapeFit> with_change(const Shape& moved, const Shape& wanted, LayoutChange change) {
  if (const auto shape = reshape_to_fit(moved, wanted)) return RowShapeFit{*shape, change};
  return std::nullopt;
}

}  // namespace

Shape with_rows(std::int64_t rows, const Shape& row) {
  std::vector<std::int64_t> dims{rows};
  dims.insert(dims.end(), row.begin(), row.end());
  return Shape(std::move(dims));
}

std::optional<RowShapeFit> fit_row_shape(const Shape& found, const Shape& wanted, LayoutChange layout) {
  const bool has_channels = found.rank() >= 3;
  switch (layout) {
    case LayoutChange::none:
      return with_change(found, wanted, LayoutChange::none);
    case LayoutChange::nhwc_to_nchw:
      return has_channels ? with_change(last_to_front(found), wanted, layout) : std::nullopt;
    case LayoutChange::nchw_to_nhwc:
      return has_channels ? with_change(front_to_last(found), wanted, layout) : std::nullopt;
    case LayoutChange::automatic:
      break;
  }
  if (has_channels && !matches(found, wanted)) {
    if (matches(last_to_front(found), wanted)) return RowShapeFit{last_to_front(found), LayoutChange::nhwc_to_nchw};
    if (matches(front_to_last(found), wanted)) return RowShapeFit{front_to_last(found), LayoutChange::nchw_to_nhwc};
  }
  return with_change(found, wanted, LayoutChange::none);
}

}  // namespace halfstep
