#include <fmt/format.h>

#include "ops/schema_util.h"
#include "ops/schemas.h"
#include <halfstep/graph/shape.h>

namespace halfstep::ops {
namespace {

void add_common(onnx::OpSchema& schema, const char* doc) {
  constrain_floats(schema, "T", "Any float type.");
  schema.SetDoc(doc)
      .TypeConstraint("Tind", {"tensor(int32)", "tensor(int64)"}, "Indices.")
      .Attr("input_shape", "Shape of the forward operator's data.", onnx::AttributeProto::INTS)
      .Input(0, "dY", "Gradient with respect to the forward operator's output.", "T")
      .Output(0, "dX", "Gradient with respect to the forward operator's data.", "T")
      .TypeAndShapeInferenceFunction(output_of_shape("input_shape"));
}

/// The forward operator, applied to the indices of its data's elements, gives the position of each element of dY.
std::string scatter_text(const onnx::FunctionBodyBuildContext& call, std::string_view forward,
                         std::string_view reduction) {
  const std::vector<std::int64_t> shape = ints_of(call, "input_shape");
  return fmt::format(R"(
      count = Constant<value_ints = [{0}]>()
      first = Constant<value_int = 0>()
      last = Constant<value_int = {0}>()
      step = Constant<value_int = 1>()
      shape = Constant<value_ints = {1}>()
      line = Constant<value_ints = [-1]>()
      numbers = Range(first, last, step)
      grid = Reshape<allowzero = 1>(numbers, shape)
      taken = {2}
      places = Reshape(taken, line)
      values = Reshape(dY, line)
      zeros_f = ConstantOfShape(count)
      zeros = CastLike(zeros_f, dY)
      sums = ScatterElements<axis = 0, reduction = "{3}">(zeros, places, values)
      dX = Reshape<allowzero = 1>(sums, shape))",
                     Shape(shape).count(), text_of(shape), forward, reduction);
}

}  // namespace

void gather_grad_schema(onnx::OpSchema& schema) {
  add_common(schema, "Gradient of Gather: dY summed into zeros of the data's shape at the gathered places.");
  schema.Attr("axis", "The axis Gather took from.", onnx::AttributeProto::INT, std::int64_t{0})
      .Input(1, "indices", "Gather's indices.", "Tind");
  set_function_body(schema, [](const onnx::FunctionBodyBuildContext& call) {
    return scatter_text(call, fmt::format("Gather<axis = {}>(grid, indices)", int_of(call, "axis", 0)), "add");
  });
}

void slice_grad_schema(onnx::OpSchema& schema) {
  add_common(schema, "Gradient of Slice: dY at the sliced places, 0 elsewhere.");
  schema.Input(1, "starts", "Slice's starts.", "Tind")
      .Input(2, "ends", "Slice's ends.", "Tind")
      .Input(3, "axes", "Slice's axes.", "Tind", onnx::OpSchema::Optional)
      .Input(4, "steps", "Slice's steps.", "Tind", onnx::OpSchema::Optional);
  set_function_body(schema, [](const onnx::FunctionBodyBuildContext& call) {
    return scatter_text(call, "Slice(grid, starts, ends, axes, steps)", "none");
  });
}

}  // namespace halfstep::ops
