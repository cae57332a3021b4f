// Where a node stands among the modules of the source, as exporters record it.
#pragma once

#include <string>

#include <onnx/onnx_pb.h>

namespace halfstep {

/// The node's name behind the path of its module: "/encoder/layer.0/node_linear_3". torch.onnx's older exporter writes
/// such names; its newer one has the modules in the node's metadata. A node without such metadata keeps its name.
std::string scoped_name(const onnx::NodeProto& node);

/// Gives `to` the modules that the metadata of `from` names.
void copy_module_scope(const onnx::NodeProto& from, onnx::NodeProto& to);

}  // namespace halfstep
