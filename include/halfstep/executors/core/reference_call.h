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
  std::vector<Tensor> in;        ///< undefined where an operand is absent
  std::vector<Tensor> targets;   ///< where results go; undefined for those the kernel has to make a tensor for
  std::vector<Tensor> out = {};  ///< the results, targets among them

  /// Throws Error when a result is not of its target's type and shape.
  void operator()();
};

/// The reference kernel of a node's operator, or nullptr.
ReferenceKernel reference_kernel(const Node& node);
/// "Gemm", "ai.halfstep.FusedGemm"
std::string operator_name(const Node& node);

}  // namespace core
}  // namespace halfstep
