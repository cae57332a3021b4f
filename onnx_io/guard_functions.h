// Checks before the ONNX library infers types inside of a model message. Internal to onnx_io.
#pragma once

#include <onnx/onnx_pb.h>

namespace halfstep {

/// `check_before_inference` for every node of the model and its functions, and for the values and defaults from calls
/// of attributes that nodes of functions refer to. Throws Error(input).
void check_all_before_inference(const onnx::ModelProto& model);

}  // namespace halfstep
