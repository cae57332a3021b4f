// Schemas of the pooling operators of ai.halfstep, for the table in pooling.cpp.
#pragma once

namespace onnx {
class OpSchema;
}

namespace halfstep::ops {

void max_pool_grad_schema(onnx::OpSchema& schema);
void average_pool_grad_schema(onnx::OpSchema& schema);

}  // namespace halfstep::ops
