#include "ops/gradient_schema.h"

#include "ops/schema_util.h"

namespace halfstep::ops {

onnx::OpSchema& gradient_schema(onnx::OpSchema& schema, const char* doc, const char* other, const char* about) {
  constrain_floats(schema, "T", "Any float type.");
  return schema.SetDoc(doc)
      .Input(0, "dY", "Gradient with respect to the forward operator's output.", "T")
      .Input(1, other, about, "T")
      .Output(0, "dX", "Gradient with respect to the forward operator's input.", "T")
      .TypeAndShapeInferenceFunction(onnx::propagateShapeAndTypeFromFirstInput);
}

}  // namespace halfstep::ops
