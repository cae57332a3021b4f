// Makers of elementwise operators, one or many together, by kernels that are generated.
#include "executors/cudnn/chain.h"

#include <algorithm>
#include <cstdint>
#include <optional>

#include "executors/cudnn/chain_text.h"
#include "executors/cudnn/kernel_table.h"
#include "executors/cudnn/tensor_order.h"
#include "executors/cudnn/text_kernel.h"
#include "ops/elementwise/chain.h"

namespace halfstep::cudnn {
namespace {

constexpr unsigned kThreads = 256;

/// Which operand each result may lie over: one that is read element for element, as wide, and in no other way.
class Overlays {
 public:
  Overlays(KernelContext& context, const ChainKernelText& text, const std::vector<std::size_t>& operands,
           const std::vector<core::Operand>& in, const core::Layout& layout)
      : context_(context), in_(in) {
    for (std::size_t k = 0; k < in.size(); ++k) {
      const bool is_shared = std::ranges::any_of(
          in, [&](const core::Operand& other) { return &other != &in[k] && other && other.buffer == in[k].buffer; });
      values_.push_back(context.node().inputs[operands[k]]);
      is_free_.push_back(in[k] && in[k].layout == layout && !is_shared &&
                         text.operands[k].kind == ChainOperand::Kind::whole);
    }
  }

  /// Takes the state that output i updates, or else the first that is left.
  std::optional<std::size_t> take(std::size_t i) {
    const Value& out = context_.out(i);
    std::optional<std::size_t> best;
    for (std::size_t k = 0; k < in_.size(); ++k) {
      if (!is_free_[k] || bytes_of(in_[k].dtype, 1) != bytes_of(out.dtype, 1)) continue;
      if (updates(context_.node().outputs[i], values_[k])) {
        best = k;
        break;
      }
      if (!best) best = k;
    }
    if (best) is_free_[*best] = false;
    return best;
  }

 private:
  bool updates(ValueId next, ValueId value) const {
    const auto& states = context_.graph().states;
    return std::ranges::any_of(states, [&](const State& s) { return s.next == next && s.value == value; });
  }

  KernelContext& context_;
  const std::vector<core::Operand>& in_;
  std::vector<ValueId> values_;
  std::vector<bool> is_free_;
};

bool is_aligned(const void* p, std::uint32_t bytes) { return reinterpret_cast<std::uintptr_t>(p) % bytes == 0; }

/// A kernel ready but for the addresses.
struct LoadedChain {
  std::shared_ptr<const LoadedKernel> kernel;
  ChainArguments arguments;
  std::vector<std::uint32_t> alignment;
  std::int64_t vector = 1;

  /// All that a launch needs.
  struct Bound {
    const LoadedKernel* kernel;
    ChainArguments arguments;
    unsigned blocks;

    void operator()(cudaStream_t stream) const { kernel->launch(blocks, kThreads, as_argument(arguments), stream); }
  };
  Bound at(const std::vector<const void*>& in, const std::vector<void*>& out) const {
    ChainArguments a = arguments;
    bool aligned = true;
    for (std::size_t k = 0; k < in.size(); ++k) {
      a.in[k] = in[k];
      aligned = aligned && is_aligned(in[k], alignment[k]);
    }
    for (std::size_t i = 0; i < out.size(); ++i) {
      a.out[i] = out[i];
      aligned = aligned && is_aligned(out[i], alignment[in.size() + i]);
    }
    if (!aligned) a.vectors = 0;
    return {kernel.get(), a, blocks_for(a.count - a.vectors * (vector - 1), kThreads)};
  }
};

LoadedChain load(int capability, const ChainKernelText& text) {
  return {load_kernel(text.kernel, capability), text.arguments, text.alignment, text.vector};
}

/// The layout of a value as large as the result that meets it in the next node.
core::Layout layout_met(KernelContext& context, ValueId result) {
  const Graph& graph = context.graph();
  for (const Use& use : graph.users(result))
    for (const ValueId other : graph.nodes[use.node].inputs)
      if (other != kNoValue && graph[other].shape == graph[result].shape)
        if (const core::Layout layout = context.assembly().layout_of(other); !layout.is_row_major()) return layout;
  return {};
}

/// The layout that a state asks for which a result updates, else the first that an operand lies in which is as large as
/// the results; of smaller operands alone, that of what the results meet.
core::Layout common_layout(KernelContext& context, const Graph& body, const std::vector<std::size_t>& operands) {
  const Shape& shape = body[body.outputs.at(0)].shape;
  for (std::size_t i = 0; i < context.node().outputs.size(); ++i)
    if (context.node().outputs[i] != kNoValue)
      if (const auto wanted = context.wanted_layout(i)) return *wanted;
  bool has_whole = false;
  for (std::size_t k = 0; k < operands.size(); ++k) {
    if (body[body.inputs[k]].shape != shape) continue;
    has_whole = true;
    if (const core::Layout layout = context.layout(operands[k]); !layout.is_row_major()) return layout;
  }
  return has_whole ? core::Layout() : layout_met(context, context.node().outputs[0]);
}

/// The body of the same tensors with their axes in the order in which the elements of the results lie.
Graph body_in_memory_order(const Graph& body, const core::Layout& layout) {
  Graph ordered = body;
  for (const ValueId id : ordered.values.ids())
    if (!ordered[id].is_constant()) ordered[id].shape = in_memory_order(layout, ordered[id].shape);
  return ordered;
}

/// `operands[k]`: which of the node's is the body's input k.
Made generate(KernelContext& context, const Graph& body, const std::vector<std::size_t>& operands) {
  const std::size_t outputs = context.node().outputs.size();
  const core::Layout layout = common_layout(context, body, operands);
  const ChainKernelText text =
      chain_text(layout.is_row_major() ? body : body_in_memory_order(body, layout),
                 [&](std::size_t k) { return k < outputs && context.node().outputs[k] != kNoValue; });
  if (!text.refusal.empty()) return refuse(text.refusal);
  if (std::string reason = generation_refusal(); !reason.empty()) return refuse(reason);
  const LoadedChain chain = load(libraries(context).capability, text);

  std::vector<core::Operand> in, out;
  for (std::size_t k = 0; k < operands.size(); ++k)
    in.push_back(text.operands[k].kind == ChainOperand::Kind::unread
                     ? core::Operand()
                     : context.read(operands[k], layout_like(layout, body[body.inputs[k]].shape)));
  Overlays overlays(context, text, operands, in, layout);
  for (std::size_t i = 0; i < outputs; ++i) {
    const std::optional<std::size_t> over = context.node().outputs[i] == kNoValue ? std::nullopt : overlays.take(i);
    out.push_back(over ? context.write_over(i, in[*over]) : context.write(i, layout));
  }
  return {"generated: elementwise",
          {},
          [=, stream = libraries(context).stream.get()](const core::Memory& memory) -> core::Run {
            std::vector<const void*> from;
            std::vector<void*> to;
            for (const core::Operand& operand : in) from.push_back(memory.at(operand));
            for (const core::Operand& operand : out) to.push_back(memory.at(operand));
            return [chain, bound = chain.at(from, to), stream] { bound(stream); };
          }};
}

}  // namespace

Chains generated_chains() {
  if (!generation_refusal().empty()) return {};
  return {.holds = chain_holds,
          .max_nodes = ChainArguments::kOutputs,
          .max_inputs = ChainArguments::kInputs,
          .max_spread = ChainArguments::kSpread};
}

Made make_chain(KernelContext& context) {
  const Graph body = ops::typed_chain_body(context.graph(), context.node());
  std::vector<std::size_t> operands(body.inputs.size());
  for (std::size_t k = 0; k < operands.size(); ++k) operands[k] = k;
  return generate(context, body, operands);
}

Made make_generated(KernelContext& context) {
  const ValueId result = context.node().outputs[0];
  if (context.assembly().schedule().is_lazy[result]) {
    context.assembly().set_lazy(result, context.node().inputs[0]);
    return {"generated: elementwise", "made when first read, in the reader's layout", {}};
  }
  const BodyOfNode made = body_of_node(context.graph(), context.node());
  return generate(context, made.body, made.operands);
}

Made make_expand(KernelContext& context) {
  Graph body;  // a Cast to the type that there is, of an operand that is broadcast
  const ValueId x = body.add_input("", context.in(0).dtype, context.in(0).shape);
  const ValueId y = body.add_value("", context.out(0).dtype, context.out(0).shape);
  body.define({y}, "Cast", "", {x});
  body.outputs = {y};
  return generate(context, body, {0});
}

ChainKernel load_chain(int capability, const Graph& body) {
  const ChainKernelText text = chain_text(body, [](std::size_t) { return true; });
  if (!text.refusal.empty()) return {.refusal = text.refusal};
  if (std::string reason = generation_refusal(); !reason.empty()) return {.refusal = reason};
  return {.launch = [chain = load(capability, text)](const auto& in, const auto& out, cudaStream_t stream) {
    chain.at(in, out)(stream);
  }};
}
ChainKernel load_chain(KernelContext& context, const Graph& body) {
  return load_chain(libraries(context).capability, body);
}

}  // namespace halfstep::cudnn
