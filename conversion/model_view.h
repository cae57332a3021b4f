// A model message as one list of values and one list of nodes, including subgraphs. Internal to conversion.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include <onnx/onnx_pb.h>

#include <halfstep/base/dtype.h>
#include <halfstep/graph/id_map.h>

namespace onnx {
class OpSchema;
}

namespace halfstep::conversion {

inline constexpr int kNone = -1;  ///< no node, scope or operand

struct ViewValue {
  std::string name;
  int scope = 0;
  onnx::TypeProto type;                      ///< without shapes; value_case VALUE_NOT_SET if unknown
  onnx::TensorProto* initializer = nullptr;  ///< of an initializer that is not a graph input
  int producer = kNone;                      ///< index of a node
  bool is_input = false;                     ///< of the model or of a subgraph

  /// undefined if it is not a tensor, or unknown.
  DType dtype() const {
    return type.has_tensor_type() ? static_cast<DType>(type.tensor_type().elem_type()) : DType::undefined;
  }
  bool is_wide() const { return dtype() == DType::f32; }
  bool is_tensor_or_unknown() const {
    return type.has_tensor_type() || type.value_case() == onnx::TypeProto::VALUE_NOT_SET;
  }
};

struct ViewNode {
  onnx::NodeProto* proto = nullptr;
  int scope = 0;
  std::vector<ValueId> inputs, outputs;  ///< kNoValue if absent
  std::vector<int> bodies;               ///< scopes
  std::string name, op, domain;          ///< domain "" for ai.onnx

  bool is(std::string_view type) const { return domain.empty() && op == type; }
};

struct ViewScope {
  onnx::GraphProto* graph = nullptr;
  int parent = kNone;
  std::vector<int> nodes;
  std::vector<ValueId> inputs, outputs, initializers;
  std::unordered_map<std::string, ValueId> values;
};

/// Scope 0 is the main graph. Nodes are in topological order, with those of a subgraph before its owner.
struct ModelView {
  ValueMap<ViewValue> values;
  std::vector<ViewNode> nodes;
  std::vector<ViewScope> scopes;
  std::unordered_map<std::string, std::int64_t> opsets;

  const onnx::OpSchema* schema_of(const ViewNode& node) const;
  bool is_output(ValueId value) const;  ///< of the main graph
};

/// Creates a view of `model`, whose graphs are sorted. Types come from the operators' schemas, or for unknown operators
/// from the model's declarations and the surrounding nodes (unify_types.h). The view points into the message. Throws
/// Error(input) if an undefined name is read.
ModelView view_model(onnx::ModelProto& model);

}  // namespace halfstep::conversion
