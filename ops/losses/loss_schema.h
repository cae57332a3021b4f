// Schemas of the loss operators of ai.halfstep, for the table in loss.cpp.
#pragma once

namespace onnx {
class OpSchema;
}

namespace halfstep::ops {

void softmax_cross_entropy_grad_schema(onnx::OpSchema& schema);
void negative_log_likelihood_loss_grad_schema(onnx::OpSchema& schema);

}  // namespace halfstep::ops
