// Removing parts of a graph's message.
#pragma once

#include <string>
#include <unordered_set>

#include <onnx/onnx_pb.h>

namespace halfstep {

/// `doomed`: nodes of this graph.
void remove_nodes(onnx::GraphProto& graph, const std::unordered_set<const onnx::NodeProto*>& doomed);

/// Of a message's repeated field whose elements have names.
template <class Fields>
void remove_named(Fields& fields, const std::unordered_set<std::string>& names) {
  for (int i = fields.size() - 1; i >= 0; --i)
    if (names.contains(fields.Get(i).name())) fields.DeleteSubrange(i, 1);
}

/// Removes what gave these values, if nothing reads them any more, and so on towards the inputs.
void remove_unread(onnx::GraphProto& graph, const std::unordered_set<std::string>& candidates);

}  // namespace halfstep
