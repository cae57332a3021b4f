// The last resort: the operator table's reference kernel on row-major views of the program's memory.
#include <cstring>
#include <memory>

#include "executors/onednn/kernel_table.h"
#include "ops/infer.h"
#include "ops/op_def.h"

namespace halfstep::onednn {
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
  ReferenceRun(const Node& node, ReferenceKernel kernel, std::vector<Slot> in, std::vector<Slot> out,
               const Memory& memory)
      : node_(&node), kernel_(kernel), in_slots_(std::move(in)), out_slots_(std::move(out)) {
    for (const Slot& slot : in_slots_) in_views_.push_back(slot.tensor(memory));
    for (const Slot& slot : out_slots_) out_views_.push_back(slot.tensor(memory));
  }

  void operator()() {
    in_ = in_views_;
    out_ = out_views_;
    for (std::size_t i = 0; i < in_.size(); ++i)
      if (in_slots_[i].dynamic) in_[i] = *in_slots_[i].dynamic;
    // Kernels may count on zeros, as in a fresh tensor.
    for (Tensor& t : out_)
      if (t.is_defined() && t.bytes() > 0) std::memset(t.raw(), 0, t.bytes());
    KernelCall call{*node_, in_, out_};
    kernel_(call);
    for (std::size_t i = 0; i < out_.size(); ++i) {
      if (out_slots_[i].dynamic)
        *out_slots_[i].dynamic = out_[i];
      else if (out_views_[i].is_defined() && out_[i].raw() != out_views_[i].raw())
        copy(out_[i], out_views_[i]);
    }
  }

 private:
  static void copy(const Tensor& from, Tensor& to) {
    check_inferred(from, to.dtype(), to.shape());
    if (from.bytes() > 0) std::memcpy(to.raw(), from.raw(), from.bytes());
  }

  const Node* node_;
  ReferenceKernel kernel_;
  std::vector<Slot> in_slots_, out_slots_;
  std::vector<Tensor> in_views_, out_views_, in_, out_;
};

}  // namespace

Made make_reference(KernelContext& context) {
  const Node& node = context.node();
  const OpDef* row = find_op(node.op, node.domain);
  if (!row || !row->reference) return refuse("no reference kernel");
  std::vector<Slot> in, out;
  for (std::size_t i = 0; i < node.inputs.size(); ++i) {
    const bool dynamic = context.has_input(i) && context.assembly().is_dynamic(node.inputs[i]);
    in.push_back(dynamic ? Slot{{}, context.assembly().dynamic(node.inputs[i])} : Slot{context.read(i, Layout()), {}});
  }
  for (std::size_t i = 0; i < node.outputs.size(); ++i) {
    if (node.outputs[i] == kNoValue)
      out.push_back({});
    else if (context.assembly().is_dynamic(node.outputs[i]))
      out.push_back({{}, context.assembly().dynamic(node.outputs[i])});
    else
      out.push_back({context.write(i, Layout()), {}});
  }
  // The program keeps its graph, and so the node, for as long as it lives.
  return {"reference", {}, [&node, kernel = row->reference, in, out](const Memory& memory) -> Run {
            return ReferenceRun(node, kernel, in, out, memory);
          }};
}

}  // namespace halfstep::onednn
