// Inputs of a model that are sequences or optional values, made inputs that are tensors.
#pragma once

#include <onnx/onnx_pb.h>

#include <halfstep/onnx_io/load.h>

namespace halfstep {

/// Whether an input or output of a graph is a sequence or an optional value.
bool is_container(const onnx::ValueInfoProto& value);

/// Whether an input of the model's graph is a sequence or an optional value.
bool has_container_inputs(const onnx::ModelProto& model);

/// Replaces each of them by what `options` says it consists of: a sequence NAME by inputs NAME.0, NAME.1, … and a node
/// that makes NAME of them. Throws Error(input) on a sequence whose length is not given, on a name that is no such
/// input, and on maps.
void spread_container_inputs(onnx::ModelProto& model, const LoadOptions& options);

}  // namespace halfstep
