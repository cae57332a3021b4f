// Schemas of the optimizer operators, for the table in optimizer.cpp.
#pragma once

namespace onnx {
class OpSchema;
}

namespace halfstep::ops {

void global_norm_schema(onnx::OpSchema& schema);
void loss_scale_update_schema(onnx::OpSchema& schema);
void adam_step_schema(onnx::OpSchema& schema);
void sgd_step_schema(onnx::OpSchema& schema);

}  // namespace halfstep::ops
