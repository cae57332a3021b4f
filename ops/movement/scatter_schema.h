// Schemas of the gradients that put elements back where the forward operator took them.
#pragma once

namespace onnx {
class OpSchema;
}

namespace halfstep::ops {

void gather_grad_schema(onnx::OpSchema& schema);
void slice_grad_schema(onnx::OpSchema& schema);

}  // namespace halfstep::ops
