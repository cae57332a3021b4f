#include "executors/core/program.h"

#include <algorithm>

#include <fmt/format.h>

#include "executors/core/collective_kernels.h"
#include "executors/core/entry_timer.h"
#include "executors/core/memory_use.h"
#include "executors/core/standard_kernels.h"
#include "graph/placeholder.h"
#include <halfstep/base/error.h>
#include <halfstep/executors/core/memory.h>
#include <halfstep/executors/core/reference_call.h>

namespace halfstep::core {
namespace {

template <class F>
bool any_operand(const Node& node, const F& f) {
  const auto holds = [&](ValueId id) { return id != kNoValue && f(id); };
  return std::ranges::any_of(node.inputs, holds) || std::ranges::any_of(node.outputs, holds);
}

/// Why no kernel of the executor's own is asked about a node; empty when they are.
std::string why_not(const Assembly& assembly, const Node& node) {
  const Graph& graph = assembly.graph();
  if (any_operand(node, [&](ValueId id) { return assembly.is_dynamic(id); }))
    return "the shape depends on data, or the elements are strings";
  if (any_operand(node, [&](ValueId id) { return graph[id].shape.count() == 0; })) return "an operand has no elements";
  std::string reason;
  any_operand(node, [&](ValueId id) {
    if (!assembly.device().holds(graph[id].dtype))
      reason = fmt::format("{} is {}, which the device has no kernels for", graph[id].name, name_of(graph[id].dtype));
    return !reason.empty();
  });
  return reason;
}

/// The makers that are asked about a node, best first.
std::vector<KernelMaker> makers_of(const std::vector<KernelRow>& table, const Node& node) {
  std::vector<KernelMaker> makers;
  const auto row = std::ranges::find_if(table, [&](const KernelRow& each) { return node.is(each.op, each.domain); });
  if (row != table.end()) makers = row->makers;
  if (keeps_order(node)) makers.push_back(make_view);
  return makers;
}

/// Of a kernel, which may have absorbed nodes.
EntryFacts node_facts(const Graph& graph, std::size_t index, const Made& made, const std::vector<bool>& before,
                      const std::vector<bool>& absorbed) {
  if (!made.bind) return {.kind = EntryKind::view};
  std::vector<std::size_t> nodes{index};
  for (std::size_t i = 0; i < absorbed.size(); ++i)
    if (absorbed[i] && !before[i]) nodes.push_back(i);
  return {.kind = made.kernel == "reference" ? EntryKind::reference : EntryKind::kernel,
          .cost = cost_of(graph, nodes),
          .computed = computed_type(graph, graph.nodes[index])};
}

/// Of all steps that have none yet: they convert.
void add_conversion_facts(Assembly& assembly, const std::string& made_for, std::vector<EntryFacts>& facts) {
  const auto bytes = [&](BufferId id) {
    const Assembly::Buffer& buffer = assembly.buffers()[id];
    return static_cast<double>(buffer.state ? buffer.state->bytes() : buffer.bytes);
  };
  for (std::size_t i = facts.size(); i < assembly.steps().size(); ++i) {
    const std::vector<BufferId>& touched = assembly.steps()[i].touches;  // source, target, scratch
    facts.push_back({.kind = EntryKind::conversion,
                     .made_for = made_for,
                     .cost = {.bytes = bytes(touched[0]) + bytes(touched[1])}});
  }
}

/// Whether any of these buffers is a value's, or that of a copy of it. The value is a node's result.
bool is_in_any(Assembly& assembly, ValueId id, const std::vector<BufferId>& touched,
               const std::vector<EntryFacts>& facts) {
  const auto is_touched = [&](BufferId buffer) { return std::ranges::find(touched, buffer) != touched.end(); };
  std::vector<BufferId> places{assembly.read(id).buffer};
  if (is_touched(places[0])) return true;
  for (std::size_t s = 0; s < assembly.steps().size(); ++s) {
    if (facts[s].kind != EntryKind::conversion) continue;
    const std::vector<BufferId>& both = assembly.steps()[s].touches;  // source, target
    if (std::ranges::find(places, both[0]) == places.end()) continue;
    if (is_touched(both[1])) return true;
    places.push_back(both[1]);
  }
  return false;
}

/// Inputs of a node, results of others, that its kernel does not read. `facts` are those of all steps so far.
void note_unread(Assembly& assembly, const Node& node, const std::vector<BufferId>& touched,
                 const std::vector<EntryFacts>& facts, UnreadInputs& unread) {
  for (std::size_t i = 0; i < node.inputs.size(); ++i) {
    const ValueId id = node.inputs[i];
    if (id == kNoValue || !assembly.graph().producer(id) || assembly.is_dynamic(id) || assembly.schedule().is_lazy[id])
      continue;
    if (!is_in_any(assembly, id, touched, facts)) unread[node.name].push_back(i);
  }
}

// First acceptance wins. Returns false when even the reference has no such operator.
bool compile_node(Assembly& assembly, const std::vector<KernelRow>& table, CollectiveKernels& collective,
                  std::size_t index, std::int32_t position, std::vector<bool>& absorbed, std::vector<EntryFacts>& facts,
                  UnreadInputs& unread) {
  const Node& node = assembly.graph().nodes[index];
  PlanEntry entry{node.name, operator_name(node), "", "", 0};
  if (absorbed[index]) {
    entry.kernel = "fused";
    entry.reason = "computed along with the kernel of another node";
    assembly.append({entry, {}, {}});
    facts.push_back({.kind = EntryKind::fused});
    return true;
  }
  auto attempt = [&](const auto& maker) {
    const std::vector<bool> absorbed_before = absorbed;
    KernelContext context(assembly, index, position, absorbed);
    Made made = maker(context);
    if (!made.remark.empty()) entry.reason += (entry.reason.empty() ? "" : "; ") + made.remark;
    if (made.kernel.empty()) {
      if (context.is_touched())
        throw_failure("a kernel maker that refuses before it asks for memory", node.op, "report it");
      return false;
    }
    entry.kernel = made.kernel;
    entry.scratch_bytes = context.scratch_bytes();
    add_conversion_facts(assembly, node.name, facts);
    if (made.bind) note_unread(assembly, node, context.touches(), facts, unread);
    facts.push_back(node_facts(assembly.graph(), index, made, absorbed_before, absorbed));
    assembly.append({entry, std::move(made.bind), context.touches()});
    context.append_conversions();
    add_conversion_facts(assembly, node.name, facts);
    return true;
  };
  if (collective.takes(node)) return attempt([&](KernelContext& context) { return collective.make(context); });
  entry.reason = why_not(assembly, node);
  if (entry.reason.empty()) {
    const std::vector<KernelMaker> makers = makers_of(table, node);
    if (std::ranges::any_of(makers, [&](KernelMaker maker) { return attempt(maker); })) return true;
    if (makers.empty()) entry.reason = "no kernel of its own";
  }
  return attempt(make_reference);
}

bool values_are_separate = false;  // see separate_values

/// Outputs of more bytes are copied to the host when they are asked for, those of fewer in every run: scalars are read
/// in every step, and one more copy in a step costs less than a wait behind it.
constexpr std::size_t kSmallOutput = 4096;

class CompiledProgram final : public TimedProgram, public MeasuredProgram {
 public:
  CompiledProgram(const Graph& graph, Store& store, std::shared_ptr<const Backend> backend,
                  const std::shared_ptr<Communicator>& ranks)
      : graph_(graph), backend_(std::move(backend)) {
    device().within([&] { compile(store, CollectiveKernels(ranks)); });
  }

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
    device().running([this] {
      run_();
      device().wait();
    });
    note_run();
  }

  const std::vector<EntryFacts>& facts() const override { return facts_; }

  std::vector<EntryTime> run_timed() override {
    std::vector<EntryTime> times(plan_.entries.size());
    device().running([&] {
      const EntryTimer timer;
      for (std::size_t s = 0; s < steps_.size(); ++s)
        times[entry_of_step_[s]] = timer.time([&] {
          steps_[s]();
          device().wait();
        });
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
  void note_run() {
    for (Fetch& fetch : fetches_) fetch.is_due = static_cast<bool>(fetch.copy);
  }

  /// The output that a step does nothing but copy to the host, from memory that stays as it is until the next run: of
  /// the arena, which a state's is not.
  std::optional<std::size_t> fetched_by(const Assembly& assembly, const Step& step) const {
    if (device().is_host() || step.touches.size() != 2 || step.entry.op != "Download") return std::nullopt;
    const auto buffer = [&](std::size_t i) -> const Assembly::Buffer& { return assembly.buffers()[step.touches[i]]; };
    if (buffer(0).fixed || buffer(0).state || buffer(0).bytes <= kSmallOutput) return std::nullopt;
    for (std::size_t i = 0; i < assembly.outputs.size(); ++i)
      if (assembly.outputs[i].is_defined() && buffer(1).fixed.get() == assembly.outputs[i].raw()) return i;
    return std::nullopt;
  }

  void compile(Store& store, CollectiveKernels collective) {
    // Before kernels make tables as long as their results.
    if (device().is_host()) check_step_fits(graph_, ValueMemory::shared);
    for (const Value& value : graph_.values)
      if (value.shape.is_static()) check_fits_memory(value.dtype, value.shape);
    Assembly assembly(graph_, store, device());
    collective.place(assembly);
    compile_nodes(assembly, collective);
    assembly.append_final_copies();
    add_conversion_facts(assembly, {}, facts_);
    place(assembly);
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

  /// An arena for the buffers of one space; their addresses.
  void place_arena(Assembly& assembly, std::vector<Step>& steps, Space space, std::vector<void*>& addresses) {
    const auto& buffers = assembly.buffers();
    std::vector<Lifetime> lifetimes(buffers.size());
    std::vector<bool> seen(buffers.size(), false);
    for (std::size_t s = 0; s < steps.size(); ++s) {
      for (const BufferId id : steps[s].touches) {
        const BufferId whole = buffers[static_cast<std::size_t>(id)].whole;
        const auto b = static_cast<std::size_t>(whole == kNoBuffer ? id : whole);
        if (buffers[b].fixed || buffers[b].state || buffers[b].space != space) continue;
        lifetimes[b].bytes = buffers[b].bytes;
        if (!seen[b]) lifetimes[b].first = static_cast<std::int32_t>(s);
        const std::size_t last = fetched_by(assembly, steps[s]) ? steps.size() - 1 : s;
        lifetimes[b].last = std::max(lifetimes[b].last, static_cast<std::int32_t>(last));
        seen[b] = true;
      }
    }
    const Arena arena = plan_memory(lifetimes);
    if (space == Space::device) memory_ = memory_use(assembly, lifetimes, arena);
    plan_.arena_bytes += arena.bytes;
    if (device().is_host()) check_step_fits(graph_, arena.bytes);
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
    place_arena(assembly, assembly.steps(), Space::device, addresses);
    if (!device().is_host()) place_arena(assembly, assembly.steps(), Space::host, addresses);
    for (std::size_t b = 0; b < buffers.size(); ++b) {
      if (buffers[b].state) {
        addresses[b] = buffers[b].state->memory.get();
        plan_.state_bytes += buffers[b].state->bytes();
      } else if (buffers[b].fixed) {
        addresses[b] = buffers[b].fixed.get();
        keep_.push_back(buffers[b].fixed);
      }
    }
    for (std::size_t b = 0; b < buffers.size(); ++b)
      if (buffers[b].whole != kNoBuffer)
        addresses[b] = static_cast<std::byte*>(addresses[buffers[b].whole]) + buffers[b].offset;
    const Memory memory(std::move(addresses));
    bool on_device = true;
    fetches_.resize(graph_.outputs.size());
    for (const Step& step : assembly.steps()) {
      plan_.entries.push_back(step.entry);
      if (!step.bind) continue;
      if (const auto output = fetched_by(assembly, step)) {
        plan_.entries.back().reason = "when the output is asked for";
        fetches_[*output].copy = step.bind(memory);
        continue;
      }
      steps_.push_back(step.bind(memory));
      entry_of_step_.push_back(plan_.entries.size() - 1);
      on_device = on_device && step.entry.kernel != "reference" && !is_collective_kernel(step.entry.kernel);
    }
    inputs_ = assembly.inputs;
    outputs_ = assembly.outputs;
    for (ValueId out : graph_.outputs)
      dynamic_outputs_.push_back(assembly.is_dynamic(out) ? assembly.dynamic(out) : nullptr);
    run_ = device().sequence(steps_, on_device, plan_.notes);
    for (State& state : graph_.states) state.initial = placeholder_of(state.initial);  // the store has it
  }

  Graph graph_;
  std::shared_ptr<const Backend> backend_;
  std::vector<Run> steps_;
  Run run_;                                 // all of them
  std::vector<std::size_t> entry_of_step_;  // in the plan, where entries that need not run are listed too
  std::vector<Tensor> inputs_, outputs_;
  std::vector<Fetch> fetches_;               // per output
  std::vector<std::shared_ptr<void>> keep_;  // the arenas, constants and their copies
  std::vector<std::shared_ptr<Tensor>> dynamic_outputs_;
  Plan plan_;
  MemoryUse memory_;
  UnreadInputs unread_;
  std::vector<EntryFacts> facts_;  // of the plan's entries
};

}  // namespace

void separate_values(bool separate) { values_are_separate = separate; }

std::unique_ptr<Program> compile_program(const Graph& graph, Store& store, std::shared_ptr<const Backend> backend,
                                         const std::shared_ptr<Communicator>& ranks) {
  return std::make_unique<CompiledProgram>(graph, store, std::move(backend), ranks);
}

}  // namespace halfstep::core

namespace halfstep {

std::optional<MemoryUse> memory_of(const Program& program) {
  const auto* measured = dynamic_cast<const core::MeasuredProgram*>(&program);
  return measured ? std::optional(measured->memory()) : std::nullopt;
}

UnreadInputs unread_inputs(const Program& program) {
  const auto* measured = dynamic_cast<const core::MeasuredProgram*>(&program);
  return measured ? measured->unread() : UnreadInputs();
}

}  // namespace halfstep
