// The common schema of most elementwise gradients.
#pragma once

#include <string>

namespace onnx {
class OpSchema;
struct FunctionBodyBuildContext;
}  // namespace onnx

namespace halfstep::ops {

/// Inputs dY and `other`, output dX: tensors of one float type and shape. `doc` and `about` describe the operator and
/// the second input.
onnx::OpSchema& gradient_schema(onnx::OpSchema& schema, const char* doc, const char* other, const char* about);

/// The function body of GeluGrad, from X and dY to dX.
std::string gelu_grad_body(const onnx::FunctionBodyBuildContext& call);

}  // namespace halfstep::ops
