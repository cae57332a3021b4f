// Nodes of a message rewritten for a newer operator set, by the rules that loading has. Internal to conversion.
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

/// What takes the place of a node, in order, and the constants that it reads.
struct LiftedNode {
  std::vector<onnx::NodeProto> nodes;
  std::vector<onnx::TensorProto> initializers;
};

class NodeLifter {
 public:
  /// `version`: that of ai.onnx which the model declares. The model must outlive this.
  NodeLifter(const onnx::ModelProto& model, const DetachedModel& source, std::int64_t version);

  /// The newest operator set, `wanted` at most, in which the node can be written.
  std::int64_t reach(const onnx::NodeProto& node, std::int64_t wanted) const;

  /// The node as operator set `target` (13 at least) writes it; nullopt where it is written the same.
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
