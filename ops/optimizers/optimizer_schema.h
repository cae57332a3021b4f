// Schemas of the optimizer operators, for the table in optimizer.cpp.
#pragma once

namespace onnx {
class OpSchema;
}

namespace halfstep::ops {

void global_norm_schema(onnx::OpSchema& schema);
void loss_scale_update_schema(onnx::OpSchema& schema);
/// For the optimizer whose operator has the schema's name.
void optimizer_step_schema(onnx::OpSchema& schema);

}  // namespace halfstep::ops
