#include "training/batch_fit.h"

#include <algorithm>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "session/tensor_types.h"
#include <halfstep/base/error.h>

namespace halfstep {
namespace {

void add_once(std::vector<std::string>& names, const std::string& name) {
  if (!name.empty() && std::ranges::find(names, name) == names.end()) names.push_back(name);
}

bool all_like(const std::vector<Tensor>& a, const std::vector<Tensor>& b) {
  return std::ranges::equal(a, b, [](const Tensor& one, const Tensor& other) {
    return one.dtype() == other.dtype() && one.shape() == other.shape();
  });
}

const Tensor& named(const NamedTensors& batch, const std::string& name, std::string_view what) {
  const auto at = batch.find(name);
  if (at == batch.end() || !at->second.is_defined())
    throw_input_error(fmt::format("{} '{}' in the batch", what, name), "none",
                      "give them by that name, or set the name in the options of the loss");
  return at->second;
}

std::string names_in(const NamedTensors& batch) {
  std::string names;
  for (const auto& [name, tensor] : batch) names += (names.empty() ? "'" : ", '") + name + "'";
  return names.empty() ? "nothing" : names;
}

}  // namespace

std::optional<std::size_t> place_in(const std::vector<std::string>& names, const std::string& name) {
  const auto at = std::ranges::find(names, name);
  return at == names.end() ? std::nullopt : std::optional(static_cast<std::size_t>(at - names.begin()));
}

Tensor as_labels(const Tensor& tensor, const std::string& name) {
  return as_type(tensor, is_float(tensor.dtype()) ? DType::f32 : DType::i64, name);
}

bool FittedBatch::is_like(const FittedBatch& other) const {
  return all_like(x, other.x) && all_like(labels, other.labels) && all_like(sample_weights, other.sample_weights) &&
         label_names == other.label_names;
}

LossInputs::LossInputs(const LossOptions& loss) : any(loss.function.write != nullptr) {
  if (any) return;
  for (const LossTerm& term : loss.terms) {
    if (loss_named(term.loss).formula) add_once(labels, term.labels);
    add_once(sample_weights, term.sample_weights);
  }
}

std::vector<Tensor> fit_inputs(const NamedTensors& batch, const std::vector<TensorInfo>& inputs) {
  std::vector<Tensor> x;
  for (const TensorInfo& input : inputs) {
    if (!batch.contains(input.name))
      throw_input_error(
          fmt::format("the model's input '{}', {}{}", input.name, name_of(input.dtype), input.shape.to_string()),
          "a batch with " + names_in(batch), "give it by its name");
    x.push_back(fitted(batch, input));
  }
  return x;
}

FittedBatch fit_batch(const NamedTensors& batch, const std::vector<TensorInfo>& inputs, const LossInputs& wanted) {
  FittedBatch result;
  result.x = fit_inputs(batch, inputs);
  const auto is_input = [&](const std::string& name) {
    return std::ranges::find(inputs, name, &TensorInfo::name) != inputs.end();
  };
  if (wanted.any) {
    for (const auto& [name, tensor] : batch) {
      if (is_input(name)) continue;
      result.label_names.push_back(name);
      result.labels.push_back(as_labels(tensor, name));
    }
    return result;
  }
  for (const std::string& name : wanted.labels) result.labels.push_back(as_labels(named(batch, name, "labels"), name));
  for (const std::string& name : wanted.sample_weights)
    result.sample_weights.push_back(as_type(named(batch, name, "sample weights"), DType::f32, name));
  for (const auto& [name, tensor] : batch)
    if (!is_input(name) && !place_in(wanted.labels, name) && !place_in(wanted.sample_weights, name))
      throw_input_error(fmt::format("only inputs of the model and of its loss{}{}", wanted.labels.empty() ? "" : ": ",
                                    fmt::join(wanted.labels, ", ")),
                        fmt::format("'{}'", name), "leave it out, or set its name in the options of the loss");
  return result;
}

LossOptions with_types(LossOptions loss, const FittedBatch& batch) {
  if (loss.function.write) {
    loss.function.labels.clear();
    for (std::size_t i = 0; i < batch.labels.size(); ++i)
      loss.function.labels.push_back({batch.label_names[i], batch.labels[i].dtype(), batch.labels[i].shape()});
    return loss;
  }
  const LossInputs names(loss);
  for (LossTerm& term : loss.terms) {
    if (const auto i = place_in(names.labels, term.labels)) {
      term.label_dtype = batch.labels[*i].dtype();
      term.label_shape = batch.labels[*i].shape();
    }
    if (const auto i = place_in(names.sample_weights, term.sample_weights))
      term.sample_weight_shape = batch.sample_weights[*i].shape();
  }
  return loss;
}

}  // namespace halfstep
