// Metadata of exporters about nodes and values, which has no effect on the computation. Internal to conversion.
#pragma once

#include <onnx/onnx_pb.h>

namespace halfstep::conversion {

/// Removes metadata and doc strings of graphs, nodes, values, tensors and functions: mostly stack traces and names in
/// the source program. Those of the model are kept.
void drop_metadata(onnx::ModelProto& model);

}  // namespace halfstep::conversion
