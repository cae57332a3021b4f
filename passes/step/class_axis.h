// Along which axis of an output its classes lie. Shapes include the batch, which is axis 0.
#pragma once

#include <cstddef>
#include <optional>
#include <vector>

#include <halfstep/graph/graph.h>
#include <halfstep/graph/shape.h>

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

/// The axis of `from` that `axis` of `to` is, where the two shapes differ in axes of extent 1 only; nothing where that
/// axis has extent 1 or the shapes differ in more.
std::optional<std::size_t> axis_across_units(const Shape& from, const Shape& to, std::size_t axis);

/// Reshape, Flatten, Squeeze and Unsqueeze.
bool changes_shape_only(const Node& node);

/// The node that computes a value, past Identity, casts between floats, Transpose and changes of shape that only add or
/// remove axes of extent 1; past any change of shape where a Sigmoid lies behind. Null for an input or a constant.
const Node* last_operator(const Graph& graph, ValueId output);

/// The axis that --class-axis says, counted from the front. Throws Error where it is the batch's or not one of the
/// output's.
std::size_t given_class_axis(const Value& output, std::int64_t axis);

}  // namespace halfstep
