// Runs a graph node by node, with arbitrary shapes: the bodies of If, Loop and Scan.
#pragma once

#include <span>
#include <vector>

#include <halfstep/ops/op_def.h>

namespace halfstep {

/// Runs a graph without states with reference kernels, and allocates results when their shapes are known. The graph
/// must outlive it. Throws Error naming the operators without a reference kernel.
class Interpreter {
 public:
  explicit Interpreter(const Graph& graph);

  /// One execution; `captures` as in Graph::captures. Results may share memory with arguments and constants. Only the
  /// results are kept; other values are released after their last reader.
  std::vector<Tensor> run(std::span<const Tensor> inputs, std::span<const Tensor> captures);

 private:
  struct Step {
    const Node* node;
    ReferenceKernel kernel;
    std::vector<ValueId> last_reads;  ///< values whose last reader is this step
  };

  const Graph& graph_;
  std::vector<Step> steps_;
  ValueMap<Tensor> values_;
};

}  // namespace halfstep
