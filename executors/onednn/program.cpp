#include "executors/onednn/program.h"

#include <algorithm>
#include <chrono>

#include <fmt/format.h>

#include "executors/onednn/kernel_table.h"
#include "executors/onednn/threads.h"
#include "executors/plan/memory.h"
#include "graph/error.h"
#include "ops/op_def.h"

namespace halfstep::onednn {
namespace {

std::string operator_name(const Node& node) { return node.domain.empty() ? node.op : node.domain + "." + node.op; }

bool has_dynamic_operand(const Assembly& assembly, const Node& node) {
  auto dynamic = [&](ValueId id) { return id != kNoValue && assembly.is_dynamic(id); };
  return std::any_of(node.inputs.begin(), node.inputs.end(), dynamic) ||
         std::any_of(node.outputs.begin(), node.outputs.end(), dynamic);
}

// No library kernel is asked about tensors without elements.
bool has_empty_operand(const Graph& graph, const Node& node) {
  auto empty = [&](ValueId id) { return id != kNoValue && graph[id].shape.count() == 0; };
  return std::any_of(node.inputs.begin(), node.inputs.end(), empty) ||
         std::any_of(node.outputs.begin(), node.outputs.end(), empty);
}

// First acceptance wins. Returns false when even the reference has no such operator.
bool compile_node(Assembly& assembly, std::size_t index, std::int32_t position, std::vector<bool>& absorbed) {
  const Graph& graph = assembly.graph();
  const Node& node = graph.nodes[index];
  PlanEntry entry{node.name, operator_name(node), "", "", 0};
  if (absorbed[index]) {
    entry.kernel = "fused";
    entry.reason = "computed along with the kernel of another node";
    assembly.append({entry, {}, {}});
    return true;
  }
  auto attempt = [&](KernelMaker maker) {
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
    assembly.append({entry, std::move(made.bind), context.touches()});
    context.append_conversions();
    return true;
  };
  if (has_dynamic_operand(assembly, node)) {
    entry.reason = "the shape depends on data, or the elements are strings";
  } else if (!has_empty_operand(graph, node)) {
    const auto makers = kernel_makers(node);
    if (makers.empty()) entry.reason = "no kernel of its own";
    for (KernelMaker maker : makers)
      if (attempt(maker)) return true;
  }
  return attempt(make_reference);
}

class OneDnnProgram final : public Program {
 public:
  OneDnnProgram(const Graph& graph, Store& store, int threads) : graph_(graph), threads_(threads) {
    ThreadScope scope(threads_);
    // Before kernels make tables as long as their results.
    check_step_fits(graph_, ValueMemory::shared);
    for (const Value& value : graph_.values)
      if (value.shape.is_static()) check_fits_memory(value.dtype, value.shape);
    Assembly assembly(graph_, store);
    compile_nodes(assembly);
    assembly.append_final_copies();
    place(assembly);
  }

  Tensor input(std::size_t i) override { return inputs_.at(i); }
  Tensor output(std::size_t i) override { return dynamic_outputs_.at(i) ? *dynamic_outputs_[i] : outputs_[i]; }
  const Plan& plan() const override { return plan_; }

  void run() override {
    ThreadScope scope(threads_);
    for (const Run& step : steps_) step();
  }

  std::vector<double> time_entries(int times) override {
    using Clock = std::chrono::steady_clock;
    ThreadScope scope(threads_);
    std::vector<std::vector<double>> seconds(steps_.size());
    for (int i = 0; i < times; ++i) {
      for (std::size_t s = 0; s < steps_.size(); ++s) {
        const auto start = Clock::now();
        steps_[s]();
        seconds[s].push_back(std::chrono::duration<double>(Clock::now() - start).count());
      }
    }
    std::vector<double> medians(plan_.entries.size(), 0);
    for (std::size_t s = 0; s < steps_.size(); ++s) {
      const auto middle = seconds[s].begin() + times / 2;
      std::nth_element(seconds[s].begin(), middle, seconds[s].end());
      medians[entry_of_step_[s]] = *middle;
    }
    return medians;
  }

 private:
  void compile_nodes(Assembly& assembly) {
    std::vector<bool> absorbed(graph_.nodes.size(), false);
    std::string missing;
    const std::vector<std::size_t>& order = assembly.schedule().order;
    for (std::size_t i = 0; i < order.size(); ++i) {
      if (!missing.empty()) {  // values may be missing from here on: only collect what else cannot run
        const Node& node = graph_.nodes[order[i]];
        if (!has_kernel(node)) missing += fmt::format(", {} '{}'", operator_name(node), node.name);
      } else if (!compile_node(assembly, order[i], static_cast<std::int32_t>(i), absorbed)) {
        const Node& node = graph_.nodes[order[i]];
        missing = fmt::format("{} '{}'", operator_name(node), node.name);
      }
    }
    if (!missing.empty()) throw_input_error("operators that have a kernel", missing, "see the table of operators");
  }

  static bool has_kernel(const Node& node) {
    const OpDef* row = find_op(node.op, node.domain);
    return row && row->reference;
  }

  void place(Assembly& assembly) {
    const auto& buffers = assembly.buffers();
    std::vector<Lifetime> lifetimes(buffers.size());
    std::vector<bool> seen(buffers.size(), false);
    const auto& steps = assembly.steps();
    for (std::size_t s = 0; s < steps.size(); ++s) {
      for (BufferId id : steps[s].touches) {
        const auto b = static_cast<std::size_t>(id);
        if (buffers[b].fixed || buffers[b].state) continue;
        lifetimes[b].bytes = buffers[b].bytes;
        if (!seen[b]) lifetimes[b].first = static_cast<std::int32_t>(s);
        lifetimes[b].last = static_cast<std::int32_t>(s);
        seen[b] = true;
      }
    }
    const Arena arena = plan_memory(lifetimes);
    check_step_fits(graph_, arena.bytes);
    arena_ = Tensor(DType::u8, Shape{static_cast<std::int64_t>(std::max<std::size_t>(arena.bytes, 64))});
    std::vector<void*> addresses(buffers.size());
    for (std::size_t b = 0; b < buffers.size(); ++b) {
      if (buffers[b].fixed)
        addresses[b] = buffers[b].fixed;
      else if (buffers[b].state)
        addresses[b] = buffers[b].state->memory.raw();
      else
        addresses[b] = arena_.data<std::uint8_t>() + arena.offsets[b];
      if (buffers[b].state) plan_.state_bytes += buffers[b].state->memory.bytes();
    }
    const Memory memory(std::move(addresses));
    for (const Step& step : steps) {
      plan_.entries.push_back(step.entry);
      if (!step.bind) continue;
      steps_.push_back(step.bind(memory));
      entry_of_step_.push_back(plan_.entries.size() - 1);
    }
    plan_.arena_bytes = arena.bytes;
    inputs_ = assembly.inputs;
    outputs_ = assembly.outputs;
    for (ValueId out : graph_.outputs)
      dynamic_outputs_.push_back(assembly.is_dynamic(out) ? assembly.dynamic(out) : nullptr);
    keep_ = assembly.keep;
  }

  Graph graph_;
  int threads_;
  std::vector<Run> steps_;
  std::vector<std::size_t> entry_of_step_;  // in the plan, where entries that need not run are listed too
  Tensor arena_;
  std::vector<Tensor> inputs_, outputs_, keep_;
  std::vector<std::shared_ptr<Tensor>> dynamic_outputs_;
  Plan plan_;
};

}  // namespace

std::unique_ptr<Program> compile_program(const Graph& graph, Store& store, int threads) {
  try {
    return std::make_unique<OneDnnProgram>(graph, store, threads);
  } catch (const dnnl::error& e) {
    throw_failure("oneDNN to make every primitive it offers", e.what(), "try --executor reference");
  }
}

}  // namespace halfstep::onednn
