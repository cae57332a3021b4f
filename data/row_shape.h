// Matching the shape of a row in a file to the shape that a model requires.
#pragma once

#include <cstdint>
#include <optional>

#include <halfstep/data/row_transform.h>
#include <halfstep/graph/shape.h>

namespace halfstep {

/// The shape of a batch of rows.
Shape with_rows(std::int64_t rows, const Shape& row);

/// A row's shape for the model, and the layout change that produces it.
struct RowShapeFit {
  Shape shape;                               ///< `wanted` with its unknown extents filled in
  LayoutChange change = LayoutChange::none;  ///< never `automatic`
};

/// The match of rows of shape `found` to `wanted`, by the rules of `fit_input`; nothing if they do not fit.
std::optional<RowShapeFit> fit_row_shape(const Shape& found, const Shape& wanted, LayoutChange layout);

}  // namespace halfstep
