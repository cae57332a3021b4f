// Replaces model inputs that are sequences or optional values by tensors.
#pragma once

#include <onnx/onnx_pb.h>

#include <halfstep/onnx_io/load.h>

namespace halfstep {

/// Whether an input or output of a graph is a sequence or an optional value.
bool is_container(const onnx::ValueInfoProto& value);

/// Whether an input of the model's graph is a sequence or an optional value.
bool has_container_inputs(const onnx::ModelProto& model);

/// Replaces each of them by the tensors specified in `options`: a sequence NAME by inputs NAME.0, NAME.1, … and a node
/// that creates NAME from them. Throws Error(input) for a sequence without a given length, a name that is not such an
/// input, and maps.
void spread_container_inputs(onnx::ModelProto& model, const LoadOptions& options);

}  // namespace halfstep
