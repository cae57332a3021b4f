// Schemas of the BatchNormalization operators that ONNX lacks.
#pragma once

namespace onnx {
class OpSchema;
}

namespace halfstep::ops {

void fused_batch_normalization_schema(onnx::OpSchema& schema);
void batch_normalization_grad_schema(onnx::OpSchema& schema);

}  // namespace halfstep::ops
