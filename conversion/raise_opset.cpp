#include "conversion/raise_opset.h"

#include <algorithm>
#include <array>
#include <string_view>

#include <fmt/format.h>
#include <onnx/defs/schema.h>

#include "onnx_io/convert.h"
#include "onnx_io/lift.h"
#include "onnx_io/opset.h"
#include "onnx_io/proto_walk.h"
#include "ops/op_def.h"
#include "ops/proto.h"

namespace halfstep::conversion {
namespace {

using onnx::NodeProto;
using onnx::OpSchemaRegistry;

// A list that was an attribute and is an input from version `since` on.
struct ListToInput {
  std::string_view op, attribute;
  std::int64_t since;
  int input;
};
constexpr std::array kListsToInputs = {
    ListToInput{"ReduceSum", "axes", 13, 1},      ListToInput{"Split", "split", 13, 1},
    ListToInput{"Squeeze", "axes", 13, 1},        ListToInput{"Unsqueeze", "axes", 13, 1},
    ListToInput{"ReduceL1", "axes", 18, 1},       ListToInput{"ReduceL2", "axes", 18, 1},
    ListToInput{"ReduceLogSum", "axes", 18, 1},   ListToInput{"ReduceLogSumExp", "axes", 18, 1},
    ListToInput{"ReduceMax", "axes", 18, 1},      ListToInput{"ReduceMean", "axes", 18, 1},
    ListToInput{"ReduceMin", "axes", 18, 1},      ListToInput{"ReduceProd", "axes", 18, 1},
    ListToInput{"ReduceSumSquare", "axes", 18, 1}};

const ListToInput* list_to_input(std::string_view op, std::int64_t since) {
  const auto* it = std::find_if(kListsToInputs.begin(), kListsToInputs.end(),
                                [&](const ListToInput& rule) { return rule.op == op && rule.since == since; });
  return it == kListsToInputs.end() ? nullptr : it;
}

const onnx::AttributeProto* find_attribute(const NodeProto& node, std::string_view name) {
  for (const auto& attribute : node.attribute())
    if (attribute.name() == name) return &attribute;
  return nullptr;
}

// Whether the node means the same, perhaps rewritten, when it passes the change of its operator in version `below`.
bool can_pass(const NodeProto& node, std::int64_t below) {
  const std::string& op = node.op_type();
  if (list_to_input(op, below)) return true;
  if (op == "BatchNormalization" && below == 14) return node.output_size() == 1;
  if (op == "Split" && below == 18) return true;
  if (op == "Softmax" || op == "LogSoftmax" || op == "Hardmax") {  // before: all axes from `axis` on were one
    const auto* axis = find_attribute(node, "axis");
    return axis && axis->i() == -1;
  }
  return false;
}

void pass(onnx::GraphProto& graph, NodeProto& node, std::int64_t below) {
  if (const ListToInput* rule = list_to_input(node.op_type(), below); rule) {
    const onnx::AttributeProto* list = find_attribute(node, rule->attribute);
    if (!list) return;
    const std::string name = node.output(0) + "." + std::string(rule->attribute);
    const std::vector<std::int64_t> values(list->ints().begin(), list->ints().end());
    *graph.add_initializer() = tensor_to_proto(Tensor::of(values), name);
    while (node.input_size() < rule->input) node.add_input("");
    node.add_input(name);
    auto& attributes = *node.mutable_attribute();
    for (int i = attributes.size() - 1; i >= 0; --i)
      if (attributes.Get(i).name() == rule->attribute) attributes.DeleteSubrange(i, 1);
  }
  if (node.op_type() == "Split" && below == 18 && node.input_size() < 2)
    *node.add_attribute() = attribute_to_proto("num_outputs", std::int64_t{node.output_size()});
}

// Some type variable of the operator may be bf16 in this version.
bool has_type(const onnx::OpSchema& schema, std::string_view type) {
  for (const auto& output : schema.outputs())
    for (const std::string* t : output.GetTypes())
      if (*t == type) return true;
  return false;
}

// The oldest version from `now` on in which the operator has the type; `now` when it never gets it.
std::int64_t first_with(const NodeProto& node, std::int64_t now, std::string_view type) {
  const OpDef* row = find_op(node.op_type());
  if (!row || row->precision == PrecisionClass::full) return now;
  for (std::int64_t version = now; version <= kOnnxOpset; ++version) {
    const auto* schema = OpSchemaRegistry::Schema(node.op_type(), static_cast<int>(version), "");
    if (schema && has_type(*schema, type)) return version;
  }
  return now;
}

template <class Visit>
void for_each_standard_node(onnx::ModelProto& model, const Visit& visit) {
  for_each_graph(*model.mutable_graph(), [&](onnx::GraphProto& graph) {
    for (NodeProto& node : *graph.mutable_node())
      if (canonical_domain(node.domain()).empty()) visit(graph, node);
  });
}

}  // namespace

void raise_opset(onnx::ModelProto& model, DType half, bool io_changes, std::vector<std::string>& notes) {
  if (model.functions_size() > 0) return;  // their bodies have operator sets of their own
  onnx::OperatorSetIdProto* import = nullptr;
  for (auto& candidate : *model.mutable_opset_import())
    if (canonical_domain(candidate.domain()).empty()) import = &candidate;
  if (!import) return;
  const std::int64_t now = import->version();
  const std::string_view type = half == DType::bf16 ? "tensor(bfloat16)" : "tensor(float16)";

  std::int64_t wanted = now, reached = kOnnxOpset;
  std::string needed_by, stopped_by;
  if (io_changes && half == DType::bf16 && now < kFirstBf16Opset) {
    wanted = kFirstBf16Opset;
    needed_by = "Cast";
  }
  for_each_standard_node(model, [&](onnx::GraphProto&, const NodeProto& node) {
    if (const std::int64_t first = first_with(node, now, type); first > wanted) {
      wanted = first;
      needed_by = node.op_type();
    }
    for (const LiftRule& rule : lift_rules())
      if (rule.op == node.op_type() && now < rule.below && rule.below <= reached && !can_pass(node, rule.below)) {
        reached = rule.below - 1;
        stopped_by = node.op_type();
      }
  });
  const std::int64_t target = std::min(wanted, reached);
  if (reached < wanted)
    notes.push_back(
        fmt::format("{} needs operator set {} for {}, but {} means something else from {} on: nodes without "
                    "{} in operator set {} stay f32",
                    needed_by, wanted, name_of(half), stopped_by, reached + 1, name_of(half), target));
  if (target <= now) return;
  for_each_standard_node(model, [&](onnx::GraphProto& graph, NodeProto& node) {
    for (const LiftRule& rule : lift_rules())
      if (rule.op == node.op_type() && now < rule.below && rule.below <= target) pass(graph, node, rule.below);
  });
  import->set_version(target);
  model.set_ir_version(std::max<std::int64_t>(model.ir_version(), ir_version_of(target)));
  notes.push_back(fmt::format("operator set {} instead of {}, since {} has {} only from there on", target, now,
                              needed_by, name_of(half)));
}

}  // namespace halfstep::conversion
