// Running a graph node by node, whatever shapes come along: the bodies of If, Loop and Scan.
#pragma once

#include <span>
#include <vector>

#include <halfstep/ops/op_def.h>

namespace halfstep {

/// Runs a graph without states by reference kernels, allocating results as their shapes turn out.
/// The graph must outlive it. Throws Error naming the operators that have no reference kernel.
class Interpreter {
 public:
  explicit Interpreter(const Graph& graph);

  /// One execution; `captures` as in Graph::captures. Results may share memory with arguments and constants. Beyond
  /// the results nothing is kept, and no value is held longer than its last reader needs it.
  std::vector<Tensor> run(std::span<const Tensor> inputs, std::span<const Tensor> captures);

 private:
  struct Step {
    const Node* node;
    ReferenceKernel kernel;
    std::vector<ValueId> last_reads;  ///< values nobody reads after this step
  };

  const Graph& graph_;
  std::vector<Step> steps_;
  ValueMap<Tensor> values_;
};

}  // namespace halfstep
