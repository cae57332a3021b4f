#include "executors/core/collective_kernels.h"

#include "executors/core/gather_parts.h"
#include "executors/core/joined_parts.h"
#include "ops/collective/all_reduce.h"
#include "ops/collective/gather_from_ranks.h"
#include <halfstep/base/error.h>
#include <halfstep/graph/tensor_bytes.h>

namespace halfstep::core {
namespace {

/// A tensor on its way to the place where it is reduced.
struct Piece {
  std::byte *from, *to;
  std::size_t bytes;
};

}  // namespace

bool CollectiveKernels::takes(const Node& node) const { return transport_ && is_collective(node); }

Made CollectiveKernels::make(KernelContext& context) {
  if (gathers_from_ranks(context.node())) return gather(context);
  return starts_all_reduce(context.node()) ? start(context) : finish(context);
}

void CollectiveKernels::place(Assembly& assembly) {
  if (!transport_) return;
  const Graph& graph = assembly.graph();
  for (const Node& node : graph.nodes) {
    if (!starts_all_reduce(node)) continue;
    const JoinedParts parts(graph, node);
    Operand joined{kNoBuffer, parts.dtype, Shape{static_cast<std::int64_t>(parts.count())}, Layout(),
                   transport_->space(assembly)};
    joined.buffer = assembly.arena_buffer(parts.bytes, kAtEnd, joined.space);
    for (std::size_t i = 0; i < parts.sizes.size(); ++i)
      if (const ValueId tensor = node.inputs[kFirstReduced + i]; graph.sole_user(tensor))
        assembly.prefer(tensor, assembly.part_of(joined.buffer, parts.offsets[i], parts.sizes[i]));
    started_[node.outputs[0]] = std::make_shared<Started>(Started{transport_, joined, parts.offsets});
  }
}

Made CollectiveKernels::start(KernelContext& context) {
  std::vector<Operand> tensors;
  for (std::size_t i = kFirstReduced; i < context.node().inputs.size(); ++i)
    tensors.push_back(transport_->read(context, i));
  const std::shared_ptr<Started> started = started_.at(context.node().outputs[0]);
  context.touch(started->joined.buffer);
  context.alias(started->joined);
  return {kAllReduceKernel, transport_->remark(), [=](const Memory& memory) -> Run {
            const Operand& joined = started->joined;
            auto* to = memory.as<std::byte>(joined);
            started->reduction =
                started->transport->make_all_reduce(to, static_cast<std::size_t>(joined.shape.count()), joined.dtype);
            std::vector<Piece> pieces;  // that do not lie there
            for (std::size_t i = 0; i < tensors.size(); ++i)
              if (auto* from = memory.as<std::byte>(tensors[i]); from != to + started->offsets[i])
                pieces.push_back({from, to + started->offsets[i], tensors[i].bytes()});
            return [pieces, started] {
              started->transport->settle();
              for (const Piece& piece : pieces) started->transport->copy(piece.to, piece.from, piece.bytes);
              started->transport->start(*started->reduction);
            };
          }};
}

/// The sums are parts of the place where they were made.
Made CollectiveKernels::finish(KernelContext& context) {
  const Node& node = context.node();
  const auto at = started_.find(node.inputs[0]);
  if (at == started_.end())
    throw_failure("an all-reduce that is started before it is finished",
                  "none for '" + context.graph()[node.inputs[0]].name + "'", "");
  const std::shared_ptr<Started> started = at->second;
  Assembly& assembly = context.assembly();
  context.touch(started->joined.buffer);
  const std::vector<Shape> shapes = unflattened(node.attributes.get_ints("shapes"));
  for (std::size_t i = 0; i < node.outputs.size(); ++i) {
    const ValueId id = node.outputs[i];
    if (id == kNoValue) continue;
    Operand part = started->joined;
    part.shape = shapes[i];
    part.buffer = assembly.part_of(started->joined.buffer, started->offsets.at(i), part.bytes(),
                                   assembly.schedule().last_use[id]);
    assembly.alias(id, part);
  }
  return {kAllReduceKernel, transport_->remark(), [started](const Memory&) -> Run {
            return [started] {
              started->transport->settle();  // steps before may read what is written here
              started->transport->wait(*started->reduction);
            };
          }};
}

// What it takes need not be read: the memory of a state that it updates is written in place.
Made CollectiveKernels::gather(KernelContext& context) {
  const GatherOperands operands(context.node());
  std::vector<Operand> sent, taken;
  std::vector<std::size_t> sent_bytes, taken_bytes;
  for (std::size_t i = operands.sent; i < operands.taken; ++i) {
    sent.push_back(transport_->read(context, i));
    sent_bytes.push_back(sent.back().bytes());
  }
  for (std::size_t i = 0; i < operands.owners.size(); ++i) {
    taken.push_back(transport_->write(context, i));
    const Value& type = context.in(operands.taken + i);
    taken_bytes.push_back(bytes_of(type.dtype, type.shape));
  }
  const GatherParts parts(transport_->ranks(), sent_bytes, taken_bytes, operands.owners);
  const auto scratch = [&](std::size_t bytes) {
    Assembly& assembly = context.assembly();
    const BufferId memory = assembly.arena_buffer(bytes, kAtEnd, transport_->space(assembly));
    context.touch(memory);
    return memory;
  };
  const BufferId window = scratch(parts.window_bytes()), windows = scratch(parts.windows_bytes());
  return {kAllGatherKernel, transport_->remark(), [=, transport = transport_](const Memory& memory) -> Run {
            std::vector<void*> from, to;
            for (const Operand& tensor : sent) from.push_back(memory.at(tensor));
            for (const Operand& tensor : taken) to.push_back(memory.at(tensor));
            return [=, one = memory.at(window), all = memory.at(windows)] {
              transport->settle();
              parts.run(*transport, from, to, one, all);
            };
          }};
}

}  // namespace halfstep::core
