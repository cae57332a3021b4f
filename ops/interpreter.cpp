#include "ops/interpreter.h"

#include <fmt/format.h>

#include "graph/value_map.h"
#include <halfstep/base/error.h>

namespace halfstep {

Interpreter::Interpreter(const Graph& graph) : graph_(graph), values_(graph.values.size()) {
  std::string missing;
  for (const Node& node : graph_.nodes) {
    const OpDef* row = find_op(node.op, node.domain);
    if (!row || !row->reference) missing += fmt::format("{}{} '{}'", missing.empty() ? "" : ", ", node.op, node.name);
    steps_.push_back({&node, row ? row->reference : nullptr, {}});
  }
  if (!missing.empty())
    throw_input_error("operators that have a reference kernel", missing, "see the table of operators");

  ValueMap<bool> read_later(graph_, false);
  for (ValueId out : graph_.outputs) read_later[out] = true;
  for (std::size_t i = 0; i < values_.size(); ++i)
    if (graph_.values[i].is_constant()) {
      values_[i] = graph_.values[i].constant;
      read_later[static_cast<ValueId>(i)] = true;
    }
  for (std::size_t s = steps_.size(); s-- > 0;) {
    for (const auto* ids : {&steps_[s].node->inputs, &steps_[s].node->outputs})
      for (ValueId id : *ids) {
        if (id == kNoValue || read_later[id]) continue;
        read_later[id] = true;
        steps_[s].last_reads.push_back(id);
      }
  }
}

std::vector<Tensor> Interpreter::run(std::span<const Tensor> inputs, std::span<const Tensor> captures) {
  for (std::size_t i = 0; i < graph_.inputs.size(); ++i) at(graph_.inputs[i]) = inputs[i];
  for (std::size_t i = 0; i < graph_.captures.size(); ++i)
    if (graph_.captures[i] != kNoValue) at(graph_.captures[i]) = captures[i];
  std::vector<Tensor> in, out;
  for (const Step& step : steps_) {
    in.clear();
    for (ValueId id : step.node->inputs) in.push_back(id == kNoValue ? Tensor() : at(id));
    out.assign(step.node->outputs.size(), Tensor());
    KernelCall call{*step.node, in, out};
    step.kernel(call);
    for (std::size_t k = 0; k < out.size(); ++k)
      if (step.node->outputs[k] != kNoValue) at(step.node->outputs[k]) = out[k];
    for (ValueId id : step.last_reads) at(id) = Tensor();
  }
  std::vector<Tensor> results;
  for (ValueId id : graph_.outputs) results.push_back(at(id));
  for (std::size_t i = 0; i < values_.size(); ++i)
    if (!graph_.values[i].is_constant()) values_[i] = Tensor();
  return results;
}

}  // namespace halfstep
