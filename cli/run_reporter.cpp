#include "cli/run_reporter.h"

#include <array>
#include <cstdio>
#include <span>
#include <utility>

#include <fmt/format.h>

namespace halfstep::cli {

std::vector<NamedValue> named_values(const Evaluation& evaluation) {
  std::vector<NamedValue> values{{"loss", evaluation.loss}};
  for (const auto& [name, value] : evaluation.metrics) values.push_back({name, value});
  return values;
}

RunReporter::RunReporter(std::int64_t epochs, RunRecords records, const std::vector<Metric>& metrics)
    : epochs_(epochs), records_(std::move(records)), progress_(stdout, ProgressStyle::detect(stdout)), curve_(metrics) {
  for (const Metric& metric : metrics) names_.push_back(metric.name());
  for (const std::string& name : names_) values_.push_back({name, 0});
}

TrainerCallbacks RunReporter::callbacks() {
  return {
      .on_start = [this](std::int64_t steps) { start(steps); },
      .on_epoch_begin = [this](std::int64_t epoch,
                               std::int64_t first) { progress_.begin_epoch(epoch, epochs_, first); },
      .on_step = [this](const StepResult& result) { step(result); },
      .on_epoch_end = [this](const StepResult& last, const Evaluation* validation) { end_epoch(last, validation); },
      .on_checkpoint =
          [this] {
            log([](StepLog& log) { log.flush(); });
            events([](EventWriter& events) { events.flush(); });
          },
      .on_notice = [this](const std::string& text) { progress_.notice(text); },
  };
}

std::vector<NamedValue> RunReporter::last_epoch() const {
  std::vector<NamedValue> values;
  if (steps_ == 0) return values;
  values.push_back({"loss", mean_loss_});
  values.insert(values.end(), values_.begin(), values_.end());
  return values;
}

void RunReporter::close_log() {
  if (log_) log_->close();
}

void RunReporter::close_events() {
  if (events_) events_->close();
}

template <class File, class Write>
void RunReporter::record(File& file, bool& warned, const char* what, const Write& write) {
  if (!file) return;
  try {
    write(*file);
  } catch (const Error& error) {
    if (!warned)
      progress_.notice(fmt::format("training continues, and {} is tried again: {}", what, error.without_hint()));
    warned = true;
  }
}

void RunReporter::start(std::int64_t steps) {
  steps_ = steps;
  if (!records_.log.empty()) log_.emplace(records_.log, steps);
  if (!records_.events.empty()) events_.emplace(records_.events, steps);
}

void RunReporter::step(const StepResult& result) {
  steps_ = result.step;
  mean_loss_ = result.mean_loss;
  curve_.step(result);
  progress_.update(point(result));
  if (log_) log_step(result);
  if (events_) write_events(result);
}

void RunReporter::log_step(const StepResult& result) {
  norms_.clear();
  if (result.grad_norms)
    for (const auto& [name, norm] : *result.grad_norms) norms_.push_back({name, norm});
  const StepRecord record{.step = result.step,
                          .epoch = result.epoch,
                          .update = result.update,
                          .loss = result.loss,
                          .lr = result.learning_rate,
                          .loss_scale = result.loss_scale,
                          .grads_finite = result.grads_finite,
                          .grad_norm = result.grad_norm,
                          .grad_norms = norms_,
                          .ms = result.ms};
  log([&](StepLog& log) { log.write(record); });
}

void RunReporter::write_events(const StepResult& result) {
  const std::array<NamedValue, 4> values{{{"loss", result.loss},
                                          {"learning_rate", result.learning_rate},
                                          {"grad_norm", result.grad_norm},
                                          {"loss_scale", result.loss_scale}}};
  const std::span<const NamedValue> all(values);
  events([&](EventWriter& events) {
    events.scalars(result.step, "step", result.dynamic_loss_scale ? all : all.first(3));
    if (records_.histogram_every == 0 || result.step % records_.histogram_every != 0) return;
    for (const auto& [name, tensor] : records_.parameters())
      events.histogram(result.step, "parameters/" + name, tensor);
  });
}

void RunReporter::end_epoch(const StepResult& last, const Evaluation* validation) {
  curve_.epoch(last, validation);
  if (validation) validation_ = *validation;
  const std::vector<NamedValue> held_out = validation ? named_values(*validation) : std::vector<NamedValue>();
  const ProgressPoint at = point(last);
  progress_.end_epoch(at, held_out);
  std::vector<NamedValue> train{{"loss", last.mean_loss}};
  train.insert(train.end(), at.metrics.begin(), at.metrics.end());
  log([&](StepLog& log) {
    EpochRecord record{.step = last.step,
                       .epoch = last.epoch,
                       .partial = last.samples < last.epoch_samples && last.step_in_epoch < last.steps_in_epoch,
                       .train = train,
                       .validation = held_out};
    if (last.rank_times) record.ranks = *last.rank_times;
    log.write_epoch(record);
    log.flush();
  });
  events([&](EventWriter& events) {
    events.scalars(last.step, "train", train);
    if (!held_out.empty()) events.scalars(last.step, "validation", held_out);
    events.flush();
  });
}

ProgressPoint RunReporter::point(const StepResult& result) {
  if (result.metrics)
    for (std::size_t i = 0; i < values_.size() && i < result.metrics->size(); ++i)
      values_[i].value = result.metrics->value(i);
  return {.step = result.step_in_epoch,
          .steps = result.steps_in_epoch,
          .samples = result.samples,
          .epoch_samples = result.epoch_samples,
          .loss = result.mean_loss,
          .metrics = values_,
          .loss_scale = result.dynamic_loss_scale ? result.loss_scale : 0,
          .skipped_steps = result.skipped};
}

}  // namespace halfstep::cli
