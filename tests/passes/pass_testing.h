// What the tests of passes share: graphs from text, and looking at what a pass made of them.
#pragma once

#include <algorithm>
#include <cstring>
#include <memory>
#include <string>
#include <vector>

#include <gmock/gmock.h>

#include <halfstep/base/error.h>
#include <halfstep/executors/executor.h>
#include <halfstep/onnx_io/load.h>
#include <halfstep/ops/infer.h>
#include <halfstep/passes/passes.h>

namespace halfstep::testing {

/// A graph in ONNX's text form, at the operator set halfstep works in; types inferred.
inline Graph parse(const std::string& text) {
  Graph graph = parse_model("<ir_version: 10, opset_import: [\"\": 28, \"ai.halfstep\": 1]> test " + text).graph;
  infer_graph(graph);
  return graph;
}

inline Graph run_passes(const std::string& text, const Pipeline& passes) { return run_pipeline(parse(text), passes); }

/// Operators in order, own ones with their domain.
inline std::vector<std::string> ops_of(const Graph& graph) {
  std::vector<std::string> ops;
  for (const Node& node : graph.nodes) ops.push_back(node.domain.empty() ? node.op : node.domain + "." + node.op);
  return ops;
}
inline const Node* node_of(const Graph& graph, const std::string& op) {
  for (const Node& node : graph.nodes)
    if (node.op == op) return &node;
  return nullptr;
}
inline std::vector<std::string> names_of(const Graph& graph, const std::vector<ValueId>& ids) {
  std::vector<std::string> names;
  for (ValueId id : ids) names.push_back(graph[id].name);
  return names;
}
inline std::vector<std::string> state_names(const Graph& graph, StateRole role) {
  std::vector<std::string> names;
  for (const State& state : graph.states)
    if (state.role == role) names.push_back(graph[state.value].name);
  return names;
}

/// What the passes say against the graph; "" when nothing.
inline std::string error_of(const std::string& text, const Pipeline& passes) {
  try {
    run_passes(text, passes);
  } catch (const Error& error) {
    return error.what();
  }
  return {};
}

/// A graph compiled by the reference executor.
struct Compiled {
  std::unique_ptr<Executor> executor = make_reference_executor();
  std::unique_ptr<StateStore> store = executor->make_store();
  std::unique_ptr<Program> program;
  Graph graph;

  explicit Compiled(const Graph& g) : program(executor->compile(g, *store)), graph(g) {}

  void set(const std::string& input, const Tensor& value) {
    const auto ids = names_of(graph, graph.inputs);
    const auto at = std::find(ids.begin(), ids.end(), input);
    ASSERT_NE(at, ids.end()) << input;
    Tensor target = program->input(static_cast<std::size_t>(at - ids.begin()));
    ASSERT_EQ(target.dtype(), value.dtype());
    ASSERT_EQ(target.shape(), value.shape());
    std::memcpy(target.raw(), value.raw(), value.bytes());
  }
  std::vector<double> get(const std::string& output) {
    const auto ids = names_of(graph, graph.outputs);
    const auto at = std::find(ids.begin(), ids.end(), output);
    if (at == ids.end()) {
      ADD_FAILURE() << "no output " << output;
      return {};
    }
    return to_doubles(program->output(static_cast<std::size_t>(at - ids.begin())));
  }
  std::vector<double> state(const std::string& name) { return to_doubles(store->read(name)); }
};

}  // namespace halfstep::testing
