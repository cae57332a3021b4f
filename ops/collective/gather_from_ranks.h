// The operator by which each rank gets the tensors that others have computed. By itself it leaves them as they are.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include <halfstep/graph/graph.h>
#include <halfstep/ops/op_def.h>

namespace onnx {
class OpSchema;
}

namespace halfstep {

/// (after, sent..., taken...) to the tensors taken, each as the rank of its number in the attribute `owners` has sent
/// it. The tensors of a rank are taken in the order in which it sends them, from its first on. `after` is as in
/// StartAllReduce.
bool gathers_from_ranks(const Node& node);

/// Its operands.
struct GatherOperands {
  explicit GatherOperands(const Node& node);

  std::vector<std::int64_t> owners;
  std::size_t sent = 1;   ///< the first that is sent
  std::size_t taken = 1;  ///< the first that is taken
};

}  // namespace halfstep

namespace halfstep::ops {

void gather_from_ranks_kernel(KernelCall& call);
void gather_from_ranks_schema(onnx::OpSchema& schema);

}  // namespace halfstep::ops
