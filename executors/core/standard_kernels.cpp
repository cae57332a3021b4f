// What every executor can do: views, and the operator table's reference kernels on row-major operands in the host's
// memory.
#include "executors/core/standard_kernels.h"

#include <memory>

#include <halfstep/executors/core/reference_call.h>
#include <halfstep/ops/kernel_util.h>

namespace halfstep::core {
namespace {

/// An operand in the program's memory, or a tensor of its own (see Assembly::is_dynamic).
struct Slot {
  Operand operand;
  std::shared_ptr<Tensor> dynamic;

  Tensor tensor(const Memory& memory) const {
    if (dynamic || !operand) return {};
    return Tensor::view(operand.dtype, operand.shape, memory.at(operand));
  }
};

class ReferenceRun {
 public:
  ReferenceRun(const Node& node, ReferenceKernel kernel, Device& device, std::vector<Slot> in, std::vector<Slot> out,
               const Memory& memory)
      : call_{&node, kernel, {}, {}}, device_(&device), in_(std::move(in)), out_(std::move(out)) {
    for (const Slot& slot : in_) call_.in.push_back(slot.tensor(memory));
    for (const Slot& slot : out_) call_.targets.push_back(slot.tensor(memory));
  }

  void operator()() {
    device_->wait();
    for (std::size_t i = 0; i < in_.size(); ++i)
      if (in_[i].dynamic) call_.in[i] = *in_[i].dynamic;
    call_();
    for (std::size_t i = 0; i < out_.size(); ++i)
      if (out_[i].dynamic) *out_[i].dynamic = call_.out[i];
  }

 private:
  ReferenceCall call_;
  Device* device_;
  std::vector<Slot> in_, out_;
};

}  // namespace

Made make_reference(KernelContext& context) {
  const Node& node = context.node();
  const ReferenceKernel kernel = reference_kernel(node);
  if (!kernel) return refuse("no reference kernel");
  Assembly& assembly = context.assembly();
  const auto is_dynamic = [&](ValueId id) { return id != kNoValue && assembly.is_dynamic(id); };
  std::vector<Slot> in, out;
  for (std::size_t i = 0; i < node.inputs.size(); ++i)
    in.push_back(is_dynamic(node.inputs[i]) ? Slot{{}, assembly.dynamic(node.inputs[i])}
                                            : Slot{context.read_on_host(i), {}});
  for (std::size_t i = 0; i < node.outputs.size(); ++i)
    out.push_back(is_dynamic(node.outputs[i]) ? Slot{{}, assembly.dynamic(node.outputs[i])}
                                              : Slot{context.write_on_host(i), {}});
  // The program keeps its graph, and so the node, for as long as it lives.
  return {"reference", {}, [&node, kernel, &device = assembly.device(), in, out](const Memory& memory) -> Run {
            return ReferenceRun(node, kernel, device, in, out, memory);
          }};
}

Made make_view(KernelContext& context) {
  const Shape& x_shape = context.in(0).shape;
  if (x_shape.count() != context.out(0).shape.count()) return refuse("another number of elements");
  const auto rank = static_cast<std::int64_t>(x_shape.rank());
  const std::int64_t axis = context.node().op == "Flatten" ? context.node().attributes.get_int("axis", 1) : 0;
  if (axis < -rank || axis > rank) return refuse("an axis out of range");
  // The view does not need its axes, but refuses what they should not be.
  if (context.node().op == "Squeeze" && context.has_input(1))
    if (const auto axes = context.constant_ints(1)) ops::normalize_axes(*axes, x_shape.rank());
  // Only Identity keeps the axes that another layout than row-major speaks of.
  context.alias(context.read_in_place(0, context.node().op == "Identity" ? context.layout(0) : Layout()));
  return {"alias", {}, {}};
}

}  // namespace halfstep::core
