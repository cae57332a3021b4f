#include "executors/core/collective_kernels.h"

#include <cstddef>
#include <cstring>
#include <vector>

#include "ops/collective/all_reduce.h"
#include <halfstep/base/error.h>

namespace halfstep::core {
namespace {

/// A tensor on its way to or from the place where it is reduced.
struct Piece {
  std::byte *from, *to;
  std::size_t bytes;
};

void copy(const std::vector<Piece>& pieces) {
  for (const Piece& piece : pieces)
    if (piece.bytes > 0) std::memcpy(piece.to, piece.from, piece.bytes);
}

}  // namespace

bool CollectiveKernels::takes(const Node& node) const { return ranks_ && is_collective(node); }

Made CollectiveKernels::make(KernelContext& context) {
  return starts_all_reduce(context.node()) ? start(context) : finish(context);
}

// Row-major and in the host's memory: ranks may have chosen other layouts.
Made CollectiveKernels::start(KernelContext& context) {
  std::vector<Operand> tensors;
  for (std::size_t i = kFirstReduced; i < context.node().inputs.size(); ++i) tensors.push_back(context.read_on_host(i));
  const Operand joined = context.write_on_host(0);
  const auto started = started_[context.node().outputs[0]] = std::make_shared<Started>(Started{ranks_});
  return {kCollectiveKernel, {}, [=, &device = context.device()](const Memory& memory) -> Run {
            std::vector<Piece> pieces;
            auto* to = memory.as<std::byte>(joined);
            started->reduction = started->ranks->make_all_reduce(to, static_cast<std::size_t>(joined.shape.count()),
                                                                 joined.dtype, halfstep::Reduction::sum);
            for (const Operand& tensor : tensors) {
              pieces.push_back({memory.as<std::byte>(tensor), to, tensor.bytes()});
              to += tensor.bytes();
            }
            return [pieces, started, &device] {
              device.wait();
              copy(pieces);
              started->reduction->start();
            };
          }};
}

Made CollectiveKernels::finish(KernelContext& context) {
  const Operand joined = context.read_on_host(0);
  std::vector<Operand> tensors;
  for (std::size_t i = 0; i < context.node().outputs.size(); ++i) tensors.push_back(context.write_on_host(i));
  const std::vector<Shape> shapes = unflattened(context.node().attributes.get_ints("shapes"));
  const auto at = started_.find(context.node().inputs[0]);
  if (at == started_.end())
    throw_failure("an all-reduce that is started before it is finished",
                  "none for '" + context.graph()[context.node().inputs[0]].name + "'", "");
  const std::shared_ptr<Started> started = at->second;
  return {kCollectiveKernel, {}, [=, &device = context.device()](const Memory& memory) -> Run {
            std::vector<Piece> pieces;
            auto* from = memory.as<std::byte>(joined);
            for (std::size_t i = 0; i < tensors.size(); ++i) {
              if (tensors[i]) pieces.push_back({from, memory.as<std::byte>(tensors[i]), tensors[i].bytes()});
              from += bytes_of(joined.dtype, static_cast<std::size_t>(shapes[i].count()));
            }
            return [pieces, started, &device] {
              device.wait();  // steps before may read what is written here
              started->reduction->wait();
              copy(pieces);
            };
          }};
}

}  // namespace halfstep::core
