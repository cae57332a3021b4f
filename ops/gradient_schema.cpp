#include "ops/gradient_schema.h"

#include "ops/schema_util.h"

namespace halfstep::ops {
namespace {

bool may_be_equal(const onnx::TensorShapeProto& a, const onnx::TensorShapeProto& b) {
  if (a.dim_size() != b.dim_size()) return false;
  for (int i = 0; i < a.dim_size(); ++i)
    if (a.dim(i).has_dim_value() && b.dim(i).has_dim_value() && a.dim(i).dim_value() != b.dim(i).dim_value())
      return false;
  return true;
}

}  // namespace

onnx::OpSchema& gradient_schema(onnx::OpSchema& schema, const char* doc, const char* other, const char* about) {
  constrain_floats(schema, "T", "Any float type.");
  return schema.SetDoc(doc)
      .Input(0, "dY", "Gradient with respect to the forward operator's output.", "T")
      .Input(1, other, about, "T")
      .Output(0, "dX", "Gradient with respect to the forward operator's input.", "T")
      .TypeAndShapeInferenceFunction([](onnx::InferenceContext& ctx) {
        onnx::propagateShapeAndTypeFromFirstInput(ctx);
        if (onnx::hasNInputShapes(ctx, 2) && !may_be_equal(onnx::getInputShape(ctx, 0), onnx::getInputShape(ctx, 1)))
          fail_shape_inference("both operands must have the same shape");
      });
}

}  // namespace halfstep::ops
