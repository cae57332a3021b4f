// The definition of right: every node by its reference kernel, one after another, each value in memory of its own.
#include <cstring>

#include <fmt/format.h>

#include "base/machine_memory.h"
#include "executors/core/entry_timer.h"
#include "executors/core/gather_parts.h"
#include "executors/core/joined_parts.h"
#include "executors/core/memory_use.h"
#include "executors/core/state_changes.h"
#include "ops/collective/all_reduce.h"
#include "ops/collective/gather_from_ranks.h"
#include <halfstep/base/error.h>
#include <halfstep/executors/core/memory.h>
#include <halfstep/executors/core/reference_call.h>
#include <halfstep/executors/core/store.h>
#include <halfstep/executors/executor.h>
#include <halfstep/executors/ranks.h>
#include <halfstep/ops/infer.h>
#include <halfstep/ops/op_def.h>
#include <halfstep/ops/optimizers/optimizer_def.h>

namespace halfstep {
namespace {

class ReferenceProgram final : public TimedProgram, public core::MeasuredProgram {
 public:
  ReferenceProgram(const Graph& graph, core::Store& store, std::shared_ptr<Communicator> ranks)
      : graph_(graph), ranks_(std::move(ranks)), changes_(store) {
    values_.resize(graph.values.size());
    std::string missing;
    for (const Node& node : graph_.nodes) {
      const ReferenceKernel kernel = core::reference_kernel(node);
      if (!kernel) missing += fmt::format("{}{} '{}'", missing.empty() ? "" : ", ", node.op, node.name);
      calls_.push_back({&node, kernel, std::vector<Tensor>(node.inputs.size()), {}});
      plan_.entries.push_back({node.name, core::operator_name(node), "reference", "", 0});
      facts_.push_back(
          {.kind = EntryKind::reference, .cost = cost_of(graph_, node), .computed = computed_type(graph_, node)});
    }
    if (!missing.empty())
      throw_input_error("operators that have a reference kernel", missing, "see the table of operators");

    check_step_fits(graph_, ValueMemory::separate);
    for (const ValueId id : graph_.values.ids())
      if (graph_[id].is_constant()) values_[id] = graph_[id].constant;
    for (ValueId in : graph_.inputs) values_[in] = allocate(in);
    for (const State& state : graph_.states) {
      core::Store::Entry& entry = store.bind(graph_, state);
      changes_.add(state, entry);
      values_[state.value] = Tensor::view(entry.dtype, entry.shape, entry.memory.get(), entry.memory);
      plan_.state_bytes += entry.bytes();
    }
    for (core::ReferenceCall& call : calls_) {
      for (ValueId out : call.node->outputs) {
        if (out != kNoValue && is_planned(out)) values_[out] = allocate(out);
        // Kernels make the tensors of strings.
        const bool has_target = out != kNoValue && is_planned(out) && graph_[out].dtype != DType::string;
        call.targets.push_back(has_target ? values_[out] : Tensor());
      }
    }
    for (ValueId out : graph_.outputs) state_outputs_.push_back(graph_.state_of(out) < 0 ? Tensor() : allocate(out));
    for (const Tensor& t : values_) plan_.arena_bytes += t.bytes();
    count_memory();
  }

  Tensor input(std::size_t i) override { return values_[graph_.inputs.at(i)]; }
  Tensor output(std::size_t i) override {
    return state_outputs_.at(i).is_defined() ? state_outputs_[i] : values_[graph_.outputs[i]];
  }
  const Plan& plan() const override { return plan_; }
  const MemoryUse& memory() const override { return memory_; }

  void run() override {
    changes_.before_run();
    for (core::ReferenceCall& call : calls_) run_node(call);
    move_states();
    changes_.after_run();
  }

  const std::vector<EntryFacts>& facts() const override { return facts_; }

  std::vector<EntryTime> run_timed() override {
    std::vector<EntryTime> times;
    const core::EntryTimer timer;
    changes_.before_run();
    for (core::ReferenceCall& call : calls_) times.push_back(timer.time([&] { run_node(call); }));
    move_states();
    changes_.after_run();
    return times;
  }

 private:
  /// Of values whose sizes are known. Nothing shares memory, so each moment is as full as any other.
  void count_memory() {
    for (const ValueId id : graph_.values.ids())
      if (graph_[id].is_constant()) memory_.constants += values_[id].bytes();
    for (const ValueId in : graph_.inputs) memory_.inputs += values_[in].bytes();
    memory_.inputs_outputs = memory_.inputs;
    for (const Tensor& output : state_outputs_) memory_.inputs_outputs += output.bytes();
    for (const State& state : graph_.states) {
      const std::size_t bytes = values_[state.value].bytes();
      core::add_state(memory_, state.role, bytes);
      if (state.next != kNoValue) memory_.workspace += bytes;  // see move_states
    }
    ValueMap<bool> is_gradient;
    is_gradient.resize(graph_.values.size());
    for (const Node& node : graph_.nodes) {
      if (!optimizer_of(node)) continue;
      const StepOperands operands(node);
      for (std::size_t i = 0; i < operands.parameters; ++i)
        if (const ValueId id = node.inputs[operands.gradient(i)]; id != kNoValue) is_gradient[id] = true;
    }
    for (const core::ReferenceCall& call : calls_)
      for (std::size_t k = 0; k < call.targets.size(); ++k)
        if (call.targets[k].is_defined())
          (is_gradient[call.node->outputs[k]] ? memory_.gradients : memory_.activations) += call.targets[k].bytes();
    memory_.arena = memory_.live = memory_.gradients + memory_.activations + memory_.workspace;
    if (!graph_.nodes.empty()) memory_.step = graph_.nodes.back().name;
  }

  void run_node(core::ReferenceCall& call) {
    const Node& node = *call.node;
    for (std::size_t k = 0; k < node.inputs.size(); ++k)
      if (node.inputs[k] != kNoValue) call.in[k] = values_[node.inputs[k]];
    call();
    if (ranks_ && starts_all_reduce(node)) {
      const core::JoinedParts parts(graph_, node);
      std::vector<std::byte> joined(parts.bytes);
      auto* packed = static_cast<std::byte*>(values_[node.outputs[0]].raw());
      const auto move = [&](bool goes) {
        for (std::size_t i = 0, at = 0; i < parts.sizes.size(); at += parts.sizes[i++])
          if (parts.sizes[i] > 0)
            std::memcpy(goes ? &joined[parts.offsets[i]] : packed + at, goes ? packed + at : &joined[parts.offsets[i]],
                        parts.sizes[i]);
      };
      move(true);
      ranks_->all_reduce(joined.data(), parts.count(), parts.dtype, Reduction::sum);
      move(false);
    }
    if (ranks_ && gathers_from_ranks(node)) gather(call);
    for (std::size_t k = 0; k < node.outputs.size(); ++k) {
      const ValueId out = node.outputs[k];
      if (out == kNoValue || call.targets[k].is_defined()) continue;
      if (is_planned(out)) check_inferred(call.out[k], graph_[out].dtype, graph_[out].shape);
      values_[out] = call.out[k];
    }
  }

  void gather(core::ReferenceCall& call) {
    const GatherOperands operands(*call.node);
    std::vector<void*> sent, taken;
    std::vector<std::size_t> sent_bytes, taken_bytes;
    for (std::size_t i = operands.sent; i < operands.taken; ++i) {
      sent.push_back(call.in[i].raw());
      sent_bytes.push_back(call.in[i].bytes());
    }
    for (const ValueId id : call.node->outputs) {
      taken.push_back(values_[id].raw());
      taken_bytes.push_back(values_[id].bytes());
    }
    const core::GatherParts parts(*ranks_, sent_bytes, taken_bytes, operands.owners);
    std::vector<std::byte> window(parts.window_bytes()), windows(parts.windows_bytes());
    parts.run(core::Transport(ranks_, *core::host_device()), sent, taken, window.data(), windows.data());
  }

  void move_states() {
    for (std::size_t i = 0; i < state_outputs_.size(); ++i) copy(values_[graph_.outputs[i]], state_outputs_[i]);
    // Copy all before moving any: a state's next may be another state's value.
    next_.clear();
    for (const State& state : graph_.states)
      next_.push_back(state.next == kNoValue ? Tensor() : values_[state.next].clone());
    for (std::size_t i = 0; i < next_.size(); ++i)
      if (next_[i].is_defined()) copy(next_[i], values_[graph_.states[i].value]);
  }

  bool is_planned(ValueId id) const { return graph_[id].shape.is_static() && graph_[id].dtype != DType::undefined; }
  static void copy(const Tensor& from, Tensor& to) {
    if (to.bytes() > 0) std::memcpy(to.raw(), from.raw(), to.bytes());
  }
  Tensor allocate(ValueId id) const {
    const Value& value = graph_[id];
    if (!value.shape.is_static())
      throw_input_error("static shapes at compile", "'" + value.name + "' of shape " + value.shape.to_string(),
                        "bind the input shapes first");
    return Tensor(value.dtype, value.shape);
  }

  Graph graph_;
  std::shared_ptr<Communicator> ranks_;
  core::StateChanges changes_;
  ValueMap<Tensor> values_;
  std::vector<Tensor> next_;
  std::vector<Tensor> state_outputs_;  // of outputs that are states: what they held before the states moved
  std::vector<core::ReferenceCall> calls_;
  Plan plan_;
  MemoryUse memory_;
  std::vector<EntryFacts> facts_;
};

class ReferenceExecutor final : public RankedExecutor {
 public:
  ReferenceExecutor() {
    capabilities_.device = "reference (one CPU thread)";
    capabilities_.memory = machine_memory();
    for (const OptimizerDef& row : optimizers()) capabilities_.updates.emplace(row.op);
    capabilities_.fusions = {{.op = "", .fused = "ConvGradWeight", .widens = true}};
    capabilities_.auto_precision = DType::f32;
    capabilities_.auto_reason =
        "the reference executor computes in f64 whatever the storage: a half type gains nothing";
  }
  std::string_view name() const override { return "reference"; }
  const Capabilities& capabilities() const override { return capabilities_; }
  std::unique_ptr<StateStore> make_store() override { return std::make_unique<core::Store>(core::host_device()); }
  std::unique_ptr<Program> compile(const Graph& graph, StateStore& store,
                                   const std::shared_ptr<Communicator>& ranks) override {
    return std::make_unique<ReferenceProgram>(graph, core::Store::of(store, *core::host_device(), name()), ranks);
  }

 private:
  Capabilities capabilities_;
};

}  // namespace

std::unique_ptr<Executor> make_reference_executor(const ExecutorOptions&) {
  return std::make_unique<ReferenceExecutor>();
}

}  // namespace halfstep
