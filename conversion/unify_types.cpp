#include "conversion/unify_types.h"

#include <algorithm>
#include <map>
#include <utility>

#include <onnx/defs/schema.h>

#include <halfstep/ops/op_traits.h>

namespace halfstep::conversion {
namespace {

using onnx::TypeProto;
using Group = std::vector<ValueId>;

std::size_t index(int i) { return static_cast<std::size_t>(i); }

bool is_known(const TypeProto& type) { return type.value_case() != TypeProto::VALUE_NOT_SET; }

class Unifier {
 public:
  explicit Unifier(ModelView& view) : view_(view) {}

  void run() {
    for (const ViewNode& node : view_.nodes) {
      add_operands(node);
      add_bodies(node);
    }
    for (bool learnt = true; learnt;) {
      learnt = false;
      for (const Group& group : groups_) learnt |= spread(group);
      for (auto group = groups_.rbegin(); group != groups_.rend(); ++group) learnt |= spread(*group);
    }
  }

 private:
  TypeProto& type(ValueId v) { return view_.values[v].type; }

  bool spread(const Group& group) {
    const auto known = std::find_if(group.begin(), group.end(), [&](ValueId v) { return is_known(type(v)); });
    if (known == group.end()) return false;
    bool any = false;
    for (const ValueId v : group) {
      if (is_known(type(v))) continue;
      type(v) = type(*known);
      any = true;
    }
    return any;
  }

  void add(Group group) {
    if (group.size() > 1 && std::any_of(group.begin(), group.end(), [&](ValueId v) { return !is_known(type(v)); }))
      groups_.push_back(std::move(group));
  }

  void add_operands(const ViewNode& node) {
    const onnx::OpSchema* schema = view_.schema_of(node);
    if (!schema) return;
    std::map<std::string, Group> by_variable;
    const auto visit = [&](const std::vector<ValueId>& values, const auto& parameters) {
      for (std::size_t k = 0; k < values.size() && !parameters.empty(); ++k) {
        const auto& formal = parameters[std::min(k, parameters.size() - 1)];
        const ValueId v = values[k];
        if (v == kNoValue || !formal.GetIsHomogeneous()) continue;
        if (formal.GetTypes().size() == 1) {
          if (!is_known(type(v))) type(v) = onnx::Utils::DataTypeUtils::ToTypeProto(*formal.GetTypes().begin());
        } else {
          by_variable[formal.GetTypeStr()].push_back(v);
        }
      }
    };
    visit(node.inputs, schema->inputs());
    visit(node.outputs, schema->outputs());
    for (auto& [_, group] : by_variable) add(std::move(group));
  }

  // Values passed into and out of bodies have the same type inside and outside.
  void add_bodies(const ViewNode& node) {
    const ControlFlow kind = traits_of(node).control_flow;
    const bool loop = kind == ControlFlow::loop;
    if (kind == ControlFlow::none) return;
    const std::size_t before = loop ? 1 : 0;  // the first output of a Loop's body is its condition
    for (std::size_t k = 0; k < node.outputs.size(); ++k) {
      Group group;
      if (node.outputs[k] != kNoValue) group.push_back(node.outputs[k]);
      if (loop && k + 2 < node.inputs.size() && node.inputs[k + 2] != kNoValue) group.push_back(node.inputs[k + 2]);
      for (int body : node.bodies) {
        const auto& outputs = view_.scopes[index(body)].outputs;
        if (k + before < outputs.size()) group.push_back(outputs[k + before]);
      }
      add(std::move(group));
    }
    if (node.bodies.empty()) return;
    const auto& inputs = view_.scopes[index(node.bodies[0])].inputs;
    for (std::size_t k = before; kind != ControlFlow::branches && k < std::min(inputs.size(), node.inputs.size()); ++k)
      if (node.inputs[k] != kNoValue) add({node.inputs[k], inputs[k]});
  }

  ModelView& view_;
  std::vector<Group> groups_;
};

}  // namespace

void unify_types(ModelView& view) {
  if (std::any_of(view.values.begin(), view.values.end(), [](const ViewValue& v) { return !is_known(v.type); }))
    Unifier(view).run();
}

}  // namespace halfstep::conversion
