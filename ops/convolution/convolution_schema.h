// Schemas of the convolution operators of ai.halfstep, for the table in convolution.cpp.
#pragma once

namespace onnx {
class OpSchema;
}

namespace halfstep::ops {

void fused_conv_schema(onnx::OpSchema& schema);
void conv_grad_input_schema(onnx::OpSchema& schema);
void conv_grad_weight_schema(onnx::OpSchema& schema);

}  // namespace halfstep::ops
