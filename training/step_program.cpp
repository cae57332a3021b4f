#include "training/step_program.h"

#include <algorithm>
#include <cmath>

#include <fmt/format.h>

#include "graph/crc.h"
#include "ops/collective/all_reduce.h"
#include "passes/step/step_values.h"
#include "session/tensor_types.h"

namespace halfstep {
namespace {

// Host memory of an input; none where there is no such input.
Tensor input_of(Program& program, const Graph& graph, ValueId id) {
  const auto place = place_of(id, graph.inputs);
  return place ? program.input(*place) : Tensor();
}

/// Over the names of gradients, and the sizes of what has none.
std::uint32_t order_of_reductions(const Graph& graph) {
  std::string text;
  for (const Node& node : graph.nodes) {
    if (!starts_all_reduce(node)) continue;
    text += fmt::format("{}:", graph[node.outputs[0]].shape.count());
    if (const Attribute* names = node.attributes.find("parameters"))
      for (const std::string& name : std::get<std::vector<std::string>>(*names)) text += name + ",";
  }
  return crc_of(text);
}

/// Whether inputs would be given ahead that are no columns of a batch: what they are is not known before their step.
bool takes_others_ahead(const OverlappedProgram& program, const Graph& graph, const StepValues& step) {
  for (std::size_t i = 0; i < graph.inputs.size(); ++i) {
    const auto has_it = [&](const std::vector<ValueId>& ids) {
      return std::ranges::find(ids, graph.inputs[i]) != ids.end();
    };
    if (program.takes_ahead(i) && !has_it(step.data) && !has_it(step.labels) && !has_it(step.sample_weights))
      return true;
  }
  return false;
}

bool all_finite(const Tensor& tensor) {
  if (!is_float(tensor.dtype())) return true;
  for (double v : to_doubles(tensor))
    if (!std::isfinite(v)) return false;
  return true;
}

}  // namespace

StepProgram::StepProgram(const Graph& graph, Executor& executor, StateStore& store)
    : program_(executor.compile(graph, store)), order_(order_of_reductions(graph)), overlapped_(overlapped(*program_)) {
  const StepValues step(graph);
  if (overlapped_ && takes_others_ahead(*overlapped_, graph, step)) overlapped_ = nullptr;
  const auto inputs = [&](const std::vector<ValueId>& ids) {
    std::vector<Fed> fed;
    for (const ValueId id : ids) {
      const std::size_t input = place_of(id, graph.inputs).value();
      fed.push_back({input, program_->input(input), overlapped_ && overlapped_->takes_ahead(input)});
    }
    return fed;
  };
  const auto outputs = [&](const std::vector<ValueId>& ids) {
    std::vector<std::size_t> places;
    for (const ValueId id : ids) places.push_back(place_of(id, graph.outputs).value());
    return places;
  };
  x_ = inputs(step.data);
  labels_ = inputs(step.labels);
  sample_weights_ = inputs(step.sample_weights);
  learning_rate_ = input_of(*program_, graph, step.learning_rate);
  update_ = input_of(*program_, graph, step.update);
  loss_weight_ = input_of(*program_, graph, step.loss_weight);
  first_ = input_of(*program_, graph, step.first);
  loss_shares_ = input_of(*program_, graph, step.loss_shares);
  loss_ = place_of(step.loss, graph.outputs);
  terms_ = outputs(step.terms);
  predictions_ = outputs(step.predictions);
  outputs_ = outputs(step.loss == kNoValue ? graph.outputs : step.outputs);  // without a loss all are the model's
  norm_ = place_of(step.gradient_norm, graph.outputs);
  finite_ = place_of(step.gradients_finite, graph.outputs);
  scale_ = place_of(step.loss_scale, graph.outputs);
  for (const StepValues::Parameter& parameter : step.parameters) {
    const auto norm = place_of(parameter.gradient_norm, graph.outputs);
    if (!norm) continue;
    norm_outputs_.push_back(*norm);
    norms_.emplace_back(graph[parameter.value].name, 0.0f);
  }
}

template <class F>
void StepProgram::each_column(const StepFeed& feed, const F& f) {
  for (std::size_t i = 0; i < x_.size(); ++i) f(x_[i], feed.x[i]);
  for (std::size_t i = 0; i < labels_.size(); ++i) f(labels_[i], feed.labels[i]);
  for (std::size_t i = 0; i < sample_weights_.size(); ++i) f(sample_weights_[i], feed.sample_weights[i]);
}

void StepProgram::run(const StepFeed& feed) {
  given_.reset();
  fill(feed, false);
  program_->run();
}

void StepProgram::run(const Batch& batch, float learning_rate, bool update, std::span<const float> loss_shares,
                      BatchReader* reader) {
  const StepFeed feed{.x = batch.x,
                      .labels = batch.labels,
                      .sample_weights = batch.sample_weights,
                      .learning_rate = learning_rate,
                      .update = update,
                      .loss_shares = loss_shares};
  if (!overlapped_ || !reader) return run(feed);
  const bool is_given = given_ && *given_ == std::pair(&batch, batch.at);
  given_.reset();
  fill(feed, is_given);
  overlapped_->start(is_given);
  if (const Batch* next = reader->ahead(); next && next->rows == batch.rows) give_ahead(*next);
  overlapped_->finish();
}

void StepProgram::give_ahead(const Batch& batch) {
  each_column({.x = batch.x, .labels = batch.labels, .sample_weights = batch.sample_weights},
              [&](const Fed& fed, const Tensor& rows) {
                if (!fed.is_ahead) return;
                Tensor memory = overlapped_->ahead(fed.input);
                copy_into(memory, rows);
              });
  overlapped_->give_ahead();
  given_ = {&batch, batch.at};
}

void StepProgram::fill(const StepFeed& feed, bool is_given) {
  each_column(feed, [&](Fed& fed, const Tensor& rows) {
    if (!is_given || !fed.is_ahead) copy_into(fed.memory, rows);
  });
  if (learning_rate_.is_defined()) *learning_rate_.data<float>() = feed.learning_rate;
  if (update_.is_defined()) *update_.data<bool>() = feed.update;
  if (loss_weight_.is_defined()) *loss_weight_.data<float>() = feed.loss_weight;
  if (first_.is_defined()) *first_.data<bool>() = feed.first;
  if (loss_shares_.is_defined())
    for (std::size_t i = 0; i < loss_shares_.span<float>().size(); ++i)
      loss_shares_.span<float>()[i] = feed.loss_shares.empty() ? 1.0f : feed.loss_shares[i];
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
  const StepValues step(graph);
  const auto feed = [&](ValueId id, const Tensor& from) {
    Tensor to = input_of(*program, graph, id);
    copy_into(to, from);
  };
  for (std::size_t i = 0; i < batch.x.size(); ++i) feed(step.data[i], batch.x[i]);
  for (std::size_t i = 0; i < step.labels.size(); ++i) feed(step.labels[i], batch.labels[i]);
  for (std::size_t i = 0; i < step.sample_weights.size(); ++i) feed(step.sample_weights[i], batch.sample_weights[i]);
  if (Tensor shares = input_of(*program, graph, step.loss_shares); shares.is_defined())
    std::ranges::fill(shares.span<float>(), 1.0f);
  program->run();
  for (std::size_t i = 0; i < names.size(); ++i)
    if (!all_finite(program->output(first + i))) return names[i];
  return "none on the reference executor";
}

}  // namespace halfstep
