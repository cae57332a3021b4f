// The common schema of most elementwise gradients.
#pragma once

namespace onnx {
class OpSchema;
}

namespace halfstep::ops {

/// Inputs dY and `other`, output dX: tensors of one float type and shape. `doc` and `about` describe the operator and
/// the second input.
onnx::OpSchema& gradient_schema(onnx::OpSchema& schema, const char* doc, const char* other, const char* about);

}  // namespace halfstep::ops
