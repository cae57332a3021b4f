// The public face: each function is one of TrainingStep::Impl.
#include <utility>

#include "training/flat_tensors.h"
#include "training/training_step_impl.h"

namespace halfstep {

TrainingStep::TrainingStep(LoadedModel model, Executor& executor, const TrainingStepOptions& options)
    : impl_(std::make_unique<Impl>(std::move(model), executor, options)) {}
TrainingStep::~TrainingStep() = default;
TrainingStep::TrainingStep(TrainingStep&&) noexcept = default;
TrainingStep& TrainingStep::operator=(TrainingStep&&) noexcept = default;

StepReport TrainingStep::run(const NamedTensors& batch) { return impl_->run(batch); }
StepReport TrainingStep::forward_backward(const NamedTensors& batch, double weight) {
  return impl_->forward_backward(batch, weight);
}
StepReport TrainingStep::update() { return impl_->update(); }
void TrainingStep::forget_gradients() { impl_->forget_gradients(); }
NamedTensors TrainingStep::forward(const NamedTensors& inputs) { return impl_->outputs_for(Purpose::forward, inputs); }
StepReport TrainingStep::backward(const NamedTensors& inputs, const NamedTensors& gradients, double weight) {
  return impl_->backward(inputs, gradients, weight);
}
StepReport TrainingStep::evaluate(const NamedTensors& batch) { return impl_->evaluate(batch); }
NamedTensors TrainingStep::predict(const NamedTensors& inputs) {
  return impl_->outputs_for(Purpose::prediction, inputs);
}
NamedTensors TrainingStep::outputs() const { return impl_->outputs(); }
Metrics TrainingStep::metrics(const std::optional<std::vector<Metric>>& metrics, std::size_t term) const {
  return impl_->metrics(metrics, term);
}
void TrainingStep::measure(Metrics& metrics, const NamedTensors& batch, std::size_t term) const {
  impl_->measure(metrics, batch, term);
}

std::vector<TensorInfo> TrainingStep::parameter_types() const { return impl_->states().parameters(); }
NamedTensors TrainingStep::parameters() const { return impl_->states().parameter_values(); }
void TrainingStep::set_parameters(const NamedTensors& values) { impl_->states().set_parameters(values); }
NamedTensors TrainingStep::statistics() const { return impl_->states().statistics(); }
void TrainingStep::share_statistics() { impl_->share_statistics(); }
NamedTensors TrainingStep::gradients() const { return impl_->gradients(); }
void TrainingStep::set_gradients(const NamedTensors& values) { impl_->set_gradients(values); }

Tensor TrainingStep::flat_parameters() const { return flat(parameters(), parameter_types()); }
void TrainingStep::set_flat_parameters(const Tensor& values) { set_parameters(unflat(values, parameter_types())); }
Tensor TrainingStep::flat_gradients() const { return flat(gradients(), parameter_types()); }
void TrainingStep::set_flat_gradients(const Tensor& values) {
  NamedTensors named = unflat(values, parameter_types());
  const NamedTensors present = gradients();
  std::erase_if(named, [&](const auto& gradient) { return !present.contains(gradient.first); });
  set_gradients(named);
}

NamedTensors TrainingStep::state() const { return impl_->state(); }
void TrainingStep::load_state(const NamedTensors& state) { impl_->load_state(state); }

double TrainingStep::learning_rate() const { return impl_->learning_rate(); }
void TrainingStep::set_learning_rate(double learning_rate) { impl_->set_learning_rate(learning_rate); }
double TrainingStep::loss_scale() const { return impl_->loss_scale(); }
void TrainingStep::set_loss_scale(double loss_scale) { impl_->set_loss_scale(loss_scale); }
std::int64_t TrainingStep::updates() const { return impl_->updates(); }
std::vector<double> TrainingStep::loss_weights() const { return impl_->loss_weights(); }
DType TrainingStep::precision() const { return impl_->precision(); }
std::vector<std::string> TrainingStep::notices() const { return impl_->notices(); }
const Plan& TrainingStep::plan(const NamedTensors& batch) { return impl_->plan(batch); }
Profile TrainingStep::profile(const NamedTensors& batch, const ProfileOptions& options) {
  return impl_->profile(batch, options);
}
void TrainingStep::save(const std::filesystem::path& path, const SaveOptions& options) const {
  impl_->save(path, options);
}

}  // namespace halfstep
