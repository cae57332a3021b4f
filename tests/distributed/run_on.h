// Runs of a Trainer on ranks that are threads, and comparison with a run by itself.
#pragma once

#include <algorithm>
#include <atomic>
#include <cmath>
#include <cstring>
#include <filesystem>
#include <functional>
#include <initializer_list>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include <fmt/format.h>
#include <gtest/gtest.h>

#include "tests/paths.h"
#include "tests/training/small_rows.h"
#include <halfstep/distributed/local.h>
#include <halfstep/formats/npy.h>
#include <halfstep/onnx_io/load.h>
#include <halfstep/training/trainer.h>
#include <halfstep/training/training_step.h>

namespace halfstep::test {

/// What a run gives.
struct Course {
  std::vector<StepResult> steps;
  std::vector<double> epochs;  ///< the loss and the first metric of each epoch, and those of its validation
  NamedTensors parameters;
  bool finished = false;
  std::string failure = {};  ///< of the trainer
};

struct Job {
  std::function<LoadedModel()> model = small_model;
  std::function<Dataset()> data = small_rows;
  TrainerOptions options = small_options();
  bool validates = false;
  /// Further callbacks, of a trainer that lives as long.
  std::function<TrainerCallbacks(Trainer&, int rank)> callbacks = {};
  const std::atomic<bool>* (*stop)(int rank) = nullptr;
  std::unique_ptr<Executor> (*executor)(const ExecutorOptions&) = make_onednn_executor;
};

inline Course run_rank(const Job& job, const std::shared_ptr<Communicator>& ranks) {
  const std::unique_ptr<Executor> executor = job.executor({.threads = 1});
  const Dataset data = job.data();
  TrainerOptions options = job.options;
  options.ranks = ranks;
  Trainer trainer(job.model(), *executor, data, options);
  Course run;
  TrainerCallbacks callbacks;
  callbacks.on_step = [&](const StepResult& result) { run.steps.push_back(result); };
  callbacks.on_epoch_end = [&](const StepResult& last, const Evaluation* validation) {
    run.epochs.push_back(last.mean_loss);
    if (last.metrics->size() > 0) run.epochs.push_back(last.metrics->value(0));
    if (!validation) return;
    run.epochs.push_back(validation->loss);
    run.epochs.push_back(static_cast<double>(validation->rows));
    for (const auto& [name, value] : validation->metrics) run.epochs.push_back(value);
  };
  const int rank = ranks ? ranks->rank() : 0;
  if (job.callbacks) callbacks = combined({callbacks, job.callbacks(trainer, rank)});
  run.finished = trainer.fit(callbacks, job.validates ? &data : nullptr, job.stop ? job.stop(rank) : nullptr);
  if (trainer.failure()) run.failure = trainer.failure()->what();
  run.parameters = trainer.parameters();
  return run;
}

inline bool same_bits(const NamedTensors& a, const NamedTensors& b) {
  return std::ranges::equal(a, b, [](const auto& one, const auto& other) {
    return one.first == other.first && one.second.bytes() == other.second.bytes() &&
           std::memcmp(one.second.raw(), other.second.raw(), one.second.bytes()) == 0;
  });
}

/// What rank 0 has; all ranks have the same.
inline Course run_on(int size, const Job& job) {
  if (size == 0) return run_rank(job, nullptr);
  std::vector<Course> runs(static_cast<std::size_t>(size));
  run_ranks(size, [&](const auto& ranks) { runs[static_cast<std::size_t>(ranks->rank())] = run_rank(job, ranks); });
  for (const Course& run : runs) {
    EXPECT_TRUE(same_bits(run.parameters, runs[0].parameters));
    EXPECT_EQ(run.epochs, runs[0].epochs);
    EXPECT_EQ(run.finished, runs[0].finished);
    EXPECT_EQ(run.failure, runs[0].failure);
    EXPECT_EQ(run.steps.size(), runs[0].steps.size());
    for (std::size_t i = 0; i < run.steps.size(); ++i) {
      EXPECT_EQ(run.steps[i].loss, runs[0].steps[i].loss);
      EXPECT_EQ(run.steps[i].grads_finite, runs[0].steps[i].grads_finite);
      EXPECT_EQ(run.steps[i].samples, runs[0].steps[i].samples);
    }
  }
  return runs[0];
}

inline void expect_near(double found, double wanted, const std::string& what, double tolerance = 1e-6) {
  EXPECT_LE(std::abs(found - wanted), tolerance * std::abs(wanted)) << what << ": " << found << ", alone " << wanted;
}

inline void expect_same_course(const Course& found, const Course& alone, const std::string& what,
                               double tolerance = 1e-6) {
  ASSERT_EQ(found.steps.size(), alone.steps.size());
  for (std::size_t i = 0; i < alone.steps.size(); ++i) {
    expect_near(found.steps[i].loss, alone.steps[i].loss, fmt::format("{}, loss of step {}", what, i + 1), tolerance);
    EXPECT_EQ(found.steps[i].samples, alone.steps[i].samples);
    EXPECT_EQ(found.steps[i].update, alone.steps[i].update);
    EXPECT_EQ(found.steps[i].step_in_epoch, alone.steps[i].step_in_epoch);
  }
  ASSERT_EQ(found.epochs.size(), alone.epochs.size());
  for (std::size_t i = 0; i < alone.epochs.size(); ++i)
    expect_near(found.epochs[i], alone.epochs[i], fmt::format("{}, number {} of the epochs", what, i), tolerance);
}

inline void expect_the_same_on_ranks(const Job& job, std::initializer_list<int> sizes = {1, 2, 4}) {
  const Course alone = run_on(0, job);
  for (const int size : sizes) expect_same_course(run_on(size, job), alone, fmt::format("{} ranks", size));
}

/// A classifier of models/zoo as a framework exports it, with its rows, in batches of four.
inline Job zoo(const std::string& name) {
  const std::filesystem::path folder = source_dir() / "models/zoo" / name;
  Job job;
  job.model = [folder] { return load_model(folder / "model.onnx"); };
  job.data = [folder] { return Dataset(open_npy(folder / "x.npy"), open_npy(folder / "y.npy")); };
  job.options.steps = 50;
  job.options.batch_size = 4;
  job.options.losses = {{"softmax_cross_entropy"}};
  job.options.mode.train_dropout = false;
  job.options.bucket_bytes = 20000;
  return job;
}

/// A step of `small_model` and the like, on its ranks.
inline TrainingStepOptions small_step(const std::shared_ptr<Communicator>& ranks, std::string_view optimizer = "sgd") {
  TrainingStepOptions options{.loss = LossOptions{.terms = {{.loss = "mean_squared_error"}}}};
  options.optimizer.name = optimizer;
  options.precision = Precision::fp32;
  options.ranks = ranks;
  return options;
}

/// Rows of which one of the last rank has a gradient beyond f16, in the first step.
inline Job overflowing(Job job = {}) {
  job.data = [] {
    Tensor x(DType::f32, {8, 2}), y(DType::f32, {8, 1});
    std::ranges::fill(x.span<float>(), 0.25f);
    std::ranges::fill(y.span<float>(), 0.5f);
    y.span<float>()[7] = 60000;
    return Dataset(DataArray::of(x, "x"), DataArray::of(y, "y"));
  };
  job.options.precision = Precision::fp16;
  job.options.loss_scale = 65536;
  job.options.batch_size = 8;
  job.options.shuffle = false;
  job.options.steps = 6;
  return job;
}

/// Eight rows in batches of five: of the last three of an epoch the fourth rank has none.
inline Job uneven() {
  Job job;
  job.options.batch_size = 5;
  job.options.metrics = parse_metrics("mae");
  job.validates = true;
  return job;
}

}  // namespace halfstep::test
