// Graphs run by an executor.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include <halfstep/executors/executor.h>

namespace halfstep {

/// Copies the elements of a tensor of the same type and shape.
void copy_elements(Tensor to, const Tensor& from);

/// A graph compiled with a store of its own; the executor must outlive it.
class CompiledGraph {
 public:
  /// Throws Error as Executor::compile does.
  CompiledGraph(Executor& executor, const Graph& graph);

  /// Runs once on these inputs, and returns copies of the outputs. Throws Error as Program::run does.
  std::vector<Tensor> run(const std::vector<Tensor>& inputs);

  Program& program() { return *program_; }
  StateStore& store() { return *store_; }

 private:
  std::unique_ptr<StateStore> store_;
  std::unique_ptr<Program> program_;
  std::size_t outputs_;
};

/// The same for a graph that is run once.
std::vector<Tensor> run_graph(Executor& executor, const Graph& graph, const std::vector<Tensor>& inputs);

/// "onednn: brgconv:avx512_core_bf16" → "onednn": what follows depends on the processor.
std::string kernel_family(const std::string& kernel);

/// Families of the kernels in a plan, sorted and each once: "onednn, reference". With `op` ("Relu",
/// "ai.halfstep.ReluGrad") those of its nodes, where the plan still has any.
std::string kernel_families(const Plan& plan, const std::string& op = {});

}  // namespace halfstep
