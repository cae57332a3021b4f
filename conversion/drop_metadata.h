// What exporters write about nodes and values, and nothing computes with. Internal to conversion.
#pragma once

#include <onnx/onnx_pb.h>

namespace halfstep::conversion {

/// Drops metadata and doc strings of graphs, nodes, values, tensors and functions: stack traces and names in the source
/// program, mostly. Those of the model stay.
void drop_metadata(onnx::ModelProto& model);

}  // namespace halfstep::conversion
