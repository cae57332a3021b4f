// A call of an operator's reference kernel.
#pragma once

#include <vector>

#include <halfstep/base/api.h>
#include <halfstep/graph/graph.h>
#include <halfstep/graph/tensor.h>
#include <halfstep/ops/op_def.h>

namespace HALFSTEP_API halfstep {
namespace core {

/// The node must outlive the call.
struct ReferenceCall {
  const Node* node = nullptr;
  ReferenceKernel kernel = nullptr;
  std::vector<Tensor> in;        ///< undefined for an absent operand
  std::vector<Tensor> targets;   ///< memory for the results; undefined if the kernel creates the tensor
  std::vector<Tensor> out = {};  ///< the results, targets among them

  /// Throws Error if a result does not have its target's type and shape.
  void operator()();
};

/// The reference kernel of a node's operator, or nullptr.
ReferenceKernel reference_kernel(const Node& node);
/// "Gemm", "ai.halfstep.FusedGemm"
std::string operator_name(const Node& node);

}  // namespace core
}  // namespace halfstep
