// Along which axis of an output its classes lie. Shapes include the batch, which is axis 0.
#pragma once

#include <cstddef>
#include <optional>
#include <vector>

#include "graph/graph.h"
#include "graph/shape.h"

namespace halfstep {

/// Whether the two differ in axes of extent 1 only, axis 0 aside.
bool equal_but_for_unit_axes(const Shape& a, const Shape& b);

/// Whether labels have an element for each of the output's, in its order: the shapes are equal but for axes of extent
/// 1, or one of them is flat.
bool has_label_for_each_element(const Shape& output, const Shape& labels);

/// `output` without `axis`: the shape of labels that are class indices.
Shape without_axis(const Shape& output, std::size_t axis);

/// Whether labels are a class index for each point of `output`, whose classes lie along `axis` (not 0).
bool are_class_indices(const Shape& output, const Shape& labels, std::size_t axis);

/// The axes, of 1 and the last, for which they are: two where the shapes do not tell.
std::vector<std::size_t> class_axes(const Shape& output, const Shape& labels);

/// The axis along which the model's last layer puts what it computes: Softmax's own, the last of a product with a
/// matrix, 1 of a convolution. Nothing where the model does not tell. Types are inferred.
std::optional<std::size_t> class_axis_of_model(const Graph& graph, ValueId output);

/// Of several axes that the labels fit (`among`; none: any but 0) the model's, else axis 1 as ONNX and PyTorch take it.
std::size_t likely_class_axis(const Graph& graph, ValueId output, const std::vector<std::size_t>& among);

/// The node that produces a value, past Transpose and Identity; null for an input or a constant.
const Node* last_operator(const Graph& graph, ValueId output);

}  // namespace halfstep
