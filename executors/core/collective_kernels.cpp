#include "executors/core/collective_kernels.h"

#include <cstddef>
#include <cstring>
#include <vector>

#include "executors/core/gather_parts.h"
#include "ops/collective/all_reduce.h"
#include "ops/collective/gather_from_ranks.h"
#include <halfstep/base/error.h>

namespace halfstep::core {
namespace {

/// A tensor on its way to the place where it is reduced.
struct Piece {
  std::byte *from, *to;
  std::size_t bytes;
};

}  // namespace

bool CollectiveKernels::takes(const Node& node) const { return ranks_ && is_collective(node); }

Made CollectiveKernels::make(KernelContext& context) {
  if (gathers_from_ranks(context.node())) return gather(context);
  return starts_all_reduce(context.node()) ? start(context) : finish(context);
}

// Row-major and in the host's memory: ranks may have chosen other layouts.
void CollectiveKernels::place(Assembly& assembly) {
  if (!ranks_) return;
  const Graph& graph = assembly.graph();
  for (const Node& node : graph.nodes) {
    if (!starts_all_reduce(node)) continue;
    const Value& value = graph[node.outputs[0]];
    Operand joined{kNoBuffer, value.dtype, value.shape, Layout(), assembly.host_space()};
    joined.buffer = assembly.arena_buffer(joined.bytes(), kAtEnd, joined.space);
    std::size_t offset = 0;
    for (std::size_t i = kFirstReduced; i < node.inputs.size(); ++i) {
      const Value& tensor = graph[node.inputs[i]];
      const std::size_t bytes = bytes_of(tensor.dtype, static_cast<std::size_t>(tensor.shape.count()));
      if (graph.sole_user(node.inputs[i]))
        assembly.prefer(node.inputs[i], assembly.part_of(joined.buffer, offset, bytes));
      offset += bytes;
    }
    started_[node.outputs[0]] = std::make_shared<Started>(Started{ranks_, joined});
  }
}

Made CollectiveKernels::start(KernelContext& context) {
  std::vector<Operand> tensors;
  for (std::size_t i = kFirstReduced; i < context.node().inputs.size(); ++i) tensors.push_back(context.read_on_host(i));
  const std::shared_ptr<Started> started = started_.at(context.node().outputs[0]);
  context.touch(started->joined.buffer);
  context.alias(started->joined);
  return {kAllReduceKernel, {}, [=, &device = context.device()](const Memory& memory) -> Run {
            const Operand& joined = started->joined;
            auto* to = memory.as<std::byte>(joined);
            started->reduction = started->ranks->make_all_reduce(to, static_cast<std::size_t>(joined.shape.count()),
                                                                 joined.dtype, halfstep::Reduction::sum);
            std::vector<Piece> pieces;  // that do not lie there
            for (const Operand& tensor : tensors) {
              if (memory.at(tensor) != to) pieces.push_back({memory.as<std::byte>(tensor), to, tensor.bytes()});
              to += tensor.bytes();
            }
            return [pieces, started, &device] {
              device.wait();
              for (const Piece& piece : pieces)
                if (piece.bytes > 0) std::memcpy(piece.to, piece.from, piece.bytes);
              started->reduction->start();
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
  std::size_t offset = 0;
  for (std::size_t i = 0; i < node.outputs.size(); ++i) {
    Operand part = started->joined;
    part.shape = shapes[i];
    if (const ValueId id = node.outputs[i]; id != kNoValue) {
      part.buffer = assembly.part_of(started->joined.buffer, offset, part.bytes(), assembly.schedule().last_use[id]);
      assembly.alias(id, part);
    }
    offset += part.bytes();
  }
  return {kAllReduceKernel, {}, [started, &device = context.device()](const Memory&) -> Run {
            return [started, &device] {
              device.wait();  // steps before may read what is written here
              started->reduction->wait();
            };
          }};
}

// What it takes need not be read: the memory of a state that it updates is written in place.
Made CollectiveKernels::gather(KernelContext& context) {
  const GatherOperands operands(context.node());
  std::vector<Operand> sent, taken;
  std::vector<std::size_t> sent_bytes, taken_bytes;
  for (std::size_t i = operands.sent; i < operands.taken; ++i) {
    sent.push_back(context.read_on_host(i));
    sent_bytes.push_back(sent.back().bytes());
  }
  for (std::size_t i = 0; i < operands.owners.size(); ++i) {
    taken.push_back(context.write_on_host(i));
    const Value& type = context.in(operands.taken + i);
    taken_bytes.push_back(bytes_of(type.dtype, static_cast<std::size_t>(type.shape.count())));
  }
  const GatherParts parts(*ranks_, sent_bytes, taken_bytes, operands.owners);
  const auto scratch = [&](std::size_t bytes) {
    const BufferId memory = context.assembly().arena_buffer(bytes, kAtEnd, context.assembly().host_space());
    context.touch(memory);
    return memory;
  };
  const BufferId window = scratch(parts.window_bytes()), windows = scratch(parts.windows_bytes());
  return {kAllGatherKernel, {}, [=, communicator = ranks_, &device = context.device()](const Memory& memory) -> Run {
            std::vector<void*> from, to;
            for (const Operand& tensor : sent) from.push_back(memory.at(tensor));
            for (const Operand& tensor : taken) to.push_back(memory.at(tensor));
            return [=, one = memory.at(window), all = memory.at(windows), &device] {
              device.wait();
              parts.run(*communicator, from, to, one, all);
            };
          }};
}

}  // namespace halfstep::core
