#include <algorithm>
#include <cmath>
#include <numeric>

#include <fmt/format.h>

#include "base/row_named.h"
#include <halfstep/base/error.h>
#include <halfstep/ops/optimizers/optimizer_def.h>

namespace halfstep {

Hyperparameters::Hyperparameters(const OptimizerDef& row) : row_(&row) {
  for (const Hyperparameter& h : row.hyperparameters) values_.push_back(h.fallback);
}

Hyperparameters::Hyperparameters(const OptimizerDef& row, const Attributes& attributes) : row_(&row) {
  for (const Hyperparameter& h : row.hyperparameters)
    values_.push_back(h.is_switch ? attributes.get_int(h.name, h.fallback != 0)
                                  : attributes.get_float(h.name, static_cast<float>(h.fallback)));
}

Attributes Hyperparameters::attributes() const {
  Attributes result;
  for (std::size_t i = 0; i < values_.size(); ++i) {
    const Hyperparameter& h = row_->hyperparameters[i];
    if (h.is_switch)
      result.set(h.name, std::int64_t{values_[i] != 0});
    else
      result.set(h.name, static_cast<float>(values_[i]));
  }
  return result;
}

std::size_t Hyperparameters::index_of(std::string_view name) const {
  const Hyperparameter* found = row_->find(name);
  if (!found)
    throw_failure(fmt::format("a hyperparameter of {}", row_->name), std::string(name), "this is a defect of its row");
  return static_cast<std::size_t>(found - row_->hyperparameters.data());
}

const Hyperparameter* OptimizerDef::find(std::string_view hyperparameter) const {
  const auto found = std::ranges::find(hyperparameters, hyperparameter, &Hyperparameter::name);
  return found == hyperparameters.end() ? nullptr : &*found;
}

const OptimizerDef& optimizer_named(std::string_view name) {
  return row_named(optimizers(), name, "an optimizer: ", "check --optimizer");
}

const OptimizerDef* optimizer_of(const Node& node) {
  if (node.domain != kOwnDomain) return nullptr;
  const auto found = std::ranges::find(optimizers(), node.op, &OptimizerDef::op);
  return found == optimizers().end() ? nullptr : &*found;
}

SlotPlaces slot_places(const OptimizerDef& row, const Hyperparameters& h, std::span<const Shape> parameters) {
  SlotPlaces places(parameters.size(), std::vector<std::optional<std::size_t>>(row.slots.size()));
  std::size_t next = 0;
  for (std::size_t slot = 0; slot < row.slots.size(); ++slot)
    for (std::size_t i = 0; i < parameters.size(); ++i)
      if (row.slots[slot].shape(h, parameters[i])) places[i][slot] = next++;
  return places;
}

Expr ParameterUpdate::norm(Expr x) {
  std::vector<std::int64_t> axes(x.rank());
  std::iota(axes.begin(), axes.end(), 0);
  return axes.empty() ? b.op("Abs", {x}) : sqrt(b.reduce_sum(x * x, axes, false));
}

Expr ParameterUpdate::one_minus_power(double decay) {
  if (decay == 0) return b.scalar(1, step.dtype());
  // With decay^step = exp(-2 x) it is tanh(x) (1 + exp(-2 x)): no cancellation if decay is near 1.
  const Expr x = step * (-0.5 * std::log(decay));
  return b.op("Tanh", {x}) * (b.op("Exp", {x * -2.0}) + 1.0);
}

void ParameterUpdate::decay_gradient() {
  if (h["weight_decay"] != 0) gradient = gradient + parameter * h["weight_decay"];
}

void ParameterUpdate::decay_parameter() {
  if (h["weight_decay"] != 0) parameter = parameter * (1.0 - lr * h["weight_decay"]);
}

ParameterUpdate update_parameter(const OptimizerDef& row, const Hyperparameters& h, Expr lr, Expr step,
                                 Expr grad_factor, Expr parameter, Expr gradient, std::vector<Expr> slots) {
  Builder& b = parameter.builder();
  const DType dtype = parameter.dtype();
  ParameterUpdate update{.b = b,
                         .h = h,
                         .lr = b.cast(lr, dtype),
                         .step = b.cast(step, dtype),
                         .parameter = parameter,
                         .gradient = gradient * b.cast(grad_factor, dtype),
                         .slots = std::move(slots)};
  row.update(update);
  return update;
}

}  // namespace halfstep
