#include "executors/core/program.h"

#include <algorithm>
#include <array>
#include <limits>

#include <fmt/format.h>

#include "executors/core/collective_kernels.h"
#include "executors/core/compile_node.h"
#include "executors/core/constants.h"
#include "executors/core/crossings.h"
#include "executors/core/entry_timer.h"
#include "executors/core/memory_use.h"
#include "executors/core/state_changes.h"
#include "executors/memory_limit.h"
#include "graph/placeholder.h"
#include <halfstep/base/error.h>
#include <halfstep/executors/core/memory.h>
#include <halfstep/executors/core/reference_call.h>
#include <halfstep/executors/overlapped_program.h>

namespace halfstep::core {
namespace {

bool values_are_separate = false;  // see separate_values

class CompiledProgram final : public TimedProgram, public MeasuredProgram, public OverlappedProgram {
 public:
  CompiledProgram(const Graph& graph, Store& store, std::shared_ptr<const Backend> backend,
                  const std::shared_ptr<Communicator>& ranks)
      : graph_(graph), backend_(std::move(backend)), changes_(store) {
    device().within([&] {
      const auto transport = ranks ? std::make_shared<Transport>(ranks, device()) : nullptr;
      on_stream_ = Transport::stream_of(transport);
      compile(store, CollectiveKernels(transport));
    });
  }
  ~CompiledProgram() override { device().enter(); }
  CompiledProgram(const CompiledProgram&) = delete;
  CompiledProgram& operator=(const CompiledProgram&) = delete;

  Tensor input(std::size_t i) override { return inputs_.at(i); }
  Tensor output(std::size_t i) override {
    if (dynamic_outputs_.at(i)) return *dynamic_outputs_[i];
    if (Fetch& fetch = fetches_[i]; fetch.is_due) {
      device().running([&] {
        fetch.copy();
        device().wait();
      });
      fetch.is_due = false;
    }
    return outputs_[i];
  }
  const Plan& plan() const override { return plan_; }
  const MemoryUse& memory() const override { return memory_; }
  UnreadInputs unread() const override { return unread_; }

  void run() override {
    start(false);
    finish();
  }

  bool takes_ahead(std::size_t i) const override { return ahead_[0].at(i).is_defined(); }
  bool takes_any_ahead() const { return staging_ != nullptr; }
  Tensor ahead(std::size_t i) override { return ahead_[1 - taken_].at(i); }
  void give_ahead() override {
    running([this] { staging_->give(1 - taken_); });
  }
  void start(bool ahead) override {
    running([&] {
      changes_.before_run();
      take_inputs(ahead);
      run_();
      changes_.after_run();
    });
  }
  void finish() override {
    running([this] { device().wait(); });
    note_run();
  }

  const std::vector<EntryFacts>& facts() const override { return facts_; }

  std::vector<EntryTime> run_timed() override {
    std::vector<EntryTime> times(plan_.entries.size());
    running([&] {
      changes_.before_run();
      const EntryTimer timer;
      if (staging_)
        times[staged_entry_] = timer.time([&] {
          take_inputs(false);
          device().wait();
        });
      for (std::size_t s = 0; s < steps_.size(); ++s)
        times[entry_of_step_[s]] = timer.time([&] {
          steps_[s]();
          device().wait();
        });
      changes_.after_run();
    });
    note_run();
    return times;
  }

 private:
  /// An output that is copied to the host when it is asked for.
  struct Fetch {
    Run copy = {};
    bool is_due = false;
  };

  Device& device() const { return *backend_->device; }
  MemoryRoom room() const {
    const Capabilities& found = backend_->capabilities;
    if (device().is_host()) return machine_room();
    constexpr std::size_t kUnlimited = std::numeric_limits<std::size_t>::max();
    return {found.memory > 0 ? found.memory : kUnlimited, found.device, false};
  }
  void running(const std::function<void()>& work) {
    device().running([&] { device().waiting_by(on_stream_.get(), work); });
  }
  /// Of those that are taken ahead. Program::input is the first of their two places.
  void take_inputs(bool ahead) {
    if (!staging_) return;
    taken_ = ahead ? 1 - taken_ : 0;
    if (!ahead) staging_->give(0);
    staging_->take();
  }
  void note_run() {
    for (Fetch& fetch : fetches_) fetch.is_due = static_cast<bool>(fetch.copy);
  }

  void compile(Store& store, CollectiveKernels collective) {
    // Before kernels make tables as long as their results.
    check_step_fits(graph_, ValueMemory::shared, room());
    for (const Value& value : graph_.values)
      if (value.shape.is_static()) check_fits_memory(value.dtype, value.shape);
    try {
      share_constants();
      Assembly assembly(graph_, store, device());
      collective.place(assembly);
      compile_nodes(assembly, collective);
      assembly.append_final_copies();
      add_conversion_facts(assembly, {}, facts_);
      place(assembly);
    } catch (const TooLittleMemory& left) {
      throw_too_little(graph_, asked_, left, room());
    }
  }

  /// Has the graph hold those that other programs have.
  void share_constants() {
    for (Value& value : graph_.values) {
      if (!value.is_constant()) continue;
      std::shared_ptr<Tensor> shared = Constants::of_process().shared(value.constant);
      value.constant = *shared;
      keep_.push_back(std::move(shared));
    }
  }

  void compile_nodes(Assembly& assembly, CollectiveKernels& collective) {
    std::vector<bool> absorbed(graph_.nodes.size(), false);
    std::string missing;
    const std::vector<std::size_t>& order = assembly.schedule().order;
    for (std::size_t i = 0; i < order.size(); ++i) {
      const Node& node = graph_.nodes[order[i]];
      if (!missing.empty()) {  // values may be missing from here on: only collect what else cannot run
        if (!reference_kernel(node)) missing += fmt::format(", {} '{}'", operator_name(node), node.name);
      } else if (!compile_node(assembly, backend_->kernels, collective, order[i], static_cast<std::int32_t>(i),
                               absorbed, facts_, unread_)) {
        missing = fmt::format("{} '{}'", operator_name(node), node.name);
      }
    }
    if (!missing.empty()) throw_input_error("operators that have a kernel", missing, "see the table of operators");
  }

  /// Of all inputs that are copied ahead of a run.
  static std::size_t staged_bytes(const Assembly& assembly, const std::vector<StepCrossing>& crossings) {
    std::size_t bytes = 0;
    for (const auto& [kind, input] : crossings)
      if (kind == Crossing::staged) bytes += assembly.inputs[input].bytes();
    return bytes;
  }

  /// See MemoryLimit.
  void check_limit(const Assembly& assembly) const {
    const std::optional<std::size_t> limit = MemoryLimit::of_thread();
    if (!limit || !memory_.is_of_device || memory_.total() <= *limit) return;
    std::vector<PlanEntry> entries;
    for (const Step& step : assembly.steps()) entries.push_back(step.entry);
    throw BeyondLimit(memory_, std::move(entries), unread_);
  }

  /// An arena for the buffers of one space; their addresses.
  void place_arena(Assembly& assembly, const std::vector<StepCrossing>& crossings, Space space,
                   std::vector<void*>& addresses) {
    const auto& buffers = assembly.buffers();
    const std::vector<Step>& steps = assembly.steps();
    std::vector<Lifetime> lifetimes(buffers.size());
    std::vector<bool> seen(buffers.size(), false);
    for (std::size_t s = 0; s < steps.size(); ++s) {
      for (const BufferId id : steps[s].touches) {
        const BufferId whole = buffers[static_cast<std::size_t>(id)].whole;
        const auto b = static_cast<std::size_t>(whole == kNoBuffer ? id : whole);
        if (buffers[b].fixed || buffers[b].state || buffers[b].space != space) continue;
        lifetimes[b].bytes = buffers[b].bytes;
        const Crossing crossing = crossings[s].kind;
        if (!seen[b]) lifetimes[b].first = crossing == Crossing::staged ? 0 : static_cast<std::int32_t>(s);
        const std::size_t last = crossing == Crossing::fetched ? steps.size() - 1 : s;
        lifetimes[b].last = std::max(lifetimes[b].last, static_cast<std::int32_t>(last));
        seen[b] = true;
      }
    }
    const Arena arena = plan_memory(lifetimes);
    plan_.arena_bytes += arena.bytes;
    if (space == Space::device) {
      memory_ = memory_use(assembly, lifetimes, arena);
      const std::size_t staged = staged_bytes(assembly, crossings);  // of the device, between the host's and the target
      memory_.inputs_outputs += staged;
      check_step_fits(graph_, arena.bytes + staged, room());
      check_limit(assembly);
      asked_ = {"values between its nodes", arena.bytes};
    }
    constexpr std::size_t kLeast = 64;  // empty buffers have an address, too
    if (values_are_separate) {
      for (std::size_t b = 0; b < buffers.size(); ++b) {
        if (buffers[b].fixed || buffers[b].state || buffers[b].whole != kNoBuffer || buffers[b].space != space)
          continue;
        keep_.push_back(device().allocate(std::max(buffers[b].bytes, kLeast), space));
        addresses[b] = keep_.back().get();
      }
      return;
    }
    keep_.push_back(device().allocate(std::max(arena.bytes, kLeast), space));
    for (std::size_t b = 0; b < buffers.size(); ++b)
      if (!buffers[b].fixed && !buffers[b].state && buffers[b].space == space)
        addresses[b] = static_cast<std::byte*>(keep_.back().get()) + arena.offsets[b];
  }

  void place(Assembly& assembly) {
    const auto& buffers = assembly.buffers();
    std::vector<void*> addresses(buffers.size());
    const std::vector<StepCrossing> crossings = crossings_of(assembly);
    place_arena(assembly, crossings, Space::device, addresses);
    if (!device().is_host()) place_arena(assembly, crossings, Space::host, addresses);
    for (std::size_t b = 0, s = 0; b < buffers.size(); ++b) {
      if (buffers[b].state) {
        addresses[b] = buffers[b].state->memory.get();
        plan_.state_bytes += buffers[b].state->bytes();
        changes_.add(graph_.states[s++], *buffers[b].state);  // in the same order
      } else if (buffers[b].fixed) {
        addresses[b] = buffers[b].fixed.get();
        keep_.push_back(buffers[b].fixed);
      }
    }
    for (std::size_t b = 0; b < buffers.size(); ++b)
      if (buffers[b].whole != kNoBuffer)
        addresses[b] = static_cast<std::byte*>(addresses[buffers[b].whole]) + buffers[b].offset;
    const Memory memory(std::move(addresses));
    std::vector<bool> on_device;
    std::vector<StagedInput> staged;
    inputs_ = assembly.inputs;
    for (std::vector<Tensor>& tensors : ahead_) tensors.resize(inputs_.size());
    fetches_.resize(graph_.outputs.size());
    for (std::size_t s = 0; s < crossings.size(); ++s) {
      const Step& step = assembly.steps()[s];
      plan_.entries.push_back(step.entry);
      if (!step.bind) continue;
      const auto [crossing, index] = crossings[s];
      if (crossing == Crossing::fetched) {
        plan_.entries.back().reason = "when the output is asked for";
        fetches_[index].copy = step.bind(memory);
        continue;
      }
      if (crossing == Crossing::staged) {
        plan_.entries.back().reason = "while the step before runs, where the input is given then";
        if (staged.empty()) staged_entry_ = plan_.entries.size() - 1;
        staged.push_back(make_staged(index, memory.at(step.touches[1])));
        continue;
      }
      steps_.push_back(step.bind(memory));
      entry_of_step_.push_back(plan_.entries.size() - 1);
      on_device.push_back(step.entry.kernel != "reference" && !is_collective_kernel(step.entry.kernel));
    }
    if (!staged.empty()) {
      asked_ = {"inputs that wait for the next step", staged_bytes(assembly, crossings), memory_.arena};
      staging_ = device().make_staging(staged);
    }
    outputs_ = assembly.outputs;
    for (ValueId out : graph_.outputs)
      dynamic_outputs_.push_back(assembly.is_dynamic(out) ? assembly.dynamic(out) : nullptr);
    run_ = device().sequence(steps_, on_device, plan_.notes);
    for (State& state : graph_.states) state.initial = placeholder_of(state.initial);  // the store has it
  }

  /// Makes the second place of an input.
  StagedInput make_staged(std::size_t input, void* target) {
    const Tensor& first = inputs_[input];
    const std::shared_ptr<void> memory = device().allocate(first.bytes(), Space::host);
    ahead_[0][input] = first;
    ahead_[1][input] = Tensor::view(first.dtype(), first.shape(), memory.get(), memory);
    return {{inputs_[input].raw(), memory.get()}, target, first.bytes()};
  }

  Graph graph_;
  std::shared_ptr<const Backend> backend_;
  StateChanges changes_;
  // The arenas, constants and their copies: go after the steps, of which an exchange may be under way there.
  std::vector<std::shared_ptr<void>> keep_;
  std::shared_ptr<StreamRanks> on_stream_;  // of the ranks, where they take the device's memory
  std::vector<Run> steps_;
  Run run_;                                 // all of them
  std::vector<std::size_t> entry_of_step_;  // in the plan, where entries that need not run are listed too
  std::vector<Tensor> inputs_, outputs_;
  std::array<std::vector<Tensor>, 2> ahead_;  // per input; undefined where it is not taken ahead
  std::size_t taken_ = 0;                     // the place that the latest run's inputs were taken from
  std::size_t staged_entry_ = 0;              // of the plan, which has the time of all
  std::unique_ptr<Staging> staging_;
  std::vector<Fetch> fetches_;  // per output
  std::vector<std::shared_ptr<Tensor>> dynamic_outputs_;
  Plan plan_;
  MemoryUse memory_;
  AskedMemory asked_;  // of the device, last
  UnreadInputs unread_;
  std::vector<EntryFacts> facts_;  // of the plan's entries
};

}  // namespace

void separate_values(bool separate) { values_are_separate = separate; }

std::unique_ptr<Program> compile_program(const Graph& graph, Store& store, std::shared_ptr<const Backend> backend,
                                         const std::shared_ptr<Communicator>& ranks) {
  const auto compiled = [&](const LeastMemory&) {
    return std::make_unique<CompiledProgram>(graph, store, backend, ranks);
  };
  const LeastMemory first(false);
  try {
    return compiled(first);
  } catch (const BeyondLimit&) {
    if (!first.decides()) throw;
  } catch (const BeyondMemory&) {
    if (!first.decides()) throw;
  }
  return compiled(LeastMemory(true));
}

}  // namespace halfstep::core

namespace halfstep {

std::optional<MemoryUse> memory_of(const Program& program) {
  const auto* measured = dynamic_cast<const core::MeasuredProgram*>(&program);
  return measured ? std::optional(measured->memory()) : std::nullopt;
}

OverlappedProgram* overlapped(Program& program) {
  auto* compiled = dynamic_cast<core::CompiledProgram*>(&program);
  return compiled && compiled->takes_any_ahead() ? compiled : nullptr;
}

UnreadInputs unread_inputs(const Program& program) {
  const auto* measured = dynamic_cast<const core::MeasuredProgram*>(&program);
  return measured ? measured->unread() : UnreadInputs();
}

}  // namespace halfstep
