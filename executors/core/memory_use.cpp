#include "executors/core/memory_use.h"

#include <algorithm>
#include <cstddef>

#include <halfstep/ops/optimizers/optimizer_def.h>

namespace halfstep::core {
namespace {

enum class Kind : std::uint8_t { workspace, activation, gradient };

/// What the buffers of the arena hold. One that holds several values in turn is named after the first of them that is a
/// gradient.
std::vector<Kind> kinds_of(Assembly& assembly) {
  const Graph& graph = assembly.graph();
  std::vector<Kind> kinds(assembly.buffers().size(), Kind::workspace);
  const auto name = [&](ValueId id, Kind kind) {
    if (id == kNoValue || assembly.is_dynamic(id) || assembly.schedule().is_lazy[id]) return;
    BufferId buffer = assembly.read(id).buffer;  // it has been made, so nothing is added
    if (buffer == kNoBuffer) return;
    if (const BufferId whole = assembly.buffers()[buffer].whole; whole != kNoBuffer) buffer = whole;
    Kind& known = kinds[buffer];
    known = std::max(known, kind);
  };
  for (const Node& node : graph.nodes) {
    for (const ValueId id : node.outputs) name(id, Kind::activation);
    if (!optimizer_of(node)) continue;
    const StepOperands operands(node);
    for (std::size_t i = 0; i < operands.parameters; ++i) name(node.inputs[operands.gradient(i)], Kind::gradient);
  }
  return kinds;
}

/// The step at which the most bytes are needed.
std::size_t fullest(const std::vector<Lifetime>& lifetimes, std::size_t steps) {
  std::vector<std::ptrdiff_t> change(steps + 1, 0);
  for (const Lifetime& life : lifetimes) {
    change[life.first] += static_cast<std::ptrdiff_t>(life.bytes);
    change[static_cast<std::size_t>(life.last) + 1] -= static_cast<std::ptrdiff_t>(life.bytes);
  }
  std::ptrdiff_t live = 0, most = 0;
  std::size_t at = 0;
  for (std::size_t s = 0; s < steps; ++s) {
    live += change[s];
    if (live <= most) continue;
    most = live;
    at = s;
  }
  return at;
}

void add_states(MemoryUse& use, const Assembly& assembly, const Graph& graph) {
  std::size_t s = 0;
  for (const Assembly::Buffer& buffer : assembly.buffers()) {
    if (!buffer.state) continue;
    add_state(use, graph.states[s++].role, buffer.state->bytes());  // in the same order
  }
}

}  // namespace

void add_state(MemoryUse& use, StateRole role, std::size_t bytes) {
  const bool is_of_parameter = role == StateRole::parameter || role == StateRole::copy;
  (is_of_parameter ? use.parameters : role == StateRole::optimizer ? use.moments : use.other_states) += bytes;
}

MemoryUse memory_use(Assembly& assembly, const std::vector<Lifetime>& lifetimes, const Arena& arena) {
  MemoryUse use;
  add_states(use, assembly, assembly.graph());
  use.is_of_device = !assembly.device().is_host();
  if (!use.is_of_device)
    for (const std::vector<Tensor>& tensors : {assembly.inputs, assembly.outputs})
      for (const Tensor& tensor : tensors) use.inputs_outputs += tensor.bytes();
  for (const Tensor& tensor : assembly.inputs) use.inputs += tensor.bytes();
  for (const Assembly::Buffer& buffer : assembly.buffers())
    if (buffer.fixed && buffer.space == Space::device) use.constants += buffer.bytes;
  use.constants -= std::min(use.constants, use.inputs_outputs);

  use.arena = arena.bytes;
  const std::vector<Step>& steps = assembly.steps();
  if (steps.empty()) return use;
  const auto worst = static_cast<std::int32_t>(fullest(lifetimes, steps.size()));
  use.step = steps[worst].entry.node;
  const std::vector<Kind> kinds = kinds_of(assembly);
  for (std::size_t b = 0; b < lifetimes.size(); ++b) {
    if (worst < lifetimes[b].first || lifetimes[b].last < worst) continue;
    use.live += lifetimes[b].bytes;
    (kinds[b] == Kind::gradient     ? use.gradients
     : kinds[b] == Kind::activation ? use.activations
                                    : use.workspace) += lifetimes[b].bytes;
  }
  return use;
}

}  // namespace halfstep::core
