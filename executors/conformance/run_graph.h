// A graph run once.
#pragma once

#include <vector>

#include "executors/executor.h"

namespace halfstep {

/// Compiles `graph`, whose inputs have the types and shapes of `inputs`, runs it once, and returns copies of its
/// outputs. Throws Error as Executor::compile and Program::run do.
std::vector<Tensor> run_graph(Executor& executor, const Graph& graph, const std::vector<Tensor>& inputs);

}  // namespace halfstep
