#include "conformance/run_graph.h"

#include <algorithm>
#include <cstring>
#include <set>

#include <fmt/format.h>
#include <fmt/ranges.h>

namespace halfstep {

void copy_elements(Tensor to, const Tensor& from) {
  if (to.dtype() == DType::string) {
    const auto source = from.span<std::string>();
    std::copy(source.begin(), source.end(), to.data<std::string>());
  } else if (from.bytes() > 0) {
    std::memcpy(to.raw(), from.raw(), from.bytes());
  }
}

CompiledGraph::CompiledGraph(Executor& executor, const Graph& graph)
    : store_(executor.make_store()), program_(executor.compile(graph, *store_)), outputs_(graph.outputs.size()) {}

std::vector<Tensor> CompiledGraph::run(const std::vector<Tensor>& inputs) {
  for (std::size_t i = 0; i < inputs.size(); ++i) copy_elements(program_->input(i), inputs[i]);
  program_->run();
  std::vector<Tensor> outputs;
  for (std::size_t i = 0; i < outputs_; ++i) outputs.push_back(program_->output(i).clone());
  return outputs;
}

std::vector<Tensor> run_graph(Executor& executor, const Graph& graph, const std::vector<Tensor>& inputs) {
  return CompiledGraph(executor, graph).run(inputs);
}

std::string kernel_family(const std::string& kernel) { return kernel.substr(0, kernel.find(':')); }

std::string kernel_families(const Plan& plan, const std::string& op) {
  std::set<std::string> all, own;
  for (const PlanEntry& entry : plan.entries) {
    all.insert(kernel_family(entry.kernel));
    if (entry.op == op) own.insert(kernel_family(entry.kernel));
  }
  return fmt::format("{}", fmt::join(own.empty() ? all : own, ", "));
}

}  // namespace halfstep
