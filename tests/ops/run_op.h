// One operator on given tensors, by the reference executor.
#pragma once

#include <cstring>
#include <memory>
#include <string_view>
#include <vector>

#include <halfstep/executors/executor.h>
#include <halfstep/ops/builder.h>

namespace halfstep {

/// Runs `graph` on these inputs and returns its outputs.
inline std::vector<Tensor> run_graph(const Graph& graph, const std::vector<Tensor>& inputs) {
  const std::unique_ptr<Executor> executor = make_reference_executor();
  const std::unique_ptr<StateStore> store = executor->make_store();
  const std::unique_ptr<Program> program = executor->compile(graph, *store);
  for (std::size_t i = 0; i < inputs.size(); ++i)
    if (inputs[i].bytes() > 0) std::memcpy(program->input(i).raw(), inputs[i].raw(), inputs[i].bytes());
  program->run();
  std::vector<Tensor> outputs;
  for (std::size_t i = 0; i < graph.outputs.size(); ++i) outputs.push_back(program->output(i).clone());
  return outputs;
}

inline std::vector<Tensor> run_op(std::string_view op, std::string_view domain, const std::vector<Tensor>& inputs,
                                  std::size_t outputs, Attributes attributes = {}) {
  Graph graph;
  Builder b(graph);
  std::vector<Expr> operands;
  for (const Tensor& input : inputs) operands.push_back(b.expr(graph.add_input("", input.dtype(), input.shape())));
  for (const Expr& result : b.multi(op, domain, operands, outputs, std::move(attributes)))
    graph.outputs.push_back(result.id());
  return run_graph(graph, inputs);
}

inline std::vector<Tensor> run_own(std::string_view op, const std::vector<Tensor>& inputs, std::size_t outputs,
                                   Attributes attributes = {}) {
  return run_op(op, kOwnDomain, inputs, outputs, std::move(attributes));
}

}  // namespace halfstep
