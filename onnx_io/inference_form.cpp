// Models that were trained, as they are used.
#include <algorithm>
#include <string>
#include <unordered_map>
#include <unordered_set>

#include "onnx_io/convert.h"
#include "onnx_io/patch.h"
#include "onnx_io/remove_unread.h"

namespace halfstep {
namespace {

bool is_training(const onnx::NodeProto& node) {
  return std::any_of(node.attribute().begin(), node.attribute().end(), [](const onnx::AttributeProto& a) {
    return a.name() == "training_mode" && (a.i() != 0 || !a.ref_attr_name().empty());
  });
}

// Of a graph or function the values that its changed nodes no longer give, by what stands in for them there and in the
// graphs inside it. Graphs side by side may use the same names for different things.
struct Scope {
  const Scope* outer;
  std::unordered_map<std::string, std::string> stand_ins = {};

  /// The name to read in place of this one.
  const std::string& read_as(const std::string& name) const {
    for (const Scope* scope = this; scope; scope = scope->outer)
      if (const auto found = scope->stand_ins.find(name); found != scope->stand_ins.end()) return found->second;
    return name;
  }
};

void infer_batch_normalization(onnx::NodeProto& node, Scope& scope) {
  if (!is_training(node) && node.output_size() <= 1) return;
  for (auto& attribute : *node.mutable_attribute()) {
    if (attribute.name() != "training_mode") continue;
    attribute.clear_ref_attr_name();
    attribute.set_type(onnx::AttributeProto::INT);
    attribute.set_i(0);
  }
  // Outputs 1 and 2 are the running statistics after the step; for inference these are inputs 3 and 4, unchanged.
  for (int i = 1; i < node.output_size(); ++i)
    if (!node.output(i).empty() && node.input_size() == 5)
      scope.stand_ins[node.output(i)] = node.input(i % 2 == 1 ? 3 : 4);
  node.mutable_output()->DeleteSubrange(1, node.output_size() - 1);
}

void infer_dropout(onnx::NodeProto& node, std::unordered_set<std::string>& unread) {
  if (node.input_size() < 3) return;
  unread.insert(node.input(2));
  node.mutable_input()->RemoveLast();
}

const std::string& name_of_output(const onnx::ValueInfoProto& output) { return output.name(); }
const std::string& name_of_output(const std::string& output) { return output; }

// Outputs keep their names: an Identity passes the running statistic on.
template <class Owner>
void pass_on_outputs(Owner& owner, const Scope& scope) {
  std::unordered_set<std::string> passed;
  for (const auto& output : owner.output()) {
    const std::string& name = name_of_output(output);
    const std::string& source = scope.read_as(name);
    if (source == name || !passed.insert(name).second) continue;
    onnx::NodeProto& identity = *owner.add_node();
    identity.set_op_type("Identity");
    identity.add_input(source);
    identity.add_output(name);
  }
}

// Of a graph or function whose nodes come after what they read. `unread` gets what changed nodes no longer read.
template <class Owner>
void infer_nodes(Owner& owner, const Scope* outer, std::unordered_set<std::string>& unread) {
  Scope scope{outer};
  for (onnx::NodeProto& node : *owner.mutable_node()) {
    for (std::string& name : *node.mutable_input())
      if (const std::string& source = scope.read_as(name); source != name) name = source;
    if (is_op(node, "BatchNormalization")) infer_batch_normalization(node, scope);
    if (is_op(node, "Dropout")) infer_dropout(node, unread);
    for (auto& attribute : *node.mutable_attribute()) {
      if (attribute.has_g()) infer_nodes(*attribute.mutable_g(), &scope, unread);
      for (auto& body : *attribute.mutable_graphs()) infer_nodes(body, &scope, unread);
    }
  }
  if (!scope.stand_ins.empty()) {
    std::unordered_set<std::string> gone;
    for (const auto& [name, _] : scope.stand_ins) gone.insert(name);
    remove_named(*owner.mutable_value_info(), gone);
  }
  pass_on_outputs(owner, scope);
}

}  // namespace

void to_inference_form(onnx::ModelProto& model) {
  onnx::GraphProto& graph = *model.mutable_graph();
  std::unordered_set<std::string> unread;
  infer_nodes(graph, nullptr, unread);
  remove_unread(graph, unread);
  // What a function's own nodes no longer need stays: it is small.
  for (auto& function : *model.mutable_functions()) infer_nodes(function, nullptr, unread);
}

}  // namespace halfstep
