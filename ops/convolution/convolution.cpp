// Conv, ConvTranspose, the fused form and the gradients of convolution: gradient rules and the table. Kernels are in
// convolution_kernels.cpp, schemas of the operators of ai.halfstep in convolution_schema.cpp.
#include <algorithm>

#include "ops/convolution/convolution_kernels.h"
#include "ops/convolution/window.h"
#include "ops/families.h"
#include "ops/magnitude.h"
#include "ops/schemas.h"

namespace halfstep::ops {
namespace {

// Gradients -----------------------------------------------------------------------------------------------------------

/// Sum over all axes except the channel axis.
Expr bias_gradient(Builder& b, Expr dy) {
  std::vector<std::int64_t> axes = {0};
  for (std::size_t axis = 2; axis < dy.rank(); ++axis) axes.push_back(static_cast<std::int64_t>(axis));
  return b.reduce_sum(dy, axes, /*keep_dims=*/false);
}

/// The attributes of a gradient of the convolution of x with w: explicit pads, and kernel_shape.
Attributes gradient_attributes(const Attributes& attributes, const Shape& x, const Shape& w) {
  Attributes result = common_attributes(attributes);
  const std::span<const std::int64_t> kernel = spatial(w);
  result.set("kernel_shape", std::vector<std::int64_t>(kernel.begin(), kernel.end()));
  result.set("pads", explicit_pads(attributes, spatial(x), kernel));
  return result;
}

Attributes with_shape(Attributes attributes, std::string_view name, const Shape& shape) {
  attributes.set(name, shape.dims());
  return attributes;
}

std::vector<Expr> conv_gradient(GradientContext& g) {
  const Expr x = g.in(0), w = g.in(1), dy = g.dy();
  const Attributes attributes = gradient_attributes(g.node.attributes, x.shape(), w.shape());
  std::vector<Expr> d(3);
  if (g.wants(0)) d[0] = g.b.own("ConvGradInput", {dy, w}, with_shape(attributes, "input_shape", x.shape()));
  if (g.wants(1)) d[1] = g.b.own("ConvGradWeight", {dy, x}, with_shape(attributes, "weight_shape", w.shape()));
  if (g.in(2) && g.wants(2)) d[2] = bias_gradient(g.b, dy);
  return d;
}

/// The part of dy that elements of the input contribute to.
Expr reached_part(Expr dy, const Transposition& t) {
  const Shape shape = dy.shape();
  if (std::ranges::equal(spatial(shape), t.reached)) return dy;
  Builder& b = dy.builder();
  std::vector<std::int64_t> axes;
  for (std::size_t axis = 2; axis < shape.rank(); ++axis) axes.push_back(static_cast<std::int64_t>(axis));
  return b.op("Slice", {dy, b.ints(std::vector<std::int64_t>(axes.size(), 0)), b.ints(t.reached), b.ints(axes)});
}

std::vector<Expr> conv_transpose_gradient(GradientContext& g) {
  const Expr x = g.in(0), w = g.in(1), dy = g.dy();
  const Transposition t = transposition_of(g.node.attributes, x.shape(), w.shape());
  const Expr reached = reached_part(dy, t);
  const Attributes attributes =
      gradient_attributes(transposed_attributes(g.node.attributes, t), reached.shape(), w.shape());
  std::vector<Expr> d(3);
  if (g.wants(0)) d[0] = g.b.op("Conv", {reached, w}, attributes);
  if (g.wants(1)) d[1] = g.b.own("ConvGradWeight", {x, reached}, with_shape(attributes, "weight_shape", w.shape()));
  if (g.in(2) && g.wants(2)) d[2] = bias_gradient(g.b, dy);
  return d;
}

/// ONNX's inference stops early if output_shape is smaller than the extents resulting from the pads.
Shape conv_transpose_shape(const Node& node, std::span<const Shape> operands) {
  const Shape &x = operands[0], &w = operands[1];
  const std::span<const std::int64_t> extents = spatial(x);
  const bool is_known = w.is_static() && std::ranges::all_of(extents, [](std::int64_t extent) { return extent >= 0; });
  if (!is_known) return Shape(std::vector<std::int64_t>(x.rank(), Shape::kUnknown));
  Shape filled = x;
  if (filled[1] == Shape::kUnknown) filled[1] = w[0];
  return transposition_of(node.attributes, filled, w).output;
}

/// The shapes of the results given by attributes, if these and the operands are those of a valid convolution.
Shape conv_grad_input_shape(const Node& node, std::span<const Shape> operands) {
  const Shape &dy = operands[0], &w = operands[1], x(node.attributes.get_ints("input_shape"));
  if (dy.is_static() && w.is_static()) check_convolution_gradient(node.attributes, x, w, dy);
  return x;
}
Shape conv_grad_weight_shape(const Node& node, std::span<const Shape> operands) {
  const Shape &dy = operands[0], &x = operands[1], w(node.attributes.get_ints("weight_shape"));
  if (dy.is_static() && x.is_static()) check_convolution_gradient(node.attributes, x, w, dy);
  return w;
}

// Table ---------------------------------------------------------------------------------------------------------------

const std::vector<OpCase> kConvCases = {
    {"(float[2,3,5,5] x, float[4,3,3,3] w) => (float[2,4,3,3] y) { y = Conv(x, w) }"},
    {"(float[2,3,7,5] x, float[4,3,3,3] w, float[4] b) => (float[2,4,4,3] y) "
     "{ y = Conv<pads = [1, 1, 1, 1], strides = [2, 2]>(x, w, b) }"},
    {"(float[1,4,6,5] x, float[6,2,3,2] w, float[6] b) => (float[1,6,5,7] y) "
     "{ y = Conv<group = 2, dilations = [2, 1], pads = [2, 0, 1, 3]>(x, w, b) }"},
    {"(float[2,3,5,4] x, float[3,1,3,3] w) => (float[2,3,3,2] y) "
     "{ y = Conv<group = 3, auto_pad = \"SAME_UPPER\", strides = [2, 2]>(x, w) }"},
    {"(float[1,2,5,5] x, float[3,2,2,4] w) => (float[1,3,5,5] y) { y = Conv<auto_pad = \"SAME_LOWER\">(x, w) }"},
    {"(float[2,3,7] x, float[2,3,3] w, float[2] b) => (float[2,2,3] y) "
     "{ y = Conv<strides = [2], dilations = [1], pads = [0, 0]>(x, w, b) }"},
    {"(float[1,2,3,4,3] x, float[2,2,2,2,2] w) => (float[1,2,2,2,4] y) "
     "{ y = Conv<strides = [1, 2, 1], pads = [0, 0, 1, 0, 0, 1]>(x, w) }"},
    {"(float[0,3,5,5] x, float[4,3,3,3] w) => (float[0,4,3,3] y) { y = Conv(x, w) }"},
};

const std::vector<OpCase> kConvTransposeCases = {
    {"(float[1,2,3,3] x, float[2,3,3,3] w) => (float[1,3,5,5] y) { y = ConvTranspose(x, w) }"},
    {"(float[2,4,3,2] x, float[4,3,3,2] w, float[6] b) => (float[2,6,6,4] y) "
     "{ y = ConvTranspose<group = 2, strides = [2, 2], pads = [1, 0, 0, 0], output_padding = [0, 0]>(x, w, b) }"},
    {"(float[1,2,3,3] x, float[2,2,3,3] w) => (float[1,2,6,6] y) "
     "{ y = ConvTranspose<strides = [2, 2], pads = [1, 1, 1, 1], output_padding = [1, 1]>(x, w) }"},
    {"(float[1,2,4] x, float[2,2,3] w) => (float[1,2,8] y) "
     "{ y = ConvTranspose<auto_pad = \"SAME_UPPER\", strides = [2]>(x, w) }"},
    {"(float[1,2,3,3] x, float[2,2,3,3] w) => (float[1,2,6,3] y) "
     "{ y = ConvTranspose<auto_pad = \"SAME_LOWER\", strides = [2, 1], output_padding = [1, 0]>(x, w) }"},
    {"(float[1,4,2,3,2] x, float[4,1,2,2,3] w, float[2] b) => (float[1,2,6,4,6] y) "
     "{ y = ConvTranspose<group = 2, strides = [2, 1, 3], dilations = [3, 1, 1]>(x, w, b) }"},
    {"(float[1,2,3] x, float[2,1,2] w, float[1] b) => (float[1,1,7] y) "
     "{ y = ConvTranspose<dilations = [3], output_padding = [2], pads = [0, 1]>(x, w, b) }"},
    {"(float[1,1,3,3] x, float[1,2,3,3] w) => (float[1,2,10,8] y) "
     "{ y = ConvTranspose<strides = [3, 2], output_shape = [10, 8]>(x, w) }"},
};

const std::vector<OpCase> kFusedConvCases = {
    {"(float[2,3,5,5] x, float[4,3,3,3] w, float[4] b) => (float[2,4,5,5] y) "
     "{ y = ai.halfstep.FusedConv<pads = [1, 1, 1, 1], activation = \"Relu\">(x, w, b) }"},
    {"(float[2,3,5,5] x, float[4,3,1,1] w, float[4] b, float[2,4,3,3] r) => (float[2,4,3,3] y) "
     "{ y = ai.halfstep.FusedConv<strides = [2, 2], activation = \"Relu\">(x, w, b, r) }"},
    {"(float[1,4,5] x, float[4,2,3] w, float[1,4,3] r) => (float[1,4,3] y) "
     "{ y = ai.halfstep.FusedConv<group = 2>(x, w, , r) }"},
};

const std::vector<OpCase> kConvGradInputCases = {
    {"(float[2,4,3,3] dy, float[4,3,3,3] w) => (float[2,3,5,5] dx) "
     "{ dx = ai.halfstep.ConvGradInput<kernel_shape = [3, 3], input_shape = [2, 3, 5, 5]>(dy, w) }"},
    {"(float[2,4,4,3] dy, float[4,3,3,3] w) => (float[2,3,8,5] dx) { dx = ai.halfstep.ConvGradInput"
     "<kernel_shape = [3, 3], pads = [1, 1, 1, 1], strides = [2, 2], input_shape = [2, 3, 8, 5]>(dy, w) }"},
    {"(float[1,6,5,7] dy, float[6,2,3,2] w) => (float[1,4,6,5] dx) { dx = ai.halfstep.ConvGradInput<group = 2, "
     "kernel_shape = [3, 2], dilations = [2, 1], pads = [2, 0, 1, 3], input_shape = [1, 4, 6, 5]>(dy, w) }"},
    {"(float[0,4,3] dy, float[4,3,3] w) => (float[0,3,5] dx) "
     "{ dx = ai.halfstep.ConvGradInput<kernel_shape = [3], input_shape = [0, 3, 5]>(dy, w) }"},
};

const std::vector<OpCase> kConvGradWeightCases = {
    {"(float[2,4,3,3] dy, float[2,3,5,5] x) => (float[4,3,3,3] dw) "
     "{ dw = ai.halfstep.ConvGradWeight<kernel_shape = [3, 3], weight_shape = [4, 3, 3, 3]>(dy, x) }"},
    {"(float[2,4,4,3] dy, float[2,3,8,5] x) => (float[4,3,3,3] dw) { dw = ai.halfstep.ConvGradWeight"
     "<kernel_shape = [3, 3], pads = [1, 1, 1, 1], strides = [2, 2], weight_shape = [4, 3, 3, 3]>(dy, x) }"},
    {"(float[1,6,5,7] dy, float[1,4,6,5] x) => (float[6,2,3,2] dw) { dw = ai.halfstep.ConvGradWeight<group = 2, "
     "kernel_shape = [3, 2], dilations = [2, 1], pads = [2, 0, 1, 3], weight_shape = [6, 2, 3, 2]>(dy, x) }"},
    {"(float[0,4,3] dy, float[0,3,5] x) => (float[4,3,3] dw) "
     "{ dw = ai.halfstep.ConvGradWeight<kernel_shape = [3], weight_shape = [4, 3, 3]>(dy, x) }"},
};

constexpr OpenNaN kPadding{true, true, "zeros of the padding are multiplied, or left out"};

}  // namespace

std::span<const OpDef> convolution_ops() {
  using enum OperandRole;
  static const OpDef rows[] = {
      {.name = "Conv",
       .precision = PrecisionClass::half,
       .traits = {.features = FeatureAxis::second,
                  .operands = {data, weight, bias},
                  .magnitude = magnitude::convolution},
       .reference = conv_kernel,
       .gradient = conv_gradient,
       .cases = kConvCases,
       .open_nan = kPadding,
       .note = "one to three spatial axes"},
      {.name = "ConvTranspose",
       .precision = PrecisionClass::half,
       .traits = {.features = FeatureAxis::second,
                  .operands = {data, weight, bias},
                  .magnitude = magnitude::transposed_convolution},
       .reference = conv_transpose_kernel,
       .gradient = conv_transpose_gradient,
       .result_shape = conv_transpose_shape,
       .cases = kConvTransposeCases,
       .open_nan = kPadding,
       .note =
           "one to three spatial axes; auto_pad SAME: at most stride times the input's extents, as the specification "
           "says and ONNX Runtime has it (ONNX's shape inference adds output_padding)"},
      {.name = "FusedConv",
       .domain = kOwnDomain,
       .precision = PrecisionClass::half,
       .reference = conv_kernel,
       .cases = kFusedConvCases,
       .open_nan = kPadding,
       .schema = fused_conv_schema,
       .note = "made after differentiation: no gradient"},
      {.name = "ConvGradInput",
       .domain = kOwnDomain,
       .precision = PrecisionClass::half,
       .reference = conv_grad_input_kernel,
       .result_shape = conv_grad_input_shape,
       .cases = kConvGradInputCases,
       .open_nan = kPadding,
       .schema = conv_grad_input_schema},
      {.name = "ConvGradWeight",
       .domain = kOwnDomain,
       .precision = PrecisionClass::half,
       .reference = conv_grad_weight_kernel,
       .result_shape = conv_grad_weight_shape,
       .cases = kConvGradWeightCases,
       .open_nan = kPadding,
       .schema = conv_grad_weight_schema},
  };
  return rows;
}

}  // namespace halfstep::ops
