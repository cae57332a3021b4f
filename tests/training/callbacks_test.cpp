// Callbacks that change the course of a run, and those that are ready to use.
#include <atomic>
#include <cmath>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <string>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/temporary_directory.h"
#include "tests/training/small_rows.h"
#include <halfstep/executors/executor.h>
#include <halfstep/onnx_io/load.h>
#include <halfstep/training/callbacks.h>
#include <halfstep/training/checkpoint.h>

namespace halfstep {
namespace {

using ::testing::ElementsAre;

TrainerOptions options(double learning_rate = 0.1) {
  TrainerOptions result{.losses = {{"mean_squared_error"}}, .precision = Precision::fp32, .epochs = 6, .batch_size = 4};
  result.optimizer.name = "sgd";
  result.schedule.base_lr = learning_rate;
  return result;
}

struct SmallRun {
  explicit SmallRun(const TrainerOptions& o = options()) : trainer(model, *executor, small_rows(), o) {}
  LoadedModel model = small_model();
  std::unique_ptr<Executor> executor = make_reference_executor();
  Trainer trainer;
  std::vector<std::int64_t> steps;
  TrainerCallbacks seen() {
    return {.on_step = [this](const StepResult& r) { steps.push_back(r.step); }};
  }
};

TEST(RunControl, StopsSkipsAndSetsTheLearningRate) {
  SmallRun run;
  std::vector<float> rates;
  std::int64_t begun = 0;
  const bool finished =
      run.trainer.fit(combined({run.seen(),
                                {.on_step_begin = [&](std::int64_t) { run.trainer.control().skip = ++begun == 2; },
                                 .on_step =
                                     [&](const StepResult& r) {
                                       rates.push_back(r.learning_rate);
                                       run.trainer.control().learning_rate = 0.25;
                                       run.trainer.control().stop = r.step == 4;
                                     }}}));
  EXPECT_TRUE(finished);
  EXPECT_THAT(run.steps, ElementsAre(1, 2, 3, 4));
  EXPECT_EQ(begun, 5) << "one of them was left out";
  EXPECT_THAT(rates, ElementsAre(0.1f, 0.25f, 0.25f, 0.25f));
}

// Two batches an epoch, of which the last is never trained on.
TEST(Control, AnEpochEndsWhereItsLastBatchIsSkipped) {
  const TemporaryDirectory directory;
  TrainerOptions wanted = options(0.1);
  wanted.checkpoint = directory.path();
  SmallRun run(wanted);
  const Dataset validation = small_rows();
  std::int64_t begun = 0, steps = 0;
  std::vector<std::int64_t> ended;
  run.trainer.fit({.on_step_begin = [&](std::int64_t) { run.trainer.control().skip = ++begun % 2 == 0; },
                   .on_step = [&](const StepResult&) { ++steps; },
                   .on_epoch_end =
                       [&](const StepResult& last, const Evaluation* evaluation) {
                         ended.push_back(last.epoch);
                         EXPECT_NE(evaluation, nullptr);
                         EXPECT_TRUE(std::isfinite(last.mean_loss));
                       }},
                  &validation);
  ASSERT_FALSE(ended.empty());
  for (std::size_t i = 0; i < ended.size(); ++i) EXPECT_EQ(ended[i], static_cast<std::int64_t>(i) + 1);
  EXPECT_EQ(begun, 2 * static_cast<std::int64_t>(ended.size()));
  EXPECT_EQ(load_checkpoint(directory.path()).checkpoint.state.step, steps);
}

/// The checkpoint of a run of two batches an epoch, which ends with the batch `last`, counted from 1. All from
/// `skipped` on are left out.
TrainingState saved_by(std::int64_t last, std::int64_t skipped, bool by_signal, std::int64_t checkpoint_every) {
  const TemporaryDirectory directory;
  TrainerOptions wanted = options(0.1);
  wanted.checkpoint = directory.path();
  wanted.checkpoint_every = checkpoint_every;
  SmallRun run(wanted);
  std::atomic<bool> stop = false;
  std::int64_t begun = 0;
  run.trainer.fit({.on_step_begin =
                       [&](std::int64_t) {
                         run.trainer.control().skip = ++begun >= skipped;
                         if (begun >= last && by_signal) stop = true;
                         if (begun >= last && !by_signal) run.trainer.control().stop = true;
                       }},
                  nullptr, &stop);
  EXPECT_EQ(begun, last) << "the run ends there";
  return load_checkpoint(directory.path()).checkpoint.state;
}

TEST(Control, ARunThatEndsWithASkippedBatchLeavesItsCheckpoint) {
  for (const bool by_signal : {false, true})
    for (const std::int64_t checkpoint_every : {0, 100})
      for (const std::int64_t last : {2, 3, 4, 5}) {
        SCOPED_TRACE(testing::Message() << last << " batches, by a signal " << by_signal << ", checkpoints every "
                                        << checkpoint_every);
        for (const std::int64_t skipped : {last, last - 1, std::int64_t{1}}) {
          const TrainingState state = saved_by(last, skipped, by_signal, checkpoint_every);
          EXPECT_EQ(state.step, skipped - 1);
          EXPECT_EQ(state.epoch, last / 2);
          EXPECT_EQ(state.position, last % 2 * 4);
        }
      }
}

// Steps between checkpoints may not divide a run of whole epochs.
TEST(Control, ARunOfWholeEpochsLeavesACheckpointOfItsEnd) {
  const TemporaryDirectory directory;
  TrainerOptions wanted = options(0.1);
  wanted.checkpoint = directory.path();
  wanted.checkpoint_every = 5;
  SmallRun run(wanted);
  EXPECT_TRUE(run.trainer.fit(run.seen()));
  ASSERT_EQ(run.steps.size(), 12u);
  EXPECT_EQ(load_checkpoint(directory.path()).checkpoint.state.step, 12);
}

TEST(Combined, CallsAllInTheirOrder) {
  std::string order;
  const TrainerCallbacks both = combined({{.on_start = [&](std::int64_t) { order += "a"; }},
                                          {.on_step = [&](const StepResult&) { order += "s"; }},
                                          {.on_start = [&](std::int64_t) { order += "b"; }}});
  both.on_start(0);
  both.on_step({});
  EXPECT_EQ(order, "abs");
  EXPECT_FALSE(both.on_epoch_end) << "nobody waits for it";
}

TEST(EarlyStopping, StopsAndGoesBackToTheBest) {
  // Steps that are too long: the loss grows from the first epoch on.
  SmallRun run(options(1.6));
  EarlyStopping stopping(run.trainer, {.patience = 1});
  const Dataset validation = small_rows();
  std::vector<double> losses;
  const bool finished = run.trainer.fit(
      combined({stopping.callbacks(),
                {.on_epoch_end = [&](const StepResult&, const Evaluation* e) { losses.push_back(e->loss); }}}),
      &validation);
  EXPECT_TRUE(finished);
  const auto best = std::min_element(losses.begin(), losses.end());
  EXPECT_EQ(stopping.best_epoch(), best - losses.begin() + 1);
  EXPECT_EQ(static_cast<std::int64_t>(losses.size()), stopping.best_epoch() + 1) << "a patience of one";
  EXPECT_DOUBLE_EQ(stopping.best(), *best);
  EXPECT_DOUBLE_EQ(run.trainer.evaluate(validation).loss, *best) << "the best parameters are back";
}

TEST(EarlyStopping, WaitsForAsManyEpochsAsItIsTold) {
  SmallRun run(options(1.6));
  EarlyStopping stopping(run.trainer, {.patience = 6});
  EXPECT_TRUE(run.trainer.fit(combined({run.seen(), stopping.callbacks()})));
  EXPECT_EQ(run.steps.size(), 12U) << "all six epochs";
}

TEST(EarlyStopping, GoesBackToTheBestAtTheEndOfAWholeRunToo) {
  SmallRun run(options(1.6));
  EarlyStopping stopping(run.trainer, {.patience = 6});
  const Dataset validation = small_rows();
  run.trainer.fit(stopping.callbacks(), &validation);
  EXPECT_LT(stopping.best_epoch(), 6);
  EXPECT_DOUBLE_EQ(run.trainer.evaluate(validation).loss, stopping.best());
  SmallRun other(options(1.6));
  EarlyStopping keeping(other.trainer, {.patience = 6, .restore = false});
  other.trainer.fit(keeping.callbacks(), &validation);
  EXPECT_GT(other.trainer.evaluate(validation).loss, keeping.best());
}

TEST(EarlyStopping, TellsWhatThereIsToWatch) {
  SmallRun run;
  EXPECT_THROW(EarlyStopping(run.trainer, {.watch = {.what = "accuracy"}}), Error);
  EXPECT_THROW(EarlyStopping(run.trainer, {.patience = -1}), Error);
}

TEST(BestModel, IsTheOneOfTheBestEpoch) {
  const TemporaryDirectory directory;
  SmallRun run(options(1.6));
  BestModel best(run.trainer, directory / "best.onnx", run.model.source);
  const Dataset validation = small_rows();
  std::vector<double> losses;
  run.trainer.fit(
      combined({best.callbacks(),
                {.on_epoch_end = [&](const StepResult&, const Evaluation* e) { losses.push_back(e->loss); }}}),
      &validation);
  const auto executor = make_reference_executor();
  Evaluator evaluator(load_model(directory / "best.onnx"), *executor, validation, options());
  EXPECT_NEAR(evaluator.evaluate(validation).loss, *std::min_element(losses.begin(), losses.end()), 1e-6);
}

TEST(BestModel, ThatCannotBeWrittenEndsNoRun) {
  const TemporaryDirectory directory;
  SmallRun run(options(1.6));
  const auto folder = directory / "folder";
  BestModel best(run.trainer, folder / "best.onnx", run.model.source);
  std::vector<bool> failed;
  std::int64_t epochs = 0;
  run.trainer.fit(combined({best.callbacks(), {.on_epoch_end = [&](const StepResult&, const Evaluation*) {
                              failed.push_back(best.failure().has_value());
                              if (++epochs == 1) std::filesystem::create_directory(folder);
                            }}}));
  ASSERT_GT(epochs, 1);
  EXPECT_TRUE(failed.front());
  EXPECT_EQ(std::filesystem::exists(folder / "best.onnx"), !failed.back());
}

TEST(MovingAverage, IsThatOfTheParametersAfterEachUpdate) {
  SmallRun run;
  MovingAverage average(run.trainer, 0.5);
  double expected = NAN;
  run.trainer.fit(combined({average.callbacks(), {.on_step = [&](const StepResult&) {
                              const double b = run.trainer.parameters().at("b").data<float>()[0];
                              expected = std::isnan(expected) ? b : 0.5 * expected + 0.5 * b;
                            }}}));
  EXPECT_NEAR(average.parameters().at("b").data<float>()[0], expected, 1e-6);
  EXPECT_THROW(MovingAverage(run.trainer, 1), Error);
}

TEST(SetParameters, ChangesSomeOrNone) {
  SmallRun run;
  const Tensor b = Tensor::of<float>({3});
  run.trainer.set_parameters({{"b", b}});
  EXPECT_TRUE(identical(run.trainer.parameters().at("b"), b));
  const NamedTensors before = run.trainer.parameters();
  EXPECT_THROW(run.trainer.set_parameters({{"b", Tensor::of<float>({1})}, {"c", b}}), Error);
  EXPECT_THROW(run.trainer.set_parameters({{"b", Tensor::of<float>({1})}, {"w", b}}), Error);
  EXPECT_TRUE(identical(run.trainer.parameters().at("b"), before.at("b")));
}

}  // namespace
}  // namespace halfstep
