#include "training/step_program.h"

#include <cmath>
#include <cstring>

#include "passes/step/training_step.h"
#include <halfstep/base/error.h>

namespace halfstep {
namespace {

void fill(Tensor& to, const Tensor& from) {
  if (to.bytes() != from.bytes())
    throw_failure("a batch of " + to.shape().to_string(), from.shape().to_string(),
                  "compile a program for this batch size");
  if (from.bytes() > 0) std::memcpy(to.raw(), from.raw(), from.bytes());
}

// Host memory of an input; none where there is no such input.
Tensor input_of(Program& program, const Graph& graph, ValueId id) {
  const auto place = place_of(id, graph.inputs);
  return place ? program.input(*place) : Tensor();
}

bool all_finite(const Tensor& tensor) {
  if (!is_float(tensor.dtype())) return true;
  for (double v : to_doubles(tensor))
    if (!std::isfinite(v)) return false;
  return true;
}

}  // namespace

StepProgram::StepProgram(const Graph& graph, Executor& executor, StateStore& store)
    : program_(executor.compile(graph, store)) {
  const TrainingStep step(graph);
  for (const ValueId in : step.data) x_.push_back(input_of(*program_, graph, in));
  y_ = input_of(*program_, graph, step.labels);
  learning_rate_ = input_of(*program_, graph, step.learning_rate);
  update_ = input_of(*program_, graph, step.update);
  loss_ = place_of(step.loss, graph.outputs).value();
  prediction_ = place_of(step.prediction, graph.outputs);
  norm_ = place_of(step.gradient_norm, graph.outputs);
  finite_ = place_of(step.gradients_finite, graph.outputs);
  scale_ = place_of(step.loss_scale, graph.outputs);
  for (const TrainingStep::Parameter& parameter : step.parameters) {
    const auto norm = place_of(parameter.gradient_norm, graph.outputs);
    if (!norm) continue;
    norm_outputs_.push_back(*norm);
    norms_.emplace_back(graph[parameter.value].name, 0.0f);
  }
}

void StepProgram::run(const Batch& batch, float learning_rate, bool update) {
  for (std::size_t i = 0; i < x_.size(); ++i) fill(x_[i], batch.x[i]);
  if (y_.is_defined()) fill(y_, batch.y);
  if (learning_rate_.is_defined()) *learning_rate_.data<float>() = learning_rate;
  if (update_.is_defined()) *update_.data<bool>() = update;
  program_->run();
}

float StepProgram::scalar(std::size_t output) const {
  const Tensor value = program_->output(output);
  return value.dtype() == DType::f32 ? *value.data<float>() : static_cast<float>(to_doubles(value)[0]);
}

const std::vector<std::pair<std::string, float>>& StepProgram::parameter_norms() {
  for (std::size_t i = 0; i < norms_.size(); ++i) norms_[i].second = scalar(norm_outputs_[i]);
  return norms_;
}

std::string first_non_finite_node(const Graph& graph, const StateStore& states, const Batch& batch) {
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
  const TrainingStep step(graph);
  const auto feed = [&](ValueId id, const Tensor& from) {
    Tensor to = input_of(*program, graph, id);
    fill(to, from);
  };
  for (std::size_t i = 0; i < batch.x.size(); ++i) feed(step.data[i], batch.x[i]);
  if (step.labels != kNoValue) feed(step.labels, batch.y);
  program->run();
  for (std::size_t i = 0; i < names.size(); ++i)
    if (!all_finite(program->output(first + i))) return names[i];
  return "none on the reference executor";
}

}  // namespace halfstep
