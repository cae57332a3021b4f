#include "training/default_loss.h"

#include <algorithm>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "training/batch_fit.h"
#include "training/defaults.h"
#include <halfstep/base/error.h>
#include <halfstep/formats/data_array.h>
#include <halfstep/passes/passes.h>

namespace halfstep {
namespace {

/// The model with the shapes of a batch.
Graph bound_to(const PreparedModel& model, const std::vector<TensorInfo>& inputs, const NamedTensors& batch) {
  const std::vector<Tensor> x = fit_inputs(batch, inputs);
  InputShapes shapes;
  for (std::size_t i = 0; i < inputs.size(); ++i) shapes.by_name[inputs[i].name] = x[i].shape();
  return model.bound(std::move(shapes));
}

ValueId output_of(const Graph& bound, const std::string& name) {
  const ValueId id = name.empty() ? bound.outputs.at(0) : bound.find(name);
  if (id == kNoValue || !bound[id].shape.is_static())
    throw_input_error("a model output of static shape to compute the loss from",
                      name.empty() ? bound[id].shape.to_string() : fmt::format("'{}'", name),
                      "name an output of the model");
  return id;
}

LossChoice choice_for(const Graph& bound, const std::vector<TensorInfo>& inputs, const NamedTensors& batch,
                      const std::string& labels, const std::string& output, const LossRequest& request) {
  const Dataset data(DataArray::of(batch.at(inputs.at(0).name), inputs[0].name),
                     DataArray::of(batch.at(labels), labels));
  return choose_loss(bound, output_of(bound, output), data, request);
}

TermReading reading_of(const Graph& bound, const LossChoice& choice, const std::string& output) {
  const Shape& shape = bound[output_of(bound, output)].shape;
  const std::size_t axis = choice.reading.class_axis;
  return {choice.row, choice.reading, axis < shape.rank() ? shape[axis] : 1};
}

}  // namespace

DefaultLoss default_loss(const PreparedModel& model, const std::vector<TensorInfo>& inputs, const NamedTensors& batch) {
  std::vector<std::string> labels;
  for (const auto& [name, tensor] : batch)
    if (std::ranges::find(inputs, name, &TensorInfo::name) == inputs.end()) labels.push_back(name);
  if (labels.size() != 1 || !batch.at(labels[0]).is_defined())
    throw_input_error("labels beside the inputs, one tensor, to choose a loss by",
                      labels.empty() ? "none" : fmt::format("{}", fmt::join(labels, ", ")),
                      "say what the loss is: TrainingStepOptions::loss");
  const Graph bound = bound_to(model, inputs, batch);
  const LossChoice choice = choice_for(bound, inputs, batch, labels[0], "", {.is_sample = true});
  LossTerm term{.loss = std::string(choice.row->name)};
  term.labels = labels[0];
  term.class_axis = static_cast<std::int64_t>(choice.reading.class_axis);
  term.ignore_label = choice.reading.ignored;
  return {{.terms = {std::move(term)}, .function = {}}, reading_of(bound, choice, ""), choice.notices};
}

std::vector<TermReading> read_terms(const PreparedModel& model, const std::vector<TensorInfo>& inputs,
                                    const NamedTensors& batch, const LossOptions& loss,
                                    std::vector<std::string>& notices) {
  std::vector<TermReading> readings;
  if (loss.function.write) return readings;
  const Graph bound = bound_to(model, inputs, batch);
  for (const LossTerm& term : loss.terms) {
    readings.emplace_back();
    if (!loss_named(term.loss).formula) continue;
    LossRequest request{
        .loss = term.loss, .class_axis = term.class_axis, .metrics = std::vector<Metric>(), .is_sample = true};
    if (term.ignore_label) request.ignore_label = *term.ignore_label;
    LossChoice choice = choice_for(bound, inputs, batch, term.labels, term.output, request);
    // The step leaves out what the term says.
    if (!term.ignore_label && choice.reading.form != LabelReading::Form::classes) choice.reading.ignored.reset();
    readings.back() = reading_of(bound, choice, term.output);
    notices.insert(notices.end(), choice.notices.begin(), choice.notices.end());
  }
  return readings;
}

}  // namespace halfstep
