#include "ops/schema_util.h"
#include "ops/schemas.h"

namespace halfstep::ops {
namespace {

using onnx::AttributeProto;

void add_window_attributes(onnx::OpSchema& schema) {
  schema.Attr("ceil_mode", "Whether the output's extents are rounded up.", AttributeProto::INT, std::int64_t{0})
      .Attr("dilations", "Step between taps along each axis.", AttributeProto::INTS, onnx::OPTIONAL_VALUE)
      .Attr("kernel_shape", "Extents of the window.", AttributeProto::INTS)
      .Attr("pads", "Begins, then ends, of the padding.", AttributeProto::INTS, onnx::OPTIONAL_VALUE)
      .Attr("strides", "Step of the window along each axis.", AttributeProto::INTS, onnx::OPTIONAL_VALUE);
}

/// Adds dY to zeros at the indices returned by MaxPool.
std::string max_pool_grad_body(const onnx::FunctionBodyBuildContext&) {
  return R"(Y, at = MaxPool<ceil_mode : int = @ceil_mode, dilations : ints = @dilations, kernel_shape : ints = @kernel_shape,
                           pads : ints = @pads, strides : ints = @strides>(X)
            whole = Constant<value_ints = [-1]>()
            indices = Reshape(at, whole)
            updates = Reshape(dY, whole)
            shape = Shape(X)
            count = Size(X)
            size = Reshape(count, whole)
            zero = ConstantOfShape(size)
            zeros = CastLike(zero, dY)
            flat = ScatterElements<reduction = "add">(zeros, indices, updates)
            dX = Reshape<allowzero = 1>(flat, shape))";
}

}  // namespace

void max_pool_grad_schema(onnx::OpSchema& schema) {
  add_window_attributes(schema);
  constrain_floats(schema, "T", "Type of all operands.");
  schema.Input(0, "dY", "Gradient with respect to the pooling's output.", "T")
      .Input(1, "X", "[N, C, D1, ...]", "T")
      .Output(0, "dX", "Gradient with respect to X.", "T")
      .TypeAndShapeInferenceFunction(outputs_like({1}));
  set_function_body(schema, max_pool_grad_body);
}

void average_pool_grad_schema(onnx::OpSchema& schema) {
  add_window_attributes(schema);
  schema.Attr("count_include_pad", "Whether padding counts in the divisor.", AttributeProto::INT, std::int64_t{0})
      .Attr("input_shape", "Shape of the pooling's input.", AttributeProto::INTS);
  constrain_floats(schema, "T", "Type of all operands.");
  schema.Input(0, "dY", "Gradient with respect to the pooling's output.", "T")
      .Output(0, "dX", "Gradient with respect to the pooling's input.", "T")
      .TypeAndShapeInferenceFunction(output_of_shape("input_shape"));
}

}  // namespace halfstep::ops
