#include "training/memory_budget.h"

#include <algorithm>
#include <optional>
#include <string>
#include <utility>

#include <fmt/format.h>

#include "data/batch_loader.h"
#include "executors/memory_limit.h"
#include <halfstep/base/error.h>
#include <halfstep/passes/step/recompute.h>

namespace halfstep {
namespace {

constexpr std::size_t kStage = 99;  // for observers: behind those of any pipeline
constexpr int kMostCompiles = 6;
constexpr double kCaution = 0.99;  // a step that misses the budget by little costs another compile

std::string megabytes(std::size_t bytes) { return fmt::format("{:.1f} MB", static_cast<double>(bytes) / 1e6); }

KernelUses kernels_of(const std::vector<PlanEntry>& entries, const UnreadInputs& unread) {
  KernelUses kernels;
  for (const PlanEntry& entry : entries)
    if (entry.scratch_bytes > 0)
      kernels[entry.node].scratch = std::max(kernels[entry.node].scratch, entry.scratch_bytes);
  for (const auto& [node, inputs] : unread) kernels[node].unread = inputs;
  return kernels;
}

/// A step, and what it takes.
struct Compiled {
  std::unique_ptr<StepProgram> program;  // nullptr: it would take more than the budget of a device's own memory
  MemoryUse use;
  KernelUses kernels;
};
Compiled compiled(const Graph& graph, Executor& executor, StateStore& store, std::size_t budget) {
  try {
    const MemoryLimit limit(budget);
    auto program = std::make_unique<StepProgram>(graph, executor, store);
    const std::optional<MemoryUse> use = program->memory();
    if (!use)
      throw_input_error("an executor that reports the memory of its programs, for a memory budget",
                        std::string(executor.name()), "omit the budget, or use another executor");
    KernelUses kernels = kernels_of(program->plan().entries, program->unread());
    return {std::move(program), *use, std::move(kernels)};
  } catch (const BeyondLimit& beyond) {
    return {nullptr, beyond.use(), kernels_of(beyond.entries(), beyond.unread())};
  }
}

[[noreturn]] void refuse(std::size_t budget, const MemoryUse& least, std::size_t beside) {
  const std::pair<const char*, std::size_t> parts[] = {
      {"parameters", least.parameters},
      {"optimizer moments", least.moments},
      {"other states", least.other_states},
      {"gradients", least.gradients},
      {"activations", least.activations},
      {"constants, inputs and outputs", least.constants + least.inputs_outputs},
      {"libraries, saving and batches read ahead", beside},
  };
  const std::size_t needed = least.total() + beside;
  std::string text;
  for (const auto& [name, bytes] : parts)
    if (bytes > 0) text += fmt::format("{}{} {}", text.empty() ? "" : ", ", name, megabytes(bytes));
  throw_input_error(
      fmt::format("a memory budget of at least {} bytes ({}), the minimum of this step", needed, megabytes(needed)),
      fmt::format("{} bytes; the peak is at '{}': {}", budget, least.step, text),
      "use a smaller batch, or an optimizer with fewer moments if these are large");
}

}  // namespace

BesideStep beside_step(const Graph& graph) {
  BesideStep beside{.process = kProcessBytes};
  for (const State& state : graph.states)
    if (state.role == StateRole::parameter) beside.saving = std::max(beside.saving, state.initial.bytes());
  std::size_t batch = 0;
  for (const ValueId id : graph.inputs)
    if (graph[id].shape.is_static())
      batch += bytes_of(graph[id].dtype, static_cast<std::size_t>(graph[id].shape.count()));
  beside.read_ahead = batch * batches_held(batch);
  return beside;
}

std::unique_ptr<StepProgram> compile_within(std::size_t budget, const Graph& graph, Executor& executor,
                                            StateStore& store, const PassObserver& observer) {
  const std::size_t on_host = beside_step(graph).total();
  if (budget == 0) return std::make_unique<StepProgram>(graph, executor, store);
  Compiled step;
  std::optional<Graph> less;
  try {
    step = compiled(graph, executor, store, budget);
  } catch (const Error&) {
    // The whole step may be more than the machine has: what recomputation leaves of it may fit.
    less = run_pipeline(graph, {recompute(static_cast<std::size_t>(kCaution * static_cast<double>(budget)), {})});
    step = compiled(*less, executor, store, budget);
  }
  const MemoryUse whole = step.use;
  const std::size_t beside = whole.is_of_device ? 0 : on_host;
  MemoryUse use = whole;
  const KernelUses kernels = step.kernels;
  std::size_t live = most_live_bytes(less ? *less : graph, kernels);
  for (int compiles = 1; use.total() + beside > budget; ++compiles) {
    const std::size_t fixed = use.total() - use.arena + beside;
    const std::size_t room = budget > fixed && compiles + 1 < kMostCompiles ? budget - fixed : 0;
    const double share =
        kCaution * static_cast<double>(room) / static_cast<double>(std::max<std::size_t>(use.arena, 1));
    const auto wanted = static_cast<std::size_t>(share * static_cast<double>(live));
    step.program.reset();  // its memory goes before the next one's is taken
    less = run_pipeline(graph, {recompute(wanted, kernels)});
    const std::size_t reached = most_live_bytes(*less, kernels);
    step = compiled(*less, executor, store, budget);
    use = step.use;
    if (reached > wanted) break;  // no more can be won
    live = reached;
  }
  if (use.total() + beside > budget) refuse(budget, use.total() < whole.total() ? use : whole, beside);
  if (less && observer) observer(kStage, "recompute", *less);
  return std::move(step.program);
}

}  // namespace halfstep
