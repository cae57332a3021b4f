#include "conversion/plan.h"

#include <algorithm>

#include "conversion/expected_magnitudes.h"
#include "conversion/joints.h"
#include "conversion/node_patterns.h"
#include "conversion/raise_opset.h"
#include "conversion/view_constants.h"
#include <halfstep/base/error.h>

namespace halfstep::conversion {
namespace {

std::size_t index(int i) { return static_cast<std::size_t>(i); }

class Planner {
 public:
  Planner(const ModelView& view, const DetachedModel& model, const ConvertOptions& options)
      : view_(view), model_(model), options_(options) {}

  ConversionPlan run() {
    describe_values();
    find_readers();
    classify_nodes();
    describe_nodes();
    expect_magnitudes(view_, model_, options_.half, plan_.nodes, plan_.values);
    describe_joints();
    choose_boundaries();
    describe_boundaries();
    plan_.choice = choose_precision(plan_.nodes, plan_.values, options_.half);
    collect_made_half();
    tell_of_joints();
    return std::move(plan_);
  }

 private:
  void describe_values() {
    plan_.values.resize(view_.values.size());
    plan_.same_as.resize(view_.values.size());
    for (const ValueId v : view_.values.ids()) {
      const ViewValue& value = view_.values[v];
      PrecisionValue& described = plan_.values[v];
      described.wide = value.is_wide();
      described.half = value.dtype() == options_.half;
      described.unknown = value.type.value_case() == onnx::TypeProto::VALUE_NOT_SET;
      plan_.same_as[v] = v;
      const auto measured = value.scope == 0 ? options_.measured.find(value.name) : options_.measured.end();
      const bool is_measured = measured != options_.measured.end();
      // Values that are already half give the same information about their readers as f32 values.
      if (described.half && is_measured) described.range = &measured->second;
      if (!described.wide) continue;
      if (const Tensor tensor = constant_of(view_, model_, v); tensor.is_defined()) {
        described.kind = PrecisionValue::Kind::constant;
        described.range = &plan_.ranges.emplace_back(range_of(tensor, options_.half));
        if (value.initializer) model_.forget(*value.initializer, 0, tensor.bytes());
      } else if (const Tensor given = default_of(model_, value); given.is_defined()) {
        described.range = &plan_.ranges.emplace_back(range_of(given, options_.half));
        model_.forget(*value.initializer, 0, given.bytes());
      } else if (const Tensor fill = fill_of(view_, model_, v);
                 fill.is_defined() && range_of(fill).overflows(options_.half)) {
        described.range = &plan_.ranges.emplace_back(range_of(fill));
        described.of_constant = true;
      } else if (is_measured) {
        described.range = &measured->second;
      }
    }
  }

  void find_readers() {
    is_read_.resize(view_.values.size(), false);
    const auto read = [&](const std::vector<ValueId>& values) {
      for (const ValueId v : values)
        if (v != kNoValue) is_read_[v] = true;
    };
    for (const ViewNode& node : view_.nodes) read(node.inputs);
    for (const ViewScope& scope : view_.scopes) read(scope.outputs);
  }

  void classify_nodes() {
    for (const ViewNode& node : view_.nodes) {
      NodeKind kind = NodeKind::ordinary;
      const bool one = node.outputs.size() == 1 && node.outputs[0] != kNoValue;
      if (node.is("Constant") && one && plan_.values[node.outputs[0]].kind == PrecisionValue::Kind::constant)
        kind = NodeKind::constant;
      const bool like = node.is("CastLike") && node.inputs.size() == 2;
      if (one && (like || (node.is("Cast") && node.inputs.size() == 1)) && node.inputs[0] != kNoValue) {
        const DType from = view_.values[node.inputs[0]].dtype();
        const DType to = view_.values[node.outputs[0]].dtype();
        if (from == options_.half && to == DType::f32 && !like) kind = NodeKind::widening;
        if (from == DType::f32 && to == DType::f32 && !is_inner(node)) {
          if (node.scope != 0) kind = NodeKind::copy;
        } else if (from == DType::f32 && to == DType::f32) {
          kind = NodeKind::widening;  // of nothing
          plan_.same_as[node.outputs[0]] = plan_.same_as[node.inputs[0]];
        }
        if (from == DType::f32 && to == options_.half && !like) kind = NodeKind::narrowing;
        if (from != DType::undefined && from != DType::f32 && from != options_.half && to == DType::f32)
          kind = NodeKind::cast;
        if (kind == NodeKind::cast && is_integer(from) && bits_of(from) > 8)
          plan_.values[node.outputs[0]].integral = true;
      }
      plan_.kinds.push_back(kind);
      if (kind != NodeKind::widening || plan_.same_as[node.outputs[0]] != node.outputs[0]) continue;
      const int producer = view_.values[node.inputs[0]].producer;
      const bool there_and_back = producer != kNone && plan_.kinds[index(producer)] == NodeKind::narrowing;
      if (there_and_back && !view_.is_output(node.outputs[0]) && is_inner(node))
        plan_.same_as[node.outputs[0]] = plan_.same_as[view_.nodes[index(producer)].inputs[0]];
    }
  }

  // A body's outputs are determined by position, so the Cast stays there.
  bool is_inner(const ViewNode& node) const {
    const auto& outputs = view_.scopes[index(node.scope)].outputs;
    return std::find(outputs.begin(), outputs.end(), node.outputs[0]) == outputs.end();
  }

  bool keeps_type(const std::string& name) const {
    const auto& names = options_.keep_io_names;
    return options_.keep_io_types || std::find(names.begin(), names.end(), name) != names.end();
  }

  void choose_boundaries() {
    const ViewScope& main = view_.scopes[0];
    for (const std::string& name : options_.keep_io_names) {
      const auto is_it = [&](ValueId v) { return view_.values[v].name == name; };
      if (std::none_of(main.inputs.begin(), main.inputs.end(), is_it) &&
          std::none_of(main.outputs.begin(), main.outputs.end(), is_it))
        throw_input_error("the name of an input or output of the model whose type is to be kept", "'" + name + "'",
                          "halfstep inspect lists them");
    }
    plan_.half_boundary.resize(view_.values.size(), false);
    const auto opset = view_.opsets.find("");
    if (options_.half == DType::bf16 && opset != view_.opsets.end() && opset->second < kFirstBf16Opset) return;
    std::vector<ValueId> open;
    for (const auto* list : {&main.inputs, &main.outputs})
      for (const ValueId v : *list)
        if (view_.values[v].is_wide() && !keeps_type(view_.values[v].name)) open.push_back(v);
    const std::vector<ValueMisfit> misfits = find_misfits(plan_.nodes, plan_.values, open, options_.half);
    for (std::size_t k = 0; k < open.size(); ++k) {
      if (misfits[k].kind != Misfit::none) plan_.boundary_misfits[open[k]] = misfits[k];
      // Expected magnitudes alone do not change the interface.
      plan_.half_boundary[open[k]] = misfits[k].kind == Misfit::none || misfits[k].kind == Misfit::expected;
    }
  }

  void describe_nodes() {
    const Matcher keep(options_.keep_f32), force(options_.force_half);
    for (std::size_t i = 0; i < view_.nodes.size(); ++i) {
      const ViewNode& node = view_.nodes[i];
      PrecisionNode& described = plan_.nodes.emplace_back();
      const NodeKind kind = plan_.kinds[i];
      const bool kept = keep.matches(node), forced = !kept && force.matches(node);
      kept_.push_back(kept);
      if (kind == NodeKind::constant) {
        described.pin = Paint::full;
        continue;
      }
      if (kind == NodeKind::widening || kind == NodeKind::narrowing) {
        described.pin = Paint::half;
        if (kind == NodeKind::widening && plan_.same_as[node.outputs[0]] == node.outputs[0])
          described.outputs = node.outputs;
        // A Cast to half that is only read by Casts back to f32 does not require half.
        if (kind == NodeKind::narrowing && !only_widened(node.outputs[0]))
          described.inputs = {plan_.same_as[node.inputs[0]]};
        described.input_roles.assign(described.inputs.size(), Role::tied);
        described.output_roles.assign(described.outputs.size(), Role::tied);
        continue;
      }
      described.op = node.op;
      described.domain = node.domain;
      for (const ValueId v : node.inputs) described.inputs.push_back(v == kNoValue ? kNoValue : plan_.same_as[v]);
      described.outputs = node.outputs;
      assign_roles(described, view_.schema_of(node), options_.half, plan_.values);
      // The value that a CastLike refers to need not exist in its target type: the node can become a Cast.
      if (node.is("CastLike") && node.inputs.size() == 2 && described.input_roles[1] == Role::tied)
        described.input_roles[1] = Role::any;
      if (kind == NodeKind::copy) {
        described.op = "Identity";
        described.input_roles[0] = Role::tied;
      }
      if (normalizes_by_constants(node))
        for (auto* roles : {&described.input_roles, &described.output_roles})
          std::replace(roles->begin(), roles->end(), Role::fixed, Role::tied);
      if (!node.bodies.empty()) {
        described.pin = Paint::full;
        described.reason = "has subgraphs";
        fix_all(described);
      } else if (touches_containers(node)) {
        described.pin = Paint::full;
        described.reason = "has sequences or optional values";
        fix_all(described);
      }
      if (!forced && moves_data(described) && accumulates(*node.proto)) {
        described.pin = Paint::full;
        described.reason = "sums any number of elements";
      }
      if (kept) described.reason = "kept in f32 as requested";
      if (described.pin != Paint::open || (!kept && !forced)) continue;
      described.pin = kept ? Paint::full : Paint::half;
      if (forced) described.reason = "half as requested";
      described.forced = forced;
    }
    for (const std::string& unused : keep.unused()) plan_.warnings.push_back("no node is selected by '" + unused + "'");
    for (const std::string& unused : force.unused())
      plan_.warnings.push_back("no node is selected by '" + unused + "'");
  }

  static bool accumulates(const onnx::NodeProto& node) {
    return std::any_of(node.attribute().begin(), node.attribute().end(), [](const auto& attribute) {
      return attribute.name() == "reduction" && attribute.s() != "none";
    });
  }

  // ONNX allows the parameters and statistics to have a type other than the data; most runtimes do not. If they only
  // change in training, they are constants like any others.
  bool normalizes_by_constants(const ViewNode& node) const {
    const auto is_constant = [&](ValueId v) {
      return v != kNoValue && plan_.values[v].kind == PrecisionValue::Kind::constant;
    };
    const auto is_left = [&](ValueId v) { return v == kNoValue || !is_read_[v]; };
    return node.is("BatchNormalization") && node.inputs.size() == 5 && is_wide(node.outputs[0]) &&
           std::all_of(node.inputs.begin() + 1, node.inputs.end(), is_constant) &&
           std::all_of(node.outputs.begin() + 1, node.outputs.end(), is_left);
  }

  bool is_wide(ValueId v) const { return v != kNoValue && plan_.values[v].wide; }

  bool only_widened(ValueId value) const {
    bool any = false;
    for (std::size_t i = 0; i < view_.nodes.size(); ++i)
      for (const ValueId in : view_.nodes[i].inputs) {
        if (in != value) continue;
        if (plan_.kinds[i] != NodeKind::widening ||
            plan_.same_as[view_.nodes[i].outputs[0]] == view_.nodes[i].outputs[0])
          return false;
        any = true;
      }
    for (const ViewScope& scope : view_.scopes)
      if (std::find(scope.outputs.begin(), scope.outputs.end(), value) != scope.outputs.end()) return false;
    return any;
  }

  static void fix_all(PrecisionNode& node) {
    for (auto* roles : {&node.input_roles, &node.output_roles})
      for (Role& role : *roles)
        if (role == Role::tied) role = Role::fixed;
  }

  bool touches_containers(const ViewNode& node) const {
    const auto is_container = [&](ValueId v) { return v != kNoValue && !view_.values[v].is_tensor_or_unknown(); };
    return std::any_of(node.inputs.begin(), node.inputs.end(), is_container) ||
           std::any_of(node.outputs.begin(), node.outputs.end(), is_container);
  }

  void describe_joints() {
    for (const ViewScope& scope : view_.scopes) plan_.output_joints.emplace_back(scope.outputs.size(), kNone);
    joined_.resize(view_.values.size(), false);
    for (std::size_t i = 0; i < view_.nodes.size(); ++i) {
      const ViewNode& node = view_.nodes[i];
      auto& operands = plan_.operand_joints.emplace_back(node.bodies.empty() ? 0 : node.inputs.size(), kNone);
      for (const Joint& joint : joints_of(view_, node, options_.half)) {
        const int id = static_cast<int>(plan_.nodes.size());
        PrecisionNode described;
        if (kept_[i]) described.pin = Paint::full;
        PrecisionNode& owner = plan_.nodes[i];
        if (joint.operand != kNone) {
          operands[index(joint.operand)] = id;
          described.inputs.push_back(std::exchange(owner.inputs[index(joint.operand)], kNoValue));
        }
        for (const auto& [scope, position] : joint.body_outputs) {
          plan_.output_joints[index(scope)][position] = id;
          described.inputs.push_back(plan_.same_as[view_.scopes[index(scope)].outputs[position]]);
        }
        if (joint.output != kNone)
          described.outputs.push_back(std::exchange(owner.outputs[index(joint.output)], kNoValue));
        if (joint.body_input != kNoValue) {
          joined_[joint.body_input] = true;
          described.outputs.push_back(joint.body_input);
        }
        add_boundary(std::move(described));
      }
    }
  }

  void describe_boundaries() {
    for (std::size_t s = 0; s < view_.scopes.size(); ++s)
      for (const bool half : {false, true}) {
        PrecisionNode boundary;
        boundary.pin = half ? Paint::half : Paint::full;
        const auto is_here = [&](ValueId v) {
          return view_.values[v].is_wide() && (s == 0 && plan_.half_boundary[v]) == half;
        };
        for (const ValueId v : view_.scopes[s].inputs)
          if (is_here(v) && !joined_[v]) boundary.outputs.push_back(v);
        for (std::size_t k = 0; k < view_.scopes[s].outputs.size(); ++k)
          if (const ValueId v = view_.scopes[s].outputs[k]; is_here(v) && plan_.output_joints[s][k] == kNone)
            boundary.inputs.push_back(s == 0 ? v : plan_.same_as[v]);
        add_boundary(std::move(boundary));
      }
  }

  void add_boundary(PrecisionNode boundary) {
    boundary.input_roles.assign(boundary.inputs.size(), Role::tied);
    boundary.output_roles.assign(boundary.outputs.size(), Role::tied);
    plan_.nodes.push_back(std::move(boundary));
  }

  void collect_made_half() {
    plan_.made_half.resize(view_.values.size(), false);
    for (std::size_t n = 0; n < plan_.nodes.size(); ++n) {
      const bool widens = n < plan_.kinds.size() && plan_.kinds[n] == NodeKind::widening;
      if (!plan_.choice.half[n] || widens) continue;
      const PrecisionNode& node = plan_.nodes[n];
      for (std::size_t k = 0; k < node.outputs.size(); ++k)
        if (node.outputs[k] != kNoValue && node.output_roles[k] == Role::tied) plan_.made_half[node.outputs[k]] = true;
    }
  }

  // A node with joints counts as half if all values that it passes are half.
  void tell_of_joints() {
    for (std::size_t i = 0; i < view_.nodes.size(); ++i) {
      bool half = false, full = false;
      const auto count = [&](int joint) {
        if (joint != kNone) (plan_.choice.half[index(joint)] ? half : full) = true;
      };
      for (int joint : plan_.operand_joints[i]) count(joint);
      for (int body : view_.nodes[i].bodies)
        for (int joint : plan_.output_joints[index(body)]) count(joint);
      if (!half) continue;
      const PrecisionNode& node = plan_.nodes[i];
      for (std::size_t k = 0; k < node.inputs.size(); ++k)
        full = full || (node.inputs[k] != kNoValue && node.input_roles[k] == Role::fixed);
      for (std::size_t k = 0; k < node.outputs.size(); ++k)
        full = full || (node.outputs[k] != kNoValue && node.output_roles[k] == Role::fixed);
      plan_.choice.half[i] = !full;
      plan_.choice.reasons[i] = full ? "passes some values in half, others in f32" : "passes values in half";
    }
  }

  const ModelView& view_;
  const DetachedModel& model_;
  const ConvertOptions& options_;
  ConversionPlan plan_;
  ValueMap<bool> is_read_;
  std::vector<bool> kept_;  ///< per node: set by an option
  ValueMap<bool> joined_;   ///< an input of a body that belongs to a joint
};

}  // namespace

Taken ConversionPlan::taken(int node, std::size_t operand) const {
  const auto& joints = operand_joints[index(node)];
  if (operand < joints.size() && joints[operand] != kNone) return is_half(joints[operand]) ? Taken::half : Taken::f32;
  const Role role = nodes[index(node)].input_roles[operand];
  if (role == Role::any || role == Role::other) return Taken::any;
  return role == Role::tied && is_half(node) ? Taken::half : Taken::f32;
}

bool ConversionPlan::gives_half(const ModelView& view, std::size_t scope, std::size_t position) const {
  if (scope == 0) return half_boundary[view.scopes[0].outputs[position]];
  const int joint = output_joints[scope][position];
  return joint != kNone && is_half(joint);
}

ConversionPlan plan_conversion(const ModelView& view, const DetachedModel& model, const ConvertOptions& options) {
  return Planner(view, model, options).run();
}

}  // namespace halfstep::conversion
