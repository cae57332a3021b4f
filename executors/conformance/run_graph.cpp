#include "executors/conformance/run_graph.h"

#include <algorithm>
#include <cstring>

namespace halfstep {

std::vector<Tensor> run_graph(Executor& executor, const Graph& graph, const std::vector<Tensor>& inputs) {
  const std::unique_ptr<StateStore> store = executor.make_store();
  const std::unique_ptr<Program> program = executor.compile(graph, *store);
  for (std::size_t i = 0; i < inputs.size(); ++i) {
    Tensor to = program->input(i);
    if (to.dtype() == DType::string) {
      const auto from = inputs[i].span<std::string>();
      std::copy(from.begin(), from.end(), to.data<std::string>());
    } else if (inputs[i].bytes() > 0) {
      std::memcpy(to.raw(), inputs[i].raw(), inputs[i].bytes());
    }
  }
  program->run();
  std::vector<Tensor> outputs;
  for (std::size_t i = 0; i < graph.outputs.size(); ++i) outputs.push_back(program->output(i).clone());
  return outputs;
}

}  // namespace halfstep
