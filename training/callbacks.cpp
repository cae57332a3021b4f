#include <algorithm>
#include <cmath>
#include <span>
#include <utility>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <halfstep/base/error.h>
#include <halfstep/training/callbacks.h>
#include <halfstep/training/metric_def.h>

namespace halfstep {
namespace {

bool larger_is_better(const Watch& watch, const StepResult& last) {
  if (watch.larger_is_better) return *watch.larger_is_better;
  for (std::size_t i = 0; last.metrics && i < last.metrics->size(); ++i)
    if (last.metrics->metric(i).name() == watch.what) return !row_of(last.metrics->metric(i)).smaller_is_better;
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
  throw_failure("a number to watch", fmt::format("no '{}' of this epoch", watch.what), "");
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
          .on_checkpoint = all_of(callbacks, &C::on_checkpoint),
          .on_notice = all_of(callbacks, &C::on_notice)};
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
    throw_input_error("a patience from 0 on", fmt::format("{}", options_.patience), "correct the number");
}

TrainerCallbacks EarlyStopping::callbacks() {
  return {.on_epoch_end = [this](const StepResult& last, const Evaluation* validation) {
    if (best_.improves(last, validation)) {
      best_epoch_ = last.epoch;
      waited_ = 0;
      if (options_.restore) parameters_ = trainer_.parameters();
      return;
    }
    if (++waited_ < std::max<std::int64_t>(options_.patience, 1)) return;
    trainer_.control().stop = true;
    if (options_.restore && !parameters_.empty()) trainer_.set_parameters(parameters_);
  }};
}

BestModel::BestModel(Trainer& trainer, std::filesystem::path path, std::shared_ptr<const SourceModel> source,
                     Watch watch)
    : trainer_(trainer), path_(std::move(path)), source_(std::move(source)), best_(checked(std::move(watch), trainer)) {
  if (!source_) throw_input_error("the source of a model, to write it", "none", "give LoadedModel::source");
}

TrainerCallbacks BestModel::callbacks() {
  return {.on_epoch_end = [this](const StepResult& last, const Evaluation* validation) {
    if (best_.improves(last, validation)) save_trained(*source_, trainer_.parameters(), path_);
  }};
}

MovingAverage::MovingAverage(Trainer& trainer, double decay) : trainer_(trainer), decay_(decay) {
  if (!(decay >= 0 && decay < 1))
    throw_input_error("a decay from 0 to below 1", fmt::format("{}", decay), "correct the number");
}

TrainerCallbacks MovingAverage::callbacks() {
  return {.on_step = [this](const StepResult& result) {
    if (result.update == updates_) return;  // skipped, or gradients are added up
    updates_ = result.update;
    add();
  }};
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
