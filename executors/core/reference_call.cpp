#include <cstring>

#include <halfstep/executors/core/reference_call.h>
#include <halfstep/ops/infer.h>

namespace halfstep::core {

void ReferenceCall::operator()() {
  out = targets;
  // Kernels may count on zeros, as in a fresh tensor.
  for (Tensor& t : out)
    if (t.is_defined() && t.bytes() > 0) std::memset(t.raw(), 0, t.bytes());
  KernelCall call{*node, in, out};
  kernel(call);
  for (std::size_t i = 0; i < out.size(); ++i) {
    Tensor& target = targets[i];
    if (!target.is_defined()) continue;
    check_inferred(out[i], target.dtype(), target.shape());
    // A kernel may have put a tensor of its own in the place of the one it was given.
    if (out[i].raw() != target.raw() && target.bytes() > 0) std::memcpy(target.raw(), out[i].raw(), target.bytes());
  }
}

ReferenceKernel reference_kernel(const Node& node) {
  const OpDef* row = find_op(node.op, node.domain);
  return row ? row->reference : nullptr;
}

std::string operator_name(const Node& node) { return node.domain.empty() ? node.op : node.domain + "." + node.op; }

}  // namespace halfstep::core
