#include "ops/collective/all_reduce.h"
#include "ops/schema_util.h"

namespace halfstep::ops {
namespace {

using onnx::AttributeProto;
using onnx::OpSchema;

void infer_start(onnx::InferenceContext& ctx) {
  if (ctx.getNumInputs() <= kFirstReduced) fail_shape_inference("expected a tensor to reduce");
  onnx::propagateElemTypeFromInputToOutput(ctx, kFirstReduced, 0);
  std::int64_t count = 0;
  for (std::size_t i = kFirstReduced; i < ctx.getNumInputs(); ++i) {
    if (!onnx::hasInputShape(ctx, i)) return;
    std::int64_t elements = 1;
    for (const auto& extent : ctx.getInputType(i)->tensor_type().shape().dim()) {
      if (!extent.has_dim_value()) return;
      elements *= extent.dim_value();
    }
    count += elements;
  }
  set_output_shape(ctx, 0, {count});
}

void infer_finish(onnx::InferenceContext& ctx) {
  const AttributeProto* list = ctx.getAttribute("shapes");
  if (!list) fail_shape_inference("expected the attribute shapes");
  std::vector<Shape> shapes;
  try {
    shapes = unflattened({list->ints().begin(), list->ints().end()});
  } catch (const std::exception& error) {
    fail_shape_inference(error.what());
  }
  if (shapes.size() != ctx.getNumOutputs())
    fail_shape_inference("expected ", shapes.size(), " outputs, got ", ctx.getNumOutputs());
  for (std::size_t i = 0; i < shapes.size(); ++i) {
    onnx::propagateElemTypeFromInputToOutput(ctx, 0, i);
    set_output_shape(ctx, i, shapes[i].dims());
  }
}

}  // namespace

void start_all_reduce_schema(OpSchema& schema) {
  constrain_floats(schema, "T", "Type of the tensors.");
  constrain_floats(schema, "A", "Type of what is waited for.");
  schema.Attr("parameters", "What the tensors are the gradients of, for readers.", AttributeProto::STRINGS, false)
      .Input(0, "after", "Result of the reduction that every rank starts before this one.", "A", OpSchema::Optional)
      .Input(1, "tensors", "Tensors of any shapes, the same on all ranks.", "T", OpSchema::Variadic, true)
      .Output(0, "joined", "All their elements one behind the other; the sum over all ranks is on its way.", "T")
      .TypeAndShapeInferenceFunction(infer_start);
}

void finish_all_reduce_schema(OpSchema& schema) {
  constrain_floats(schema, "T", "Type of the tensors.");
  schema.Attr("shapes", "For each tensor its rank and its extents.", AttributeProto::INTS)
      .Input(0, "joined", "Result of StartAllReduce.", "T")
      .Output(0, "tensors", "The tensors that it was made of, each the sum over all ranks.", "T", OpSchema::Variadic,
              true)
      .TypeAndShapeInferenceFunction(infer_finish);
}

}  // namespace halfstep::ops
