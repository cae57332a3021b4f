#include <map>
#include <string>
#include <unordered_set>
#include <vector>

#include "onnx_io/convert.h"
#include "onnx_io/metadata.h"
#include "ops/proto.h"
#include <halfstep/ops/op_def.h>

namespace halfstep {
namespace {

using NameSet = std::unordered_set<std::string>;

// Writes a graph and, inside it, its bodies. A body reads values of the enclosing graphs by name but, by ONNX's rules,
// must not redefine a name that is visible there: `captured` holds the outer names of its captures, `taken` all names
// in use, to which a writer adds those of its graph while it exists.
class GraphWriter {
 public:
  GraphWriter(const Graph& graph, const std::vector<std::string>& captured, NameSet& taken)
      : graph_(graph), taken_(taken) {
    name_values(captured);
  }
  ~GraphWriter() {
    for (const std::string& name : own_) taken_.erase(name);
  }
  GraphWriter(const GraphWriter&) = delete;
  GraphWriter& operator=(const GraphWriter&) = delete;

  onnx::GraphProto write() {
    proto_.set_name(graph_.name.empty() ? "graph" : graph_.name);
    for (const ValueId id : graph_.values.ids())
      if (graph_[id].is_constant()) write_constant(id);
    for (ValueId in : graph_.inputs) add_info(*proto_.add_input(), in);
    for (const State& state : graph_.states) {
      add_info(*proto_.add_input(), state.value);
      *proto_.add_initializer() = tensor_to_proto(initial_of(state), name(state.value));
    }
    for (const Node& node : graph_.nodes) write_node(node);
    std::unordered_set<ValueId> written;
    for (ValueId out : graph_.outputs) {
      if (written.insert(out).second && !captured_.contains(out))
        add_info(*proto_.add_output(), out);
      else
        write_copied_output(out);
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
  Tensor initial_of(const State& state) const {
    const std::ptrdiff_t source = state.source == kNoValue ? -1 : graph_.state_of(state.source);
    return source < 0 ? state.initial : convert(graph_.states[source].initial, state.initial.dtype());
  }

  std::string name(ValueId id) const { return id == kNoValue ? std::string() : names_[id]; }

  void name_values(const std::vector<std::string>& captured) {
    names_.resize(graph_.values.size());
    for (std::size_t i = 0; i < graph_.captures.size(); ++i) {
      const ValueId inside = graph_.captures[i];
      if (inside == kNoValue) continue;
      names_[inside] = captured.at(i);
      captured_.insert(inside);
    }
    for (const ValueId id : names_.ids())
      if (!captured_.contains(id)) names_[id] = unique(graph_[id].name);
  }

  std::string unique(const std::string& wanted) {
    std::string name = wanted;
    for (int n = 1; !taken_.insert(name).second; ++n) name = wanted + "_" + std::to_string(n);
    own_.push_back(name);
    return name;
  }

  // An output that is a captured value, or a repeated one: produced by a node, as runtimes require.
  void write_copied_output(ValueId id) {
    onnx::NodeProto& identity = *proto_.add_node();
    identity.set_op_type("Identity");
    identity.add_input(name(id));
    identity.add_output(unique(graph_[id].name + "_out"));
    onnx::ValueInfoProto& info = *proto_.add_output();
    add_info(info, id);
    info.set_name(identity.output(0));
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
    for (ValueId in : node.operands()) proto.add_input(name(in));
    for (ValueId out : node.outputs) proto.add_output(name(out));
    std::vector<std::string> captured;
    for (ValueId id : node.captures()) captured.push_back(name(id));
    for (const auto& [key, value] : node.attributes) {
      if (const auto* subgraph = std::get_if<std::shared_ptr<const Graph>>(&value)) {
        onnx::AttributeProto& attribute = *proto.add_attribute();
        attribute.set_name(key);
        attribute.set_type(onnx::AttributeProto::GRAPH);
        *attribute.mutable_g() = GraphWriter(**subgraph, captured, taken_).write();
      } else {
        *proto.add_attribute() = attribute_to_proto(key, value);
      }
    }
  }

  const Graph& graph_;
  NameSet& taken_;                // names in use here and in the enclosing graphs
  std::vector<std::string> own_;  // of these
  ValueMap<std::string> names_;   // the written name of each value
  std::unordered_set<ValueId> captured_;
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
  NameSet names;
  *model.mutable_graph() = GraphWriter(graph, {}, names).write();
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
    if (state.source != kNoValue) add_metadata(std::string(kSourceKey) + name, graph[state.source].name);
  }
  return model;
}

void add_initializer(onnx::ModelProto& model, onnx::TensorProto tensor) {
  onnx::GraphProto& graph = *model.mutable_graph();
  if (model.ir_version() < kInitializersStandAlone) {
    onnx::ValueInfoProto& input = *graph.add_input();
    input.set_name(tensor.name());
    *input.mutable_type() = type_to_proto(static_cast<DType>(tensor.data_type()), shape_from_proto(tensor));
  }
  *graph.add_initializer() = std::move(tensor);
}

}  // namespace halfstep
