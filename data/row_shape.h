// How the shape of a row in a file becomes the shape a model asks for.
#pragma once

#include <cstdint>
#include <optional>

#include <halfstep/data/row_transform.h>
#include <halfstep/graph/shape.h>

namespace halfstep {

/// The shape of a batch of rows.
Shape with_rows(std::int64_t rows, const Shape& row);

/// A row's shape at the model, and how its elements get there.
struct RowShapeFit {
  Shape shape;                               ///< `wanted` with its unknown extents filled in
  LayoutChange change = LayoutChange::none;  ///< never `automatic`
};

/// How rows of shape `found` fit `wanted`, by the rules of `fit_input`; nothing when they do not.
std::optional<RowShapeFit> fit_row_shape(const Shape& found, const Shape& wanted, LayoutChange layout);

}  // namespace halfstep
