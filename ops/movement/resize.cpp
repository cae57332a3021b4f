// Resize and its gradient. The geometry is in interpolation.h.
#include <cmath>

#include "ops/family_parts.h"
#include "ops/magnitude.h"
#include "ops/movement/index_map.h"
#include "ops/movement/interpolation.h"
#include "ops/onnx_row.h"
#include "ops/schema_util.h"
#include <halfstep/base/error.h>
#include <halfstep/ops/kernel_util.h>

namespace halfstep::ops {
namespace {

Tensor operand_of(const KernelCall& call, std::size_t i) { return call.has_in(i) ? call.in[i] : Tensor(); }

Shape result_of(const KernelCall& call, const Shape& input) {
  return resized_shape(call.node.attributes, input, operand_of(call, 2), operand_of(call, 3));
}

Resizing resizing_of(const KernelCall& call, const Shape& input) {
  return {call.node.attributes, input, operand_of(call, 1), operand_of(call, 2), operand_of(call, 3)};
}

double extrapolation_value(const Node& node) { return node.attributes.get_float("extrapolation_value", 0); }

/// Nearest: moves elements of any type.
void take_nearest(KernelCall& call, const Resizing& resizing) {
  AxisIndices indices;
  for (const AxisTaps& axis : resizing.axes) {
    std::vector<std::int64_t>& along = indices.emplace_back();
    for (const std::vector<Tap>& taps : axis) along.push_back(taps.empty() ? kNoElement : taps[0].index);
  }
  const DType dtype = call.in[0].dtype();
  const bool is_number = is_float(dtype) || is_integer(dtype) || dtype == DType::boolean;
  take_axes(call, 0, indices, is_number ? convert(Tensor::scalar(extrapolation_value(call.node)), dtype) : Tensor());
}

/// Calls f(element of the operand, element of the result, weight) for every tap along `axis`; `shape` is the operand's.
template <class F>
void for_each_tap_along(const Shape& shape, std::size_t axis, const AxisTaps& taps, F&& f) {
  const AxisView from(shape, axis);
  const auto extent = static_cast<std::int64_t>(taps.size());
  for (std::int64_t outer = 0; outer < from.outer; ++outer)
    for (std::int64_t o = 0; o < extent; ++o)
      for (const Tap& tap : taps[o])
        for (std::int64_t i = 0; i < from.inner; ++i)
          f(static_cast<std::size_t>((outer * from.extent + tap.index) * from.inner + i),
            static_cast<std::size_t>((outer * extent + o) * from.inner + i), tap.weight);
}

// Integers as in ONNX Runtime: truncated, except with antialiasing. Values that are whole up to rounding errors stay
// so.
double to_integer(double v, bool antialias) { return antialias ? std::round(v) : std::trunc(v * (1 + 0x1p-40)); }

void resize(KernelCall& call) {
  const Tensor& x = call.in[0];
  // The result first: if it exceeds memory, so do its taps.
  if (ensure_out(call, 0, x.dtype(), result_of(call, x.shape())).count() == 0) return;
  const Resizing resizing = resizing_of(call, x.shape());
  if (call.node.attributes.get_string("mode", "nearest") == "nearest") return take_nearest(call, resizing);
  std::vector<double> values = to_doubles(x);
  Shape shape = x.shape();
  for (std::size_t axis = 0; axis < shape.rank(); ++axis) {
    Shape next = shape;
    next[axis] = static_cast<std::int64_t>(resizing.axes[axis].size());
    std::vector<double> resized(static_cast<std::size_t>(next.count()));
    for_each_tap_along(shape, axis, resizing.axes[axis],
                       [&](std::size_t from, std::size_t to, double weight) { resized[to] += values[from] * weight; });
    values = std::move(resized);
    shape = next;
  }
  for (std::size_t axis = 0; axis < shape.rank(); ++axis) {
    const AxisView view(shape, axis);
    for (std::size_t i = 0; i < values.size(); ++i) {
      const std::int64_t o = static_cast<std::int64_t>(i) / view.inner % view.extent;
      if (resizing.axes[axis][o].empty()) values[i] = extrapolation_value(call.node);
    }
  }
  if (!is_float(x.dtype()))
    for (double& v : values) v = to_integer(v, call.node.attributes.get_int("antialias", 0) != 0);
  store(ensure_out(call, 0, x.dtype(), shape), values);
}

void resize_grad(KernelCall& call) {
  const Tensor& dy = call.in[0];
  const Shape input(call.node.attributes.get_ints("input_shape"));
  const Shape resized = result_of(call, input);
  if (dy.shape() != resized)
    throw_input_error("a gradient of the resized shape " + resized.to_string(), dy.shape().to_string(),
                      "check ResizeGrad's operands");
  if (dy.count() == 0)
    return store(ensure_out(call, 0, dy.dtype(), input), std::vector<double>(static_cast<std::size_t>(input.count())));
  const Resizing resizing = resizing_of(call, input);
  std::vector<double> values = to_doubles(dy);
  Shape shape = dy.shape();
  for (std::size_t axis = 0; axis < shape.rank(); ++axis) {
    shape[axis] = input[axis];
    std::vector<double> gathered(static_cast<std::size_t>(shape.count()));
    for_each_tap_along(shape, axis, resizing.axes[axis],
                       [&](std::size_t from, std::size_t to, double weight) { gathered[from] += values[to] * weight; });
    values = std::move(gathered);
  }
  store(ensure_out(call, 0, dy.dtype(), input), values);
}

std::vector<Expr> resize_gradient(GradientContext& g) {
  Attributes attributes = g.node.attributes;
  attributes.remove("extrapolation_value");
  attributes.set("input_shape", g.in(0).shape().dims());
  return {g.b.own("ResizeGrad", {g.dy(), g.in(1), g.in(2), g.in(3)}, std::move(attributes))};
}

void resize_grad_schema(onnx::OpSchema& schema) {
  using onnx::AttributeProto;
  const auto optional = onnx::OpSchema::Optional;
  constrain_floats(schema, "T", "Any float type.");
  constrain_floats(schema, "T2", "Type of the region of interest.");
  schema.SetDoc("Gradient of Resize: each element of dY spread over those it was interpolated from.")
      .Attr("antialias", "Resize's.", AttributeProto::INT, std::int64_t{0})
      .Attr("axes", "Resize's.", AttributeProto::INTS, onnx::OPTIONAL_VALUE)
      .Attr("coordinate_transformation_mode", "Resize's.", AttributeProto::STRING, std::string("half_pixel"))
      .Attr("cubic_coeff_a", "Resize's.", AttributeProto::FLOAT, -0.75f)
      .Attr("exclude_outside", "Resize's.", AttributeProto::INT, std::int64_t{0})
      .Attr("keep_aspect_ratio_policy", "Resize's.", AttributeProto::STRING, std::string("stretch"))
      .Attr("mode", "Resize's.", AttributeProto::STRING, std::string("nearest"))
      .Attr("nearest_mode", "Resize's.", AttributeProto::STRING, std::string("round_prefer_floor"))
      .Attr("input_shape", "Shape of Resize's X.", AttributeProto::INTS)
      .Input(0, "dY", "Gradient with respect to Resize's output.", "T")
      .Input(1, "roi", "Resize's.", "T2", optional)
      .Input(2, "scales", "Resize's.", "tensor(float)", optional)
      .Input(3, "sizes", "Resize's.", "tensor(int64)", optional)
      .Output(0, "dX", "Gradient with respect to Resize's X.", "T")
      .TypeAndShapeInferenceFunction(output_of_shape("input_shape"));
}

const std::vector<OpCase> kResizeCases = {
    {"(float[1,2,3,4] x) => (float[1,2,6,8] y) <float[4] s = {1.0, 1.0, 2.0, 2.0}> { y = Resize(x, , s) }"},
    {"(float[1,1,4,5] x) => (float[1,1,7,3] y) <int64[4] z = {1, 1, 7, 3}> "
     "{ y = Resize<coordinate_transformation_mode = \"asymmetric\", nearest_mode = \"floor\">(x, , , z) }"},
    {"(float[1,2,3,4] x) => (float[1,2,6,8] y) <float[4] s = {1.0, 1.0, 2.0, 2.0}> "
     "{ y = Resize<mode = \"linear\">(x, , s) }"},
    {"(float[1,2,5,4] x) => (float[1,2,3,7] y) <int64[2] z = {3, 7}> "
     "{ y = Resize<mode = \"linear\", axes = [2, 3], coordinate_transformation_mode = \"align_corners\">(x, , , z) }"},
    {"(float[1,1,3,4] x) => (float[1,1,5,5] y) <float[4] s = {1.0, 1.0, 1.7, 1.3}> "
     "{ y = Resize<mode = \"linear\", coordinate_transformation_mode = \"align_corners\">(x, , s) }"},
    {"(float[1,1,4,4] x) => (float[1,1,1,6] y) <int64[4] z = {1, 1, 1, 6}> "
     "{ y = Resize<mode = \"linear\", coordinate_transformation_mode = \"pytorch_half_pixel\">(x, , , z) }"},
    {"(float[2,7] x) => (float[2,4] y) <float[2] s = {1.0, 0.6}> "
     "{ y = Resize<mode = \"linear\", coordinate_transformation_mode = \"half_pixel_symmetric\", antialias = 1>"
     "(x, , s) }"},
    {"(float[1,3,4,2] x) => (float[1,5,3,3] y) <int64[4] z = {1, 5, 3, 3}> { y = Resize<mode = \"linear\">(x, , , z) "
     "}"},
    {"(float[1,1,4,4] x) => (float[1,1,8,3] y) <float[4] s = {1.0, 1.0, 2.0, 0.8}> "
     "{ y = Resize<mode = \"cubic\", cubic_coeff_a = -0.5, exclude_outside = 1>(x, , s) }"},
    {"(float[1,1,6,6] x) => (float[1,1,3,9] y) <int64[4] z = {1, 1, 3, 9}> "
     "{ y = Resize<mode = \"cubic\", antialias = 1>(x, , , z) }"},
    {"(float[1,1,4,4] x) => (float[1,1,3,3] y) "
     "<float[4] r = {0.4, 0.6, 1.2, 1.7}, int64[2] z = {3, 3}> { y = Resize<mode = \"linear\", axes = [2, 3], "
     "coordinate_transformation_mode = \"tf_crop_and_resize\", extrapolation_value = 10.0>(x, r, , z) }"},
    {"(float[1,2,4] x) => (float[1,4,8] y) <int64[2] z = {7, 8}> "
     "{ y = Resize<axes = [1, 2], keep_aspect_ratio_policy = \"not_larger\">(x, , , z) }"},
    {"(float[0,3] x) => (float[0,6] y) <float[2] s = {1.0, 2.0}> { y = Resize<mode = \"linear\">(x, , s) }"},
    {"() => (int32[5] y) <int32[3] x = {-4, 0, 9}, int64[1] z = {5}> { y = Resize<mode = \"linear\">(x, , , z) }"},
};

const std::vector<OpCase> kResizeGradCases = {
    {"(float[1,2,6,8] dy) => (float[1,2,3,4] dx) <float[4] s = {1.0, 1.0, 2.0, 2.0}> "
     "{ dx = ai.halfstep.ResizeGrad<mode = \"linear\", input_shape = [1, 2, 3, 4]>(dy, , s) }"},
    {"(float[2,7] dy) => (float[2,4] dx) <int64[1] z = {7}> "
     "{ dx = ai.halfstep.ResizeGrad<axes = [1], input_shape = [2, 4]>(dy, , , z) }"},
};

}  // namespace

std::vector<OpDef> resize_rows() {
  using enum OperandRole;
  return {
      onnx_row("Resize", PrecisionClass::follow,
               {.operands = {data, setting, setting, setting}, .magnitude = magnitude::same}, resize, resize_gradient,
               kResizeCases,
               "coordinates and ties as in ONNX Runtime; integers are cut off, with antialias rounded; "
               "the gradient takes the region of interest as given"),
      {.name = "ResizeGrad",
       .domain = kOwnDomain,
       .precision = PrecisionClass::follow,
       .reference = resize_grad,
       .cases = kResizeGradCases,
       .schema = resize_grad_schema},
  };
}

}  // namespace halfstep::ops
