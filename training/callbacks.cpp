#include <algorithm>
#include <cmath>
#include <span>
#include <string_view>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <halfstep/base/error.h>
#include <halfstep/onnx_io/save_lazy.h>
#include <halfstep/training/callbacks.h>
#include <halfstep/training/metric_def.h>

namespace halfstep {
namespace {

bool larger_is_better(const Watch& watch, const StepResult& last) {
  if (watch.larger_is_better) return *watch.larger_is_better;
  for (std::size_t i = 0; last.metrics && i < last.metrics->size(); ++i)
    if (last.metrics->metric(i).name() == watch.what) return !last.metrics->metric(i).row->smaller_is_better;
  return false;  // the loss
}

double number_of(const Watch& watch, const StepResult& last, const Evaluation* validation) {
  if (watch.what == "loss") return validation ? validation->loss : last.mean_loss;
  if (validation) {
    for (const auto& [name, value] : validation->metrics)
      if (name == watch.what) return value;
  } else if (last.metrics) {
    for (std::size_t i = 0; i < last.metrics->size(); ++i)
      if (last.metrics->metric(i).name() == watch.what) return last.metrics->value(i);
  }
  throw_failure("a quantity to watch", fmt::format("no '{}' of this epoch", watch.what), "");
}

Watch checked(Watch watch, const Trainer& trainer) {
  std::vector<std::string> known{"loss"};
  for (const Metric& metric : trainer.metrics()) known.push_back(metric.name());
  if (std::ranges::find(known, watch.what) == known.end())
    throw_input_error(fmt::format("the loss or a metric of the run to watch: {}", fmt::join(known, ", ")),
                      fmt::format("'{}'", watch.what), "name it in --metrics");
  return watch;
}

template <class... Arguments>
std::function<void(Arguments...)> all_of(const std::vector<TrainerCallbacks>& callbacks,
                                         std::function<void(Arguments...)> TrainerCallbacks::*member) {
  std::vector<std::function<void(Arguments...)>> functions;
  for (const TrainerCallbacks& one : callbacks)
    if (one.*member) functions.push_back(one.*member);
  if (functions.empty()) return {};
  return [functions = std::move(functions)](Arguments... arguments) {
    for (const auto& function : functions) function(arguments...);
  };
}

std::vector<KeptState> all_kept(const std::vector<TrainerCallbacks>& callbacks) {
  std::vector<KeptState> kept;
  for (const TrainerCallbacks& one : callbacks)
    for (KeptState state : one.kept) {
      const std::string name = state.name;
      for (int n = 2; std::ranges::find(kept, state.name, &KeptState::name) != kept.end(); ++n)
        state.name = fmt::format("{} {}", name, n);
      kept.push_back(std::move(state));
    }
  return kept;
}

constexpr const char *kBest = "best", *kBestEpoch = "best epoch", *kWaited = "waited", *kUpdates = "updates";
// Of what is kept beside numbers: the names of parameters follow.
constexpr std::string_view kParameter = "parameter ";

template <class T>
T kept_number(const NamedTensors& state, const char* name, const Tensor& like) {
  const auto at = state.find(name);
  if (at == state.end() || at->second.dtype() != like.dtype() || at->second.count() != 1)
    throw_input_error(fmt::format("the number '{}' in a callback's state of a checkpoint", name), "none",
                      "resume from another checkpoint");
  return *at->second.data<T>();
}
std::int64_t kept_count(const NamedTensors& state, const char* name) {
  return kept_number<std::int64_t>(state, name, Tensor::scalar(std::int64_t{0}));
}

void add_parameters(NamedTensors& state, const NamedTensors& parameters) {
  for (const auto& [name, tensor] : parameters) state[std::string(kParameter) + name] = tensor;
}

/// None, or one for each that the trainer has.
NamedTensors kept_parameters(const NamedTensors& state, const Trainer& trainer) {
  NamedTensors parameters;
  for (const auto& [name, tensor] : state)
    if (name.starts_with(kParameter)) parameters[name.substr(kParameter.size())] = tensor.clone();
  if (parameters.empty()) return parameters;
  const NamedTensors present = trainer.parameters();
  const bool fits = std::ranges::equal(parameters, present, [](const auto& a, const auto& b) {
    return a.first == b.first && a.second.dtype() == b.second.dtype() && a.second.shape() == b.second.shape();
  });
  if (!fits)
    throw_input_error("parameters of this model in a callback's state of a checkpoint", "others",
                      "resume from another checkpoint");
  return parameters;
}

template <class T>
void move_towards(std::span<T> average, std::span<T> value, double decay) {
  for (std::size_t i = 0; i < value.size(); ++i)
    average[i] = static_cast<T>(decay * average[i] + (1 - decay) * value[i]);
}

}  // namespace

TrainerCallbacks combined(std::vector<TrainerCallbacks> callbacks) {
  using C = TrainerCallbacks;
  return {.on_start = all_of(callbacks, &C::on_start),
          .on_epoch_begin = all_of(callbacks, &C::on_epoch_begin),
          .on_step_begin = all_of(callbacks, &C::on_step_begin),
          .on_step = all_of(callbacks, &C::on_step),
          .on_epoch_end = all_of(callbacks, &C::on_epoch_end),
          .on_end = all_of(callbacks, &C::on_end),
          .on_checkpoint = all_of(callbacks, &C::on_checkpoint),
          .on_notice = all_of(callbacks, &C::on_notice),
          .kept = all_kept(callbacks)};
}

bool BestSoFar::improves(const StepResult& last, const Evaluation* validation) {
  const double value = number_of(watch_, last, validation);
  if (std::isnan(value)) return false;
  const double gain = larger_is_better(watch_, last) ? value - best_ : best_ - value;
  if (!std::isnan(best_) && !(gain > watch_.least_change)) return false;
  best_ = value;
  return true;
}

EarlyStopping::EarlyStopping(Trainer& trainer, EarlyStoppingOptions options)
    : trainer_(trainer), options_(std::move(options)), best_(checked(options_.watch, trainer)) {
  if (options_.patience < 0)
    throw_input_error("a patience of at least 0", fmt::format("{}", options_.patience), "correct the number");
}

TrainerCallbacks EarlyStopping::callbacks() {
  return {.on_epoch_end =
              [this](const StepResult& last, const Evaluation* validation) {
                if (best_.improves(last, validation)) {
                  best_epoch_ = last.epoch;
                  waited_ = 0;
                  if (options_.restore) parameters_ = trainer_.parameters();
                } else {
                  ++waited_;
                }
                stop_if_due();
              },
          .on_end =
              [this] {
                if (options_.restore && !parameters_.empty()) trainer_.set_parameters(parameters_);
              },
          .kept = {{.name = fmt::format("early stopping by {}", best_.what()),
                    .save = [this] { return state(); },
                    .load = [this](const NamedTensors& kept) { load(kept); }}}};
}

void EarlyStopping::stop_if_due() {
  if (waited_ >= std::max<std::int64_t>(options_.patience, 1)) trainer_.control().stop = true;
}

NamedTensors EarlyStopping::state() const {
  NamedTensors state{{kBest, Tensor::scalar(best_.value())},
                     {kBestEpoch, Tensor::scalar(best_epoch_)},
                     {kWaited, Tensor::scalar(waited_)}};
  add_parameters(state, parameters_);
  return state;
}

void EarlyStopping::load(const NamedTensors& state) {
  NamedTensors parameters = kept_parameters(state, trainer_);
  best_.set_value(kept_number<double>(state, kBest, Tensor::scalar(0.0)));
  best_epoch_ = kept_count(state, kBestEpoch);
  waited_ = kept_count(state, kWaited);
  parameters_ = std::move(parameters);
  stop_if_due();  // the run had come to its end
}

BestModel::BestModel(Trainer& trainer, std::filesystem::path path, std::shared_ptr<const SourceModel> source,
                     Watch watch)
    : trainer_(trainer), path_(std::move(path)), source_(std::move(source)), best_(checked(std::move(watch), trainer)) {
  if (!source_) throw_input_error("the source of a model, to write it", "none", "give LoadedModel::source");
}

TrainerCallbacks BestModel::callbacks() {
  return {.on_epoch_end =
              [this](const StepResult& last, const Evaluation* validation) {
                if (!best_.improves(last, validation) || !trainer_.is_first_rank()) return;
                try {
                  save_trained(*source_, trainer_.lazy_parameters(), path_);
                  failure_.reset();
                } catch (const Error& error) {
                  failure_ = error;
                }
              },
          .kept = {{.name = fmt::format("best model by {}", best_.what()),
                    .save =
                        [this] {
                          return NamedTensors{{kBest, Tensor::scalar(best_.value())}};
                        },
                    .load =
                        [this](const NamedTensors& state) {
                          best_.set_value(kept_number<double>(state, kBest, Tensor::scalar(0.0)));
                        }}}};
}

MovingAverage::MovingAverage(Trainer& trainer, double decay) : trainer_(trainer), decay_(decay) {
  if (!(decay >= 0 && decay < 1))
    throw_input_error("a decay from 0 to below 1", fmt::format("{}", decay), "correct the number");
}

TrainerCallbacks MovingAverage::callbacks() {
  return {.on_step =
              [this](const StepResult& result) {
                if (result.update == updates_) return;  // skipped, or gradients are added up
                updates_ = result.update;
                add();
              },
          .kept = {{.name = "moving average",
                    .save = [this] { return state(); },
                    .load = [this](const NamedTensors& kept) { load(kept); }}}};
}

NamedTensors MovingAverage::state() const {
  NamedTensors state{{kUpdates, Tensor::scalar(updates_)}};
  add_parameters(state, average_);
  return state;
}

void MovingAverage::load(const NamedTensors& state) {
  NamedTensors average = kept_parameters(state, trainer_);
  updates_ = kept_count(state, kUpdates);
  average_ = std::move(average);
}

void MovingAverage::add() {
  NamedTensors now = trainer_.parameters();
  if (average_.empty()) {
    average_ = std::move(now);
    return;
  }
  for (auto& [name, tensor] : now) {
    Tensor& average = average_.at(name);
    if (tensor.dtype() == DType::f64)
      move_towards(average.span<double>(), tensor.span<double>(), decay_);
    else
      move_towards(average.span<float>(), tensor.span<float>(), decay_);
  }
}

}  // namespace halfstep
