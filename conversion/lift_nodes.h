// Rewrites nodes of a message for a newer opset, by the rules for loading models. Internal to conversion.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <unordered_map>
#include <unordered_set>
#include <vector>

#include <onnx/onnx_pb.h>

#include "onnx_io/detached.h"

namespace halfstep::conversion {

/// The replacement of a node, in order, with the constants that it reads.
struct LiftedNode {
  std::vector<onnx::NodeProto> nodes;
  std::vector<onnx::TensorProto> initializers;
};

class NodeLifter {
 public:
  /// `version`: the version of ai.onnx that the model declares. The model must outlive this.
  NodeLifter(const onnx::ModelProto& model, const DetachedModel& source, std::int64_t version);

  /// The newest opset, at most `wanted`, in which the node can be expressed.
  std::int64_t reach(const onnx::NodeProto& node, std::int64_t wanted) const;

  /// The node for opset `target` (at least 13); nullopt if it does not change.
  std::optional<LiftedNode> lift(const onnx::NodeProto& node, std::int64_t target);

 private:
  struct Known {
    onnx::TypeProto type;
    const onnx::TensorProto* constant = nullptr;
    bool is_ambiguous = false;  ///< two graphs have a value of this name
  };
  void know(const onnx::GraphProto& graph);
  LiftedNode apply(const onnx::NodeProto& node, std::int64_t target) const;

  const DetachedModel& source_;
  const std::int64_t version_;
  std::unordered_map<std::string, Known> known_;
  std::unordered_set<std::string> read_, taken_;
};

}  // namespace halfstep::conversion
