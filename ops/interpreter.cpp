#include "ops/interpreter.h"

#include <fmt/format.h>

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

  ValueMap<bool> read_later(values_.size(), false);
  for (ValueId out : graph_.outputs) read_later[out] = true;
  for (const ValueId id : values_.ids())
    if (graph_[id].is_constant()) {
      values_[id] = graph_[id].constant;
      read_later[id] = true;
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
  for (std::size_t i = 0; i < graph_.inputs.size(); ++i) values_[graph_.inputs[i]] = inputs[i];
  for (std::size_t i = 0; i < graph_.captures.size(); ++i)
    if (graph_.captures[i] != kNoValue) values_[graph_.captures[i]] = captures[i];
  std::vector<Tensor> in, out;
  for (const Step& step : steps_) {
    in.clear();
    for (ValueId id : step.node->inputs) in.push_back(id == kNoValue ? Tensor() : values_[id]);
    out.assign(step.node->outputs.size(), Tensor());
    KernelCall call{*step.node, in, out};
    step.kernel(call);
    for (std::size_t k = 0; k < out.size(); ++k)
      if (step.node->outputs[k] != kNoValue) values_[step.node->outputs[k]] = out[k];
    for (ValueId id : step.last_reads) values_[id] = Tensor();
  }
  std::vector<Tensor> results;
  for (ValueId id : graph_.outputs) results.push_back(values_[id]);
  for (const ValueId id : values_.ids())
    if (!graph_[id].is_constant()) values_[id] = Tensor();
  return results;
}

}  // namespace halfstep
