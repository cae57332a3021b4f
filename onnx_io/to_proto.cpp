#include <map>
#include <unordered_map>
#include <unordered_set>

#include "onnx_io/convert.h"
#include "onnx_io/metadata.h"
#include "ops/op_def.h"
#include "ops/proto.h"

namespace halfstep {
namespace {

using Names = std::unordered_map<std::string, std::string>;

// Writes a graph and, inside it, its subgraphs. `outer` holds the enclosing graphs' names and how they were written: a
// subgraph may read them but, by ONNX's rules, not define them again, so that its own are renamed where they clash.
class GraphWriter {
 public:
  GraphWriter(const Graph& graph, const Names* outer) : graph_(graph), outer_(outer) {}

  onnx::GraphProto write() {
    proto_.set_name(graph_.name.empty() ? "graph" : graph_.name);
    name_values();
    for (std::size_t i = 0; i < graph_.values.size(); ++i)
      if (graph_.values[i].is_constant()) write_constant(static_cast<ValueId>(i));
    for (ValueId in : graph_.inputs) add_info(*proto_.add_input(), in);
    for (const State& state : graph_.states) {
      add_info(*proto_.add_input(), state.value);
      *proto_.add_initializer() = tensor_to_proto(state.initial, name(state.value));
    }
    for (const Node& node : graph_.nodes) write_node(node);
    std::unordered_set<ValueId> written;
    for (ValueId out : graph_.outputs) {
      add_info(*proto_.add_output(), out);
      written.insert(out);
    }
    for (const State& state : graph_.states)
      for (ValueId out : {state.next, state.gradient})
        if (out != kNoValue && written.insert(out).second) add_info(*proto_.add_output(), out);
    for (const Node& node : graph_.nodes)
      for (ValueId out : node.outputs)
        if (out != kNoValue && !written.contains(out) && graph_[out].dtype != DType::undefined)
          add_info(*proto_.add_value_info(), out);
    return std::move(proto_);
  }

 private:
  std::string name(ValueId id) const { return id == kNoValue ? std::string() : names_.at(graph_[id].name); }

  void name_values() {
    std::vector<bool> own(graph_.values.size(), false);
    auto define = [&](ValueId id) {
      if (id != kNoValue) own[static_cast<std::size_t>(id)] = true;
    };
    for (ValueId in : graph_.inputs) define(in);
    for (const State& state : graph_.states) define(state.value);
    for (const Node& node : graph_.nodes)
      for (ValueId out : node.outputs) define(out);
    std::unordered_set<std::string> taken;
    if (outer_) {
      names_ = *outer_;
      for (const auto& [_, written] : *outer_) taken.insert(written);
    }
    for (const Value& value : graph_.values)
      if (!outer_ || !outer_->contains(value.name)) taken.insert(value.name);
    for (std::size_t i = 0; i < graph_.values.size(); ++i) {
      const Value& value = graph_.values[i];
      const bool captured = !own[i] && !value.is_constant();
      if (captured && outer_ && outer_->contains(value.name)) continue;
      std::string written = value.name;
      if (outer_ && outer_->contains(value.name))
        for (int n = 1; !taken.insert(written).second; ++n) written = value.name + "_" + std::to_string(n);
      names_[value.name] = written;
    }
  }

  void add_info(onnx::ValueInfoProto& info, ValueId id) const {
    info.set_name(name(id));
    *info.mutable_type() = type_to_proto(graph_[id].dtype, graph_[id].shape);
  }

  void write_constant(ValueId id) {
    const Value& value = graph_[id];
    if (value.is_initializer) {
      *proto_.add_initializer() = tensor_to_proto(value.constant, name(id));
      return;
    }
    onnx::NodeProto& proto = *proto_.add_node();
    proto.set_op_type("Constant");
    proto.add_output(name(id));
    *proto.add_attribute() = attribute_to_proto("value", value.constant);
  }

  void write_node(const Node& node) {
    onnx::NodeProto& proto = *proto_.add_node();
    proto.set_name(node.name);
    proto.set_op_type(node.op);
    proto.set_domain(node.domain);
    for (ValueId in : node.inputs) proto.add_input(name(in));
    for (ValueId out : node.outputs) proto.add_output(name(out));
    for (const auto& [key, value] : node.attributes) {
      if (const auto* subgraph = std::get_if<std::shared_ptr<const Graph>>(&value)) {
        onnx::AttributeProto& attribute = *proto.add_attribute();
        attribute.set_name(key);
        attribute.set_type(onnx::AttributeProto::GRAPH);
        *attribute.mutable_g() = GraphWriter(**subgraph, &names_).write();
      } else {
        *proto.add_attribute() = attribute_to_proto(key, value);
      }
    }
  }

  const Graph& graph_;
  const Names* outer_;
  Names names_;
  onnx::GraphProto proto_;
};

void collect_domains(const Graph& graph, std::map<std::string, std::int64_t>& opsets) {
  for (const Node& node : graph.nodes) {
    if (!opsets.contains(node.domain)) opsets[node.domain] = node.domain.empty() ? kOnnxOpset : kOwnOpset;
    for (const auto& [_, value] : node.attributes)
      if (const auto* subgraph = std::get_if<std::shared_ptr<const Graph>>(&value)) collect_domains(**subgraph, opsets);
  }
}

}  // namespace

onnx::ModelProto to_proto(const Graph& graph) {
  onnx::ModelProto model;
  model.set_ir_version(onnx::IR_VERSION);
  model.set_producer_name("halfstep");
  std::map<std::string, std::int64_t> opsets = graph.opsets;
  opsets.try_emplace(std::string(kOnnxDomain), kOnnxOpset);
  collect_domains(graph, opsets);
  for (const auto& [domain, version] : opsets) {
    auto* import = model.add_opset_import();
    import->set_domain(domain);
    import->set_version(version);
  }
  *model.mutable_graph() = GraphWriter(graph, nullptr).write();
  auto add_metadata = [&](std::string key, std::string value) {
    auto* entry = model.add_metadata_props();
    entry->set_key(std::move(key));
    entry->set_value(std::move(value));
  };
  if (!graph.states.empty()) add_metadata(std::string(kOutputCountKey), std::to_string(graph.outputs.size()));
  for (const State& state : graph.states) {
    const std::string& name = graph[state.value].name;
    add_metadata(std::string(kStateKey) + name, std::string(name_of(state.role)));
    if (state.next != kNoValue) add_metadata(std::string(kNextKey) + name, graph[state.next].name);
    if (state.gradient != kNoValue) add_metadata(std::string(kGradientKey) + name, graph[state.gradient].name);
  }
  return model;
}

}  // namespace halfstep
