// Schemas of the gradients that scatter elements back to where the forward operator read them.
#pragma once

namespace onnx {
class OpSchema;
}

namespace halfstep::ops {

void gather_grad_schema(onnx::OpSchema& schema);
void slice_grad_schema(onnx::OpSchema& schema);

}  // namespace halfstep::ops
