// Where a half type is worth it, and the fewest casts that get it there.
#include <map>

#include <onnx/defs/schema.h>

#include "ops/builder.h"
#include "ops/infer.h"
#include "ops/op_def.h"
#include "passes/passes.h"

namespace halfstep {
namespace {

bool is_wide(DType dtype) { return dtype == DType::f32; }

const onnx::OpSchema* schema_of(const Node& node) {
  const std::int64_t version = node.domain.empty() ? kOnnxOpset : kOwnOpset;
  return onnx::OpSchemaRegistry::Schema(node.op, static_cast<int>(version), node.domain);
}

// Inputs that must have the type of output 0: those the schema gives the same type variable. The others
// (BatchNormalization's scale and statistics, Resize's scales) keep theirs.
std::vector<bool> follows_output(const Node& node) {
  std::vector<bool> result(node.inputs.size(), false);
  const onnx::OpSchema* schema = schema_of(node);
  if (!schema || schema->outputs().empty()) return result;
  const std::string& type = schema->outputs()[0].GetTypeStr();
  const auto& formal = schema->inputs();
  for (std::size_t i = 0; i < result.size() && !formal.empty(); ++i) {
    const auto& input = formal[std::min(i, formal.size() - 1)];
    result[i] = input.GetTypeStr() == type;
  }
  return result;
}

class Painter {
 public:
  Painter(Graph& graph, const PrecisionOptions& options) : graph_(graph), options_(options), b_(graph) {}

  void run() {
    paint();
    std::vector<Node> source = std::move(graph_.nodes);
    graph_.nodes.clear();
    if (options_.convert_io)
      for (ValueId in : graph_.inputs)
        if (is_wide(graph_[in].dtype)) graph_[in].dtype = options_.half;
    for (std::size_t i = 0; i < source.size(); ++i) emit(std::move(source[i]), half_[i]);
    for (std::size_t i = 0; i < graph_.outputs.size(); ++i) keep_output_type(i);
  }

 private:
  // Half nodes are painted; Follow and Neutral ones take the colour of what they read, when all of it that could be
  // half is. Nodes without a float result stay as they are.
  void paint() {
    half_.assign(graph_.nodes.size(), false);
    std::vector<bool> half_value(graph_.values.size(), false);
    if (options_.convert_io)
      for (ValueId in : graph_.inputs) half_value[static_cast<std::size_t>(in)] = is_wide(graph_[in].dtype);
    for (std::size_t i = 0; i < graph_.nodes.size(); ++i) {
      const Node& node = graph_.nodes[i];
      const OpDef* row = find_op(node.op, node.domain);
      if (!row || node.outputs.empty() || node.outputs[0] == kNoValue || !is_wide(graph_[node.outputs[0]].dtype))
        continue;
      if (options_.keep_full_ops.contains(node.op) || node.op == "Cast" || node.op == "CastLike") continue;
      bool half = row->precision == PrecisionClass::half;
      if (row->precision == PrecisionClass::follow || row->precision == PrecisionClass::neutral) {
        const std::vector<bool> follows = follows_output(node);
        bool any_half = false, any_wide = false;
        for (std::size_t k = 0; k < node.inputs.size(); ++k) {
          const ValueId in = node.inputs[k];
          if (in == kNoValue || !follows[k] || !is_wide(graph_[in].dtype) || graph_[in].is_constant()) continue;
          if (half_value[static_cast<std::size_t>(in)]) any_half = true;
          // A parameter or bias costs one cast of its own; another f32 result would be cast only to follow.
          else if (graph_.state_of(in) < 0)
            any_wide = true;
        }
        half = any_half && !any_wide;
      }
      if (!half) continue;
      half_[i] = true;
      const onnx::OpSchema* schema = schema_of(node);
      for (std::size_t k = 0; k < node.outputs.size(); ++k)
        if (node.outputs[k] != kNoValue && schema && k < schema->outputs().size() &&
            schema->outputs()[k].GetTypeStr() == schema->outputs()[0].GetTypeStr())
          half_value[static_cast<std::size_t>(node.outputs[k])] = true;
    }
  }

  void emit(Node node, bool half) {
    const std::vector<bool> follows = follows_output(node);
    for (std::size_t k = 0; k < node.inputs.size(); ++k) {
      ValueId& in = node.inputs[k];
      if (in == kNoValue) continue;
      const DType now = graph_[in].dtype;
      if (half && follows[k] && is_wide(now)) in = as(in, options_.half);
      if (!half && now == options_.half && was_wide(in)) in = as(in, DType::f32);
      if (half && !follows[k] && now == options_.half && was_wide(in)) in = as(in, DType::f32);
    }
    std::vector<std::pair<ValueId, DType>> before;
    for (ValueId out : node.outputs)
      if (out != kNoValue) before.emplace_back(out, graph_[out].dtype);
    infer_node(graph_, node);
    for (auto [out, dtype] : before)
      if (is_wide(dtype) && graph_[out].dtype == options_.half) narrowed_[out] = true;
    graph_.nodes.push_back(std::move(node));
  }

  // Was this value f32 before the pass? (Values that were half already in the model are none of our business.)
  bool was_wide(ValueId id) const {
    if (narrowed_.contains(id)) return true;
    return options_.convert_io && graph_.is_input(id);
  }

  /// The value in another type: cast once, a constant converted once.
  ValueId as(ValueId id, DType to) {
    auto [it, is_new] = cast_.try_emplace({id, to}, kNoValue);
    if (!is_new) return it->second;
    if (graph_[id].is_constant()) {
      const std::string name = graph_[id].name + "." + std::string(name_of(to));
      const bool initializer = graph_[id].is_initializer;
      it->second = graph_.add_constant(name, convert(graph_[id].constant, to));
      graph_[it->second].is_initializer = initializer;
    } else {
      b_.set_context(graph_[id].name);
      it->second = b_.cast(b_.expr(id), to).id();
    }
    return it->second;
  }

  // Outputs keep their name, and their type unless asked otherwise.
  void keep_output_type(std::size_t i) {
    const ValueId out = graph_.outputs[i];
    if (!narrowed_.contains(out) || options_.convert_io) return;
    const std::string name = graph_[out].name;
    const ValueId wide = as(out, DType::f32);
    graph_.rename(out, name + "." + std::string(name_of(options_.half)));
    graph_.rename(wide, name);
    graph_.outputs[i] = wide;
  }

  Graph& graph_;
  const PrecisionOptions& options_;
  Builder b_;
  std::vector<bool> half_;
  std::map<std::pair<ValueId, DType>, ValueId> cast_;
  std::map<ValueId, bool> narrowed_;
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
