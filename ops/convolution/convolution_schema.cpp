#include <fmt/format.h>

#include "ops/epilogue_schema.h"
#include "ops/schema_util.h"
#include "ops/schemas.h"
#include <halfstep/base/dtype.h>

namespace halfstep::ops {
namespace {

using onnx::AttributeProto;

constexpr const char* kForwarded =
    "dilations : ints = @dilations, group : int = @group, kernel_shape : ints = @kernel_shape";

void add_window_attributes(onnx::OpSchema& schema) {
  schema.Attr("dilations", "Step between taps along each axis.", AttributeProto::INTS, onnx::OPTIONAL_VALUE)
      .Attr("group", "Number of groups of channels.", AttributeProto::INT, std::int64_t{1})
      .Attr("kernel_shape", "Extents of the kernel.", AttributeProto::INTS, onnx::OPTIONAL_VALUE)
      .Attr("pads", "Begins, then ends, of the padding.", AttributeProto::INTS, onnx::OPTIONAL_VALUE)
      .Attr("strides", "Step of the window along each axis.", AttributeProto::INTS, onnx::OPTIONAL_VALUE);
}

std::vector<std::int64_t> ints_or(const onnx::FunctionBodyBuildContext& call, const std::string& name,
                                  std::size_t count, std::int64_t fallback) {
  std::vector<std::int64_t> values = ints_of(call, name);
  return values.size() == count ? values : std::vector<std::int64_t>(count, fallback);
}

std::string fused_conv_body(const onnx::FunctionBodyBuildContext& call) {
  const std::int64_t to = int_of(call, "to", 0);
  // A wider result needs wider operands, so that nothing is rounded twice.
  const bool widen = to == static_cast<int>(DType::f32) || to == static_cast<int>(DType::f64);
  const std::string widened = widen ? "Cast<to : int = @to>" : "Identity";
  std::string text = fmt::format("Xw = {0}(X)\nWw = {0}(W)\n", widened);
  if (call.hasInput(2)) text += "Bw = CastLike(B, Xw)\n";
  text += fmt::format(
      "C = Conv<auto_pad : string = @auto_pad, {}, pads : ints = @pads, strides : ints = @strides>"
      "(Xw, Ww{})\n",
      kForwarded, call.hasInput(2) ? ", Bw" : "");
  text += call.hasInput(3) ? "Rw = CastLike(residual, Xw)\nS = Add(C, Rw)\n" : "S = Identity(C)\n";
  text += epilogue_text(epilogue_of(call), "A", "S");
  return text + (to != 0 ? "Y = Cast<to : int = @to>(A)" : "Y = Identity(A)");
}

/// ConvTranspose, with the output padding that gives the input's extents.
std::string conv_grad_input_body(const onnx::FunctionBodyBuildContext& call) {
  const std::vector<std::int64_t> dx = ints_of(call, "input_shape");
  const std::vector<std::int64_t> dy = static_shape_of(call.getInputType(0)), w = static_shape_of(call.getInputType(1));
  if (dx.size() < 3 || dy.size() != dx.size() || w.size() != dx.size()) return {};
  const std::size_t axes = dx.size() - 2;
  const auto strides = ints_or(call, "strides", axes, 1), dilations = ints_or(call, "dilations", axes, 1);
  const auto pads = ints_or(call, "pads", 2 * axes, 0);
  std::vector<std::int64_t> output_padding(axes);
  for (std::size_t i = 0; i < axes; ++i) {
    const std::int64_t reached = (dy[i + 2] - 1) * strides[i] + (w[i + 2] - 1) * dilations[i] + 1;
    output_padding[i] = dx[i + 2] - (reached - pads[i] - pads[i + axes]);
    if (output_padding[i] < 0) return {};
  }
  return fmt::format(
      "dX = ConvTranspose<{}, pads : ints = @pads, strides : ints = @strides, output_padding = {}>(dY, W)", kForwarded,
      text_of(output_padding));
}

/// For one group: a convolution over the batch, with strides and dilations exchanged.
std::string conv_grad_weight_body(const onnx::FunctionBodyBuildContext& call) {
  const std::vector<std::int64_t> dw = ints_of(call, "weight_shape");
  const std::vector<std::int64_t> dy = static_shape_of(call.getInputType(0));
  if (dw.size() < 3 || dy.size() != dw.size() || int_of(call, "group", 1) != 1) return {};
  const std::size_t axes = dw.size() - 2;
  std::vector<std::int64_t> swap = {1, 0}, spatial_axes;
  for (std::size_t i = 0; i < axes; ++i) {
    swap.push_back(static_cast<std::int64_t>(i) + 2);
    spatial_axes.push_back(static_cast<std::int64_t>(i) + 2);
  }
  const std::int64_t to = int_of(call, "to", 0);
  return fmt::format(
      "Xt = Transpose<perm = {0}>(X)\n"
      "dYt = Transpose<perm = {0}>(dY)\n"
      "full = Conv<dilations = {1}, strides = {2}, pads = {3}>(Xt, dYt)\n"
      "starts = Constant<value_ints = {4}>()\n"
      "ends = Constant<value_ints = {5}>()\n"
      "axes = Constant<value_ints = {6}>()\n"
      "part = Slice(full, starts, ends, axes)\n"
      "dWt = Transpose<perm = {0}>(part)\n"
      "dW = {7}(dWt)",
      text_of(swap), text_of(ints_or(call, "strides", axes, 1)), text_of(ints_or(call, "dilations", axes, 1)),
      text_of(ints_or(call, "pads", 2 * axes, 0)), text_of(std::vector<std::int64_t>(axes, 0)),
      text_of({dw.begin() + 2, dw.end()}), text_of(spatial_axes), to != 0 ? "Cast<to : int = @to>" : "Identity");
}

}  // namespace

void fused_conv_schema(onnx::OpSchema& schema) {
  add_window_attributes(schema);
  add_to_attribute(schema);
  add_epilogue_attributes(schema);
  schema.Attr("auto_pad", "As Conv.", AttributeProto::STRING, std::string("NOTSET"));
  constrain_floats(schema, "T", "Type of input and weights.");
  constrain_floats(schema, "TB", "Type of the bias: that of the input or of the result.");
  constrain_floats(schema, "TR", "Type of the residual: that of the input or of the result.");
  constrain_floats(schema, "TO", "Type of the result.");
  schema.Input(0, "X", "[N, C, D1, ...]", "T")
      .Input(1, "W", "[M, C/group, K1, ...]", "T")
      .Input(2, "B", "[M]", "TB", onnx::OpSchema::Optional)
      .Input(3, "residual", "Added before the activation; of Y's shape.", "TR", onnx::OpSchema::Optional)
      .Output(0, "Y", "activation(Conv(X, W, B) + residual)", "TO")
      .TypeAndShapeInferenceFunction([](onnx::InferenceContext& ctx) {
        infer_type_from_to(ctx);
        onnx::convPoolShapeInference(ctx, true, false, 0, 1);
      });
  set_function_body(schema, fused_conv_body);
}

void conv_grad_input_schema(onnx::OpSchema& schema) {
  add_window_attributes(schema);
  schema.Attr("input_shape", "Shape of the convolution's input.", AttributeProto::INTS);
  constrain_floats(schema, "T", "Type of all operands.");
  schema.Input(0, "dY", "Gradient with respect to the convolution's output.", "T")
      .Input(1, "W", "[M, C/group, K1, ...]", "T")
      .Output(0, "dX", "Gradient with respect to the convolution's input.", "T")
      .TypeAndShapeInferenceFunction(output_of_shape("input_shape"));
  set_function_body(schema, conv_grad_input_body);
}

void conv_grad_weight_schema(onnx::OpSchema& schema) {
  add_window_attributes(schema);
  add_to_attribute(schema);
  schema.Attr("weight_shape", "Shape of the weights.", AttributeProto::INTS);
  constrain_floats(schema, "T", "Type of the operands.");
  constrain_floats(schema, "TO", "Type of the result.");
  schema.Input(0, "dY", "Gradient with respect to the convolution's output.", "T")
      .Input(1, "X", "[N, C, D1, ...]", "T")
      .Output(0, "dW", "Gradient with respect to the weights.", "TO")
      .TypeAndShapeInferenceFunction(output_of_shape("weight_shape"));
  set_function_body(schema, conv_grad_weight_body);
}

}  // namespace halfstep::ops
