#include "training/step_program.h"

#include <cmath>
#include <cstring>

#include "graph/error.h"

namespace halfstep {
namespace {

std::ptrdiff_t index_of(const Graph& graph, const std::vector<ValueId>& ids, std::string_view name) {
  for (std::size_t i = 0; i < ids.size(); ++i)
    if (graph[ids[i]].name == name) return static_cast<std::ptrdiff_t>(i);
  return -1;
}

void fill(Tensor to, const Tensor& from) {
  if (to.bytes() != from.bytes())
    throw_failure("a batch of " + to.shape().to_string(), from.shape().to_string(),
                  "compile a program for this batch size");
  if (from.bytes() > 0) std::memcpy(to.raw(), from.raw(), from.bytes());
}

constexpr std::string_view kNormPrefix = "grad_norm.";

bool all_finite(const Tensor& tensor) {
  if (!is_float(tensor.dtype())) return true;
  for (double v : to_doubles(tensor))
    if (!std::isfinite(v)) return false;
  return true;
}

}  // namespace

StepProgram::StepProgram(const Graph& graph, Executor& executor, StateStore& store, std::size_t data_inputs,
                         std::optional<std::size_t> labels_at)
    : program_(executor.compile(graph, store)) {
  const std::size_t rate = data_inputs + labels_at.has_value(), update = rate + 1;
  for (std::size_t i = 0; i < rate; ++i) (i == labels_at ? y_ : x_.emplace_back()) = program_->input(i);
  if (rate < graph.inputs.size()) learning_rate_ = program_->input(rate);
  if (update < graph.inputs.size()) update_ = program_->input(update);
  norm_ = index_of(graph, graph.outputs, "grad_norm");
  finite_ = index_of(graph, graph.outputs, "grads_finite");
  scale_ = index_of(graph, graph.outputs, "loss_scale");
  has_prediction_ = graph.outputs.size() > 1 && norm_ != 1;
  for (auto i = static_cast<std::size_t>(norm_ + 1); i < graph.outputs.size(); ++i) {
    const std::string& name = graph[graph.outputs[i]].name;
    if (!name.starts_with(kNormPrefix)) continue;
    norm_outputs_.push_back(static_cast<std::ptrdiff_t>(i));
    norms_.emplace_back(name.substr(kNormPrefix.size()), 0.0f);
  }
}

void StepProgram::run(const Batch& batch, float learning_rate, bool update) {
  for (std::size_t i = 0; i < x_.size(); ++i) fill(x_[i], batch.x[i]);
  if (y_.is_defined()) fill(y_, batch.y);
  if (learning_rate_.is_defined()) *learning_rate_.data<float>() = learning_rate;
  if (update_.is_defined()) *update_.data<bool>() = update;
  program_->run();
}

float StepProgram::scalar(std::ptrdiff_t output) const {
  const Tensor value = program_->output(static_cast<std::size_t>(output));
  return value.dtype() == DType::f32 ? *value.data<float>() : static_cast<float>(to_doubles(value)[0]);
}

const std::vector<std::pair<std::string, float>>& StepProgram::parameter_norms() {
  for (std::size_t i = 0; i < norms_.size(); ++i) norms_[i].second = scalar(norm_outputs_[i]);
  return norms_;
}

std::string first_non_finite_node(const Graph& graph, const StateStore& states, const Batch& batch,
                                  std::optional<std::size_t> labels_at) {
  Graph watched = graph;
  const std::size_t first = watched.outputs.size();
  std::vector<std::string> names;
  for (const Node& node : watched.nodes) {
    for (ValueId out : node.outputs) {
      if (out == kNoValue) continue;
      watched.outputs.push_back(out);
      names.push_back(node.op + " '" + node.name + "'");
    }
  }
  const auto executor = make_reference_executor();
  const auto store = executor->make_store();
  const auto program = executor->compile(watched, *store);
  for (const std::string& name : store->names()) {
    const Tensor now = states.read(name);
    if (!all_finite(now)) return "state '" + name + "'";
    store->write(name, now);
  }
  for (std::size_t i = 0, x = 0; i < batch.x.size() + labels_at.has_value(); ++i)
    fill(program->input(i), i == labels_at ? batch.y : batch.x[x++]);
  program->run();
  for (std::size_t i = 0; i < names.size(); ++i)
    if (!all_finite(program->output(first + i))) return names[i];
  return "none on the reference executor";
}

}  // namespace halfstep
