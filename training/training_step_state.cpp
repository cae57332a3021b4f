// The states of a TrainingStep.
#include <utility>

#include <fmt/format.h>

#include "session/tensor_types.h"
#include "training/flat_tensors.h"
#include "training/training_step_impl.h"
#include <halfstep/base/error.h>

namespace halfstep {
namespace {

/// In TrainingStep::state(): how many batches' gradients wait for an update.
constexpr const char* kWaiting = "gradients.count";

std::string sum_of(const std::string& parameter) { return std::string(kAccumulatorPrefix) + parameter; }

}  // namespace

void TrainingStep::Impl::share_statistics() {
  if (Communicator* ranks = ranks_->communicator()) states_.share_statistics(*ranks);
}

NamedTensors TrainingStep::Impl::gradients() const {
  require_gradients("gradients to read");
  NamedTensors result;
  const double scale = loss_scale();
  for (const auto& [parameter, state] : sums_.states()) {
    Tensor gradient = states_.read(state);
    if (scale != 1) scale_by(gradient, 1 / scale);
    result[parameter] = std::move(gradient);
  }
  return result;
}

void TrainingStep::Impl::set_gradients(const NamedTensors& values) {
  require_gradients("gradients to replace");
  NamedTensors scaled;
  std::vector<TensorInfo> types;
  for (const TensorInfo& type : states_.parameters())
    if (sums_.states().contains(type.name)) types.push_back(type);
  check_names(values, types, "a parameter with a gradient", true);
  const double scale = loss_scale();
  for (const TensorInfo& type : types) {
    if (!values.contains(type.name)) continue;
    Tensor gradient = fitted(values, type).clone();
    if (scale != 1) scale_by(gradient, scale);
    scaled[sums_.states().at(type.name)] = std::move(gradient);
  }
  for (const auto& [state, tensor] : scaled) states_.write(state, tensor);
}

NamedTensors TrainingStep::Impl::state() const {
  NamedTensors result = states_.all();
  std::erase_if(result, [&](const auto& one) { return sums_.is_idle(one.first); });
  ranks_->add_moments_of_others(result);
  ranks_->sum_residuals(result);
  if (sums_.waiting() > 0) result[kWaiting] = Tensor::scalar(sums_.waiting());
  return result;
}

void TrainingStep::Impl::load_state(const NamedTensors& given) {
  NamedTensors values = given;
  std::int64_t waiting = 0;
  if (const auto at = values.find(kWaiting); at != values.end()) {
    if (at->second.dtype() != DType::i64 || at->second.count() != 1 || *at->second.data<std::int64_t>() < 0)
      throw_input_error(fmt::format("one i64 from 0 on for '{}'", kWaiting), "another tensor", "load a whole state");
    waiting = *at->second.data<std::int64_t>();
    values.erase(at);
  }
  SumStates sums;
  for (const TensorInfo& parameter : states_.parameters())
    if (values.contains(sum_of(parameter.name))) sums[parameter.name] = sum_of(parameter.name);
  if ((waiting > 0) == sums.empty())
    throw_input_error("gradients in a state that counts batches, and none in another",
                      fmt::format("{} batches and {} gradients", waiting, sums.size()), "load a whole state");
  ranks_->remove_moments_of_others(values);
  ranks_->share_residuals(values);
  states_.check_numbers(values, options_.optimizer.loss_scale.enabled);
  const bool has_scale = values.contains(states_.loss_scale_name());
  states_.load(std::move(values));
  loaded_scale_ = has_scale;
  sums_.set(std::move(sums), waiting);
  updates_ = states_.updates();
}

void TrainingStep::Impl::set_learning_rate(double learning_rate) {
  if (!(learning_rate >= 0 && learning_rate <= 1e30))
    throw_input_error("a learning rate from 0 on", fmt::format("{}", learning_rate), "correct it");
  learning_rate_ = learning_rate;
}

double TrainingStep::Impl::loss_scale() const {
  const LossScaleOptions& scale = options_.optimizer.loss_scale;
  if (!scale.enabled) return 1;
  if (const std::optional<Tensor> now = states_.loss_scale()) return *now->data<float>();
  return scale.initial;
}

void TrainingStep::Impl::set_loss_scale(double value) {
  const LossScaleOptions& scale = options_.optimizer.loss_scale;
  if (!scale.enabled)
    throw_input_error("a step with a loss scale", "one without", "set TrainingStepOptions::loss_scale");
  if (!(value >= scale.lowest() && value <= scale.highest()))
    throw_input_error(fmt::format("a loss scale from {} to {}", scale.lowest(), scale.highest()),
                      fmt::format("{}", value), "set LossScaleOptions::min and max");
  require_no_gradients("to change the loss scale");
  if (states_.set_loss_scale(static_cast<float>(value))) return;
  options_.optimizer.loss_scale.initial = value;
  options_.loss_scale = value;
}

void TrainingStep::Impl::save(const std::filesystem::path& path, const SaveOptions& save) const {
  if (!source_) throw_input_error("a model that was read from a file", "another", "load it with load_model");
  NamedTensors values = states_.parameter_values();
  values.merge(states_.statistics());
  save_trained(*source_, values, path, save);
}

void TrainingStep::Impl::require_gradients(const char* what) const {
  if (sums_.waiting() == 0)
    throw_input_error(fmt::format("gradients, for {}", what), "none since the last update",
                      "call forward_backward first");
}

void TrainingStep::Impl::require_no_gradients(const char* what) const {
  if (sums_.waiting() > 0)
    throw_input_error(fmt::format("no accumulated gradients, {}", what),
                      fmt::format("those of {} batches", sums_.waiting()), "update, or forget them");
}

}  // namespace halfstep
