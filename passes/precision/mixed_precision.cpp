// Where a half type is worth it in a Graph, and the casts that get it there.
#include <algorithm>
#include <deque>
#include <map>
#include <utility>

#include <onnx/defs/schema.h>

#include "passes/precision/choose_precision.h"
#include "passes/precision/mask_constants.h"
#include <halfstep/ops/builder.h>
#include <halfstep/ops/infer.h>
#include <halfstep/ops/op_def.h>
#include <halfstep/passes/passes.h>

namespace halfstep {
namespace {

bool is_wide(const Value& value) { return value.dtype == DType::f32; }

const onnx::OpSchema* schema_of(const Node& node) {
  const std::int64_t version = node.domain.empty() ? kOnnxOpset : kOwnOpset;
  return onnx::OpSchemaRegistry::Schema(node.op, static_cast<int>(version), node.domain);
}

class Painter {
 public:
  Painter(Graph& graph, const PrecisionOptions& options) : graph_(graph), half_(options.half), b_(graph) {
    describe(options);
    choice_ = choose_precision(nodes_, values_, half_);
  }

  void run() {
    for (const ValueId v : values_.ids())
      if (graph_[v].is_constant()) graph_[v].constant = clamped(graph_[v].constant, choice_.limit(v, false));
    std::vector<Node> source = graph_.take_nodes();
    for (std::size_t i = 0; i < source.size(); ++i) emit(std::move(source[i]), i);
    for (std::size_t i = 0; i < graph_.outputs.size(); ++i) keep_output_type(graph_.outputs[i]);
    for (State& state : graph_.states)
      if (state.next != kNoValue) state.next = as_f32(state.next);
  }

 private:
  // nodes_[i] is graph_.nodes[i]; boundaries follow.
  void describe(const PrecisionOptions& options) {
    values_.resize(graph_.values.size());
    for (const ValueId v : values_.ids()) {
      const Value& value = graph_[v];
      values_[v].wide = is_wide(value);
      values_[v].half = value.dtype == half_;
      if (value.is_constant()) {
        values_[v].kind = PrecisionValue::Kind::constant;
        if (is_wide(value)) values_[v].range = &ranges_.emplace_back(range_of(value.constant));
      }
    }
    for (const State& state : graph_.states) values_[state.value].kind = PrecisionValue::Kind::parameter;
    for (const Node& node : graph_.nodes) {
      for (ValueId out : node.outputs)
        if (out != kNoValue && node.is("Cast"))
          values_[out].integral = bits_of(graph_[node.inputs[0]].dtype) > 8 && is_integer(graph_[node.inputs[0]].dtype);
      PrecisionNode& described = nodes_.emplace_back();
      described.op = node.op;
      described.domain = node.domain;
      described.inputs = node.inputs;
      described.outputs = node.outputs;
      assign_roles(described, schema_of(node), half_, values_);
      if (options.keep_full_ops.contains(node.op)) described.pin = Paint::full;
    }
    std::vector<ValueId> read = graph_.outputs;
    for (const State& state : graph_.states)
      if (state.next != kNoValue) read.push_back(state.next);
    add_boundary({}, graph_.inputs);
    add_boundary(read, {});
  }

  void add_boundary(const std::vector<ValueId>& inputs, const std::vector<ValueId>& outputs) {
    PrecisionNode& boundary = nodes_.emplace_back();
    boundary.pin = Paint::full;
    const auto add = [&](const std::vector<ValueId>& ids, std::vector<ValueId>& operands, std::vector<Role>& roles) {
      operands = ids;
      for (ValueId id : ids) roles.push_back(is_wide(graph_[id]) ? Role::tied : Role::other);
    };
    add(inputs, boundary.inputs, boundary.input_roles);
    add(outputs, boundary.outputs, boundary.output_roles);
  }

  void emit(Node node, std::size_t i) {
    const PrecisionNode& described = nodes_[i];
    const bool half = choice_.half[i];
    reader_ = node.name;
    for (std::size_t k = 0; k < node.inputs.size(); ++k) {
      const Role role = described.input_roles[k];
      if (node.inputs[k] == kNoValue || role == Role::other || role == Role::any) continue;
      const bool narrow = half && role == Role::tied;
      node.inputs[k] = narrow ? as(node.inputs[k], half_) : as_f32(node.inputs[k]);
    }
    if (half && node.is("Cast") && described.output_roles[0] == Role::tied)
      node.attributes.set("to", static_cast<std::int64_t>(half_));
    if (half && node.is("ConstantOfShape")) {
      const Attribute* value = node.attributes.find("value");
      node.attributes.set("value", convert(value ? std::get<Tensor>(*value) : Tensor::of<float>({0}), half_));
    }
    infer_node(graph_, node);
    graph_.append(std::move(node));
  }

  /// A value that was f32 in f32 again.
  ValueId as_f32(ValueId id) {
    const bool narrowed = graph_[id].dtype == half_ && values_.contains(id) && values_[id].wide;
    return narrowed ? as(id, DType::f32) : id;
  }

  /// The value in another type: cast once, a constant converted once.
  ValueId as(ValueId id, DType to) {
    if (graph_[id].dtype == to) return id;
    auto [it, is_new] = cast_.try_emplace({id, to}, kNoValue);
    if (!is_new) return it->second;
    if (graph_[id].is_constant()) {
      const std::string name = graph_[id].name + "." + std::string(name_of(to));
      const bool initializer = graph_[id].is_initializer;
      const double limit = values_.contains(id) ? choice_.limit(id, is_half(to)) : 0;
      it->second = graph_.add_constant(name, convert(clamped(graph_[id].constant, limit), to));
      graph_[it->second].is_initializer = initializer;
    } else {
      const Node* producer = graph_.producer(id);
      b_.set_context((producer ? producer->name : reader_) + ".");
      it->second = b_.cast(b_.expr(id), to).id();
    }
    return it->second;
  }

  // Outputs keep their name and type.
  void keep_output_type(ValueId out) {
    const ValueId wide = as_f32(out);
    if (wide == out) return;
    const std::string name = graph_[out].name;
    graph_.rename(out, name + "." + std::string(name_of(half_)));
    graph_.rename(wide, name);
    graph_.replace_references(out, wide);
  }

  Graph& graph_;
  const DType half_;
  Builder b_;
  std::string reader_;  // the node that is written
  std::vector<PrecisionNode> nodes_;
  ValueMap<PrecisionValue> values_;
  std::deque<FloatRange> ranges_;  // where values_ point
  PrecisionChoice choice_;
  std::map<std::pair<ValueId, DType>, ValueId> cast_;
};

}  // namespace

Pass mixed_precision(PrecisionOptions options) {
  return {"mixed_precision", [options = std::move(options)](Graph& graph) {
            if (!is_half(options.half)) return;
            register_schemas();
            Painter(graph, options).run();
            graph.remove_dead();
          }};
}

}  // namespace halfstep
