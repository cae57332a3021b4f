// The definition of right: every node by its reference kernel, one after another, each value in memory of its own.
#include <cstring>

#include <fmt/format.h>

#include "executors/executor.h"
#include "executors/plan/memory.h"
#include "executors/store.h"
#include "graph/error.h"
#include "graph/machine_memory.h"
#include "ops/infer.h"
#include "ops/op_def.h"

namespace halfstep {
namespace {

class ReferenceProgram final : public Program {
 public:
  ReferenceProgram(const Graph& graph, HostStore& store) : graph_(graph) {
    values_.resize(graph.values.size());
    std::string missing;
    for (const Node& node : graph_.nodes) {
      const OpDef* row = find_op(node.op, node.domain);
      if (!row || !row->reference) {
        missing += fmt::format("{}{} '{}'", missing.empty() ? "" : ", ", node.op, node.name);
        continue;
      }
      kernels_.push_back(row->reference);
      plan_.entries.push_back(
          {node.name, node.domain.empty() ? node.op : node.domain + "." + node.op, "reference", "", 0});
    }
    if (!missing.empty())
      throw_input_error("operators that have a reference kernel", missing, "see the table of operators");

    check_step_fits(graph_, ValueMemory::separate);
    for (std::size_t i = 0; i < graph_.values.size(); ++i)
      if (graph_.values[i].is_constant()) values_[i] = graph_.values[i].constant;
    for (ValueId in : graph_.inputs) at(in) = allocate(in);
    for (const State& state : graph_.states) {
      at(state.value) = store.bind(graph_[state.value].name, state.initial);
      plan_.state_bytes += at(state.value).bytes();
    }
    for (const Node& node : graph_.nodes) {
      for (ValueId out : node.outputs)
        if (out != kNoValue && graph_[out].shape.is_static() && graph_[out].dtype != DType::undefined)
          at(out) = allocate(out);
    }
    for (ValueId out : graph_.outputs) state_outputs_.push_back(graph_.state_of(out) < 0 ? Tensor() : allocate(out));
    for (const Tensor& t : values_) plan_.arena_bytes += t.bytes();
  }

  Tensor input(std::size_t i) override { return at(graph_.inputs.at(i)); }
  Tensor output(std::size_t i) override {
    return state_outputs_.at(i).is_defined() ? state_outputs_[i] : at(graph_.outputs[i]);
  }
  const Plan& plan() const override { return plan_; }

  void run() override {
    std::vector<Tensor> in, out;
    for (std::size_t i = 0; i < graph_.nodes.size(); ++i) {
      const Node& node = graph_.nodes[i];
      in.clear();
      out.clear();
      for (ValueId id : node.inputs) in.push_back(id == kNoValue ? Tensor() : at(id));
      for (ValueId id : node.outputs) {
        out.push_back(id == kNoValue ? Tensor() : at(id));
        // Kernels may rely on zeros, as on a fresh allocation.
        if (id != kNoValue && out.back().is_defined() && out.back().dtype() != DType::string)
          std::memset(out.back().raw(), 0, out.back().bytes());
      }
      KernelCall call{node, in, out};
      kernels_[i](call);
      for (std::size_t k = 0; k < out.size(); ++k) {
        if (node.outputs[k] == kNoValue) continue;
        const Value& value = graph_[node.outputs[k]];
        if (value.shape.is_static() && value.dtype != DType::undefined)
          check_inferred(out[k], value.dtype, value.shape);
        at(node.outputs[k]) = out[k];
      }
    }
    for (std::size_t i = 0; i < state_outputs_.size(); ++i)
      if (state_outputs_[i].bytes() > 0)
        std::memcpy(state_outputs_[i].raw(), at(graph_.outputs[i]).raw(), state_outputs_[i].bytes());
    // Copy all before moving any: a state's next may be another state's value.
    next_.clear();
    for (const State& state : graph_.states)
      next_.push_back(state.next == kNoValue ? Tensor() : at(state.next).clone());
    for (std::size_t i = 0; i < next_.size(); ++i)
      if (next_[i].is_defined() && next_[i].bytes() > 0)
        std::memcpy(at(graph_.states[i].value).raw(), next_[i].raw(), next_[i].bytes());
  }

 private:
  Tensor& at(ValueId id) { return values_[static_cast<std::size_t>(id)]; }
  Tensor allocate(ValueId id) const {
    const Value& value = graph_[id];
    if (!value.shape.is_static())
      throw_input_error("static shapes at compile", "'" + value.name + "' of shape " + value.shape.to_string(),
                        "bind the input shapes first");
    return Tensor(value.dtype, value.shape);
  }

  Graph graph_;
  std::vector<Tensor> values_, next_;
  std::vector<Tensor> state_outputs_;  // of outputs that are states: what they held before the states moved
  std::vector<ReferenceKernel> kernels_;
  Plan plan_;
};

class ReferenceExecutor final : public Executor {
 public:
  ReferenceExecutor() {
    capabilities_.device = "reference (one CPU thread)";
    capabilities_.memory = machine_memory();
    capabilities_.auto_precision = DType::f32;
    capabilities_.auto_reason =
        "the reference executor computes in f64 whatever the storage: a half type gains nothing";
  }
  std::string_view name() const override { return "reference"; }
  const Capabilities& capabilities() const override { return capabilities_; }
  std::unique_ptr<StateStore> make_store() override { return std::make_unique<HostStore>(); }
  std::unique_ptr<Program> compile(const Graph& graph, StateStore& store) override {
    auto* host = dynamic_cast<HostStore*>(&store);
    if (!host)
      throw_input_error("a store made by the reference executor", "another executor's", "use Executor::make_store");
    return std::make_unique<ReferenceProgram>(graph, *host);
  }

 private:
  Capabilities capabilities_;
};

}  // namespace

std::unique_ptr<Executor> make_reference_executor(const ExecutorOptions&) {
  return std::make_unique<ReferenceExecutor>();
}

}  // namespace halfstep
