// What callbacks and the running epoch have summed up goes on with a resumed run.
#include <algorithm>
#include <atomic>
#include <filesystem>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/temporary_directory.h"
#include <halfstep/executors/executor.h>
#include <halfstep/onnx_io/load.h>
#include <halfstep/training/callbacks.h>
#include <halfstep/training/checkpoint.h>

namespace halfstep {
namespace {

using ::testing::Contains;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

constexpr std::int64_t kRows = 10, kBatch = 4;  // three steps make an epoch

LoadedModel model() {
  return parse_model(R"(<ir_version: 10, opset_import: ["": 24]> m (float[N, 2] x) => (float[N, 2] scores)
      <float[2, 2] w = {0.5, -1, 0.25, 0.1}, float[2] b = {0, 0.1}> { scores = Gemm(x, w, b) })");
}

Dataset rows(int seed) {
  Tensor x(DType::f32, {kRows, 2}), y(DType::i64, {kRows});
  for (std::int64_t i = 0; i < x.count(); ++i) x.data<float>()[i] = static_cast<float>((7 * i + seed) % 11 - 5) / 4;
  for (std::int64_t i = 0; i < kRows; ++i) y.data<std::int64_t>()[i] = (3 * i + seed) % 5 < 2;
  return Dataset(DataArray::of(x, "x"), DataArray::of(y, "y"));
}

/// Steps so long that the losses go up and down.
TrainerOptions options() {
  TrainerOptions result{.precision = Precision::fp32, .epochs = 6, .batch_size = kBatch};
  result.optimizer = {.name = "adam"};
  result.schedule.base_lr = 0.5;
  result.metrics = parse_metrics("accuracy,f1,auc");
  return result;
}

/// All that a run ends with.
struct End {
  std::vector<std::string> epochs;  ///< a line for each: what on_epoch_end was told
  NamedTensors parameters, average;
  std::int64_t best_epoch = 0;
  double best = 0;
  bool stopped_early = false;
  std::string best_model;
  std::vector<std::string> notices;
};

struct Plan {
  bool validates = true;
  std::int64_t patience = 2;
  std::string watch = "loss";
};

/// `stop_after` steps the run is stopped as by a signal; 0: not at all.
End run(const TrainerOptions& o, const Plan& plan, const std::filesystem::path& best_file,
        std::int64_t stop_after = 0) {
  const auto executor = make_reference_executor();
  const LoadedModel source = model();
  Trainer trainer(source, *executor, rows(0), o);
  const Dataset held_out = rows(3);
  EarlyStopping stopping(trainer, {.watch = {.what = plan.watch}, .patience = plan.patience});
  MovingAverage average(trainer, 0.75);
  BestModel best(trainer, best_file, source.source);
  End end;
  std::atomic<bool> stop = false;
  trainer.fit(combined({{.on_step = [&](const StepResult& r) { stop = r.step == stop_after; },
                         .on_epoch_end =
                             [&](const StepResult& last, const Evaluation* e) {
                               std::string line =
                                   fmt::format("{} {} {} {}", last.step, last.epoch, last.mean_loss, last.samples);
                               for (std::size_t i = 0; i < last.metrics->size(); ++i)
                                 line += fmt::format(" {}", last.metrics->value(i));
                               end.epochs.push_back(line + fmt::format(" {}", e ? e->loss : 0));
                             },
                         .on_notice = [&](const std::string& text) { end.notices.push_back(text); }},
                        stopping.callbacks(),
                        average.callbacks(),
                        best.callbacks()}),
              plan.validates ? &held_out : nullptr, &stop);
  end.parameters = trainer.parameters();
  for (const auto& [name, tensor] : average.parameters()) end.average[name] = tensor.clone();
  end.best_epoch = stopping.best_epoch();
  end.best = stopping.best();
  end.stopped_early = trainer.control().stop;
  if (std::filesystem::exists(best_file)) end.best_model = read_text(best_file);
  return end;
}

void expect_same(const NamedTensors& a, const NamedTensors& b) {
  ASSERT_EQ(a.size(), b.size());
  for (const auto& [name, tensor] : a) EXPECT_TRUE(identical(tensor, b.at(name))) << name;
}

TEST(ResumedCallbacks, EndAsIfNothingHadHappened) {
  for (const Plan& plan : {Plan{}, Plan{.validates = false}, Plan{.patience = 9}, Plan{.watch = "accuracy"}}) {
    const TemporaryDirectory whole_directory;
    const End whole = run(options(), plan, whole_directory / "best.onnx");
    ASSERT_GT(whole.best_epoch, 0);
    const auto steps = static_cast<std::int64_t>(3 * whole.epochs.size());
    for (std::int64_t stop_after = 1; stop_after <= steps; ++stop_after) {
      SCOPED_TRACE(fmt::format("{} {} {}, stopped after {}", plan.validates, plan.patience, plan.watch, stop_after));
      const TemporaryDirectory directory;
      TrainerOptions first = options(), rest = options();
      first.checkpoint = directory.path();
      rest.resume = directory.path();
      const End begun = run(first, plan, directory / "best.onnx", stop_after);
      const End resumed = run(rest, plan, directory / "best.onnx");
      std::vector<std::string> epochs = begun.epochs;
      epochs.insert(epochs.end(), resumed.epochs.begin(), resumed.epochs.end());
      EXPECT_EQ(epochs, whole.epochs);
      expect_same(resumed.parameters, whole.parameters);
      expect_same(resumed.average, whole.average);
      EXPECT_EQ(resumed.best_epoch, whole.best_epoch);
      EXPECT_EQ(resumed.best, whole.best);
      EXPECT_EQ(resumed.stopped_early, whole.stopped_early);
      EXPECT_EQ(resumed.best_model, whole.best_model);
    }
  }
}

// A checkpoint every step, and a process that ends between two of them.
TEST(ResumedCallbacks, GoOnFromAnyCheckpoint) {
  const TemporaryDirectory whole_directory;
  const Plan plan;
  const End whole = run(options(), plan, whole_directory / "best.onnx");
  for (const std::int64_t killed_after : {2, 3, 4, 5, 6, 7}) {
    SCOPED_TRACE(killed_after);
    const TemporaryDirectory directory;
    TrainerOptions first = options(), rest = options();
    first.checkpoint = directory.path();
    first.checkpoint_every = 2;
    rest.resume = directory.path();
    const auto executor = make_reference_executor();
    const LoadedModel source = model();
    const Dataset held_out = rows(3);
    struct Killed {};
    try {
      Trainer trainer(source, *executor, rows(0), first);
      EarlyStopping stopping(trainer, {.patience = plan.patience});
      MovingAverage average(trainer, 0.75);
      BestModel best(trainer, directory / "best.onnx", source.source);
      trainer.fit(combined({stopping.callbacks(),
                            average.callbacks(),
                            best.callbacks(),
                            {.on_step_begin =
                                 [&](std::int64_t step) {
                                   if (step > killed_after) throw Killed();
                                 }}}),
                  &held_out);
    } catch (const Killed&) {
    }
    const End resumed = run(rest, plan, directory / "best.onnx");
    expect_same(resumed.parameters, whole.parameters);
    expect_same(resumed.average, whole.average);
    EXPECT_EQ(resumed.best, whole.best);
    EXPECT_EQ(resumed.best_epoch, whole.best_epoch);
  }
}

TEST(ResumedCallbacks, TellWhatIsNewAndWhatIsDropped) {
  const TemporaryDirectory directory;
  const auto executor = make_reference_executor();
  TrainerOptions first = options(), rest = options();
  first.epochs = 1;
  first.checkpoint = rest.resume = directory.path();
  first.settings["--average"] = "0.75";
  rest.settings["--average"] = "0.5";
  Trainer begun(model(), *executor, rows(0), first);
  MovingAverage average(begun, 0.75);
  begun.fit(average.callbacks());
  std::vector<std::string> notices;
  Trainer resumed(model(), *executor, rows(0), rest);
  EarlyStopping stopping(resumed);
  resumed.fit(combined({stopping.callbacks(), {.on_notice = [&](const std::string& n) { notices.push_back(n); }}}));
  EXPECT_THAT(notices,
              Contains("the checkpoint has no state of the early stopping by loss, which starts from scratch"));
  EXPECT_THAT(notices, Contains("resuming without the moving average that the checkpoint has"));
  EXPECT_THAT(notices, Contains("resuming with --average 0.5; the checkpoint was made with 0.75"));
}

TEST(ResumedCallbacks, RefuseWhatIsNoStateOfTheirs) {
  const auto executor = make_reference_executor();
  const std::function<void(NamedTensors&)> changes[] = {
      [](NamedTensors& kept) { kept.erase("updates"); },
      [](NamedTensors& kept) { kept["updates"] = Tensor::scalar(1.0f); },
      [](NamedTensors& kept) { kept.erase("parameter b"); },
      [](NamedTensors& kept) { kept["parameter b"] = Tensor(DType::f32, {3}); },
  };
  for (const auto& change : changes) {
    const TemporaryDirectory directory;
    TrainerOptions first = options(), rest = options();
    first.epochs = 1;
    first.checkpoint = rest.resume = directory.path();
    Trainer begun(model(), *executor, rows(0), first);
    MovingAverage average(begun, 0.75);
    begun.fit(average.callbacks());
    Checkpoint checkpoint = load_checkpoint(directory.path()).checkpoint;
    change(checkpoint.kept.at("moving average"));
    save_checkpoint(directory.path(), checkpoint);
    Trainer resumed(model(), *executor, rows(0), rest);
    MovingAverage again(resumed, 0.75);
    EXPECT_THROW(resumed.fit(again.callbacks()), Error);
  }
}

TEST(ResumedCallbacks, TwoOfAKindKeepApart) {
  const TemporaryDirectory directory;
  const auto executor = make_reference_executor();
  TrainerOptions o = options();
  o.epochs = 1;
  o.checkpoint = directory.path();
  Trainer trainer(model(), *executor, rows(0), o);
  MovingAverage slow(trainer, 0.9), fast(trainer, 0.1);
  trainer.fit(combined({slow.callbacks(), fast.callbacks()}));
  const Checkpoint checkpoint = load_checkpoint(directory.path()).checkpoint;
  EXPECT_TRUE(identical(checkpoint.kept.at("moving average").at("parameter b"), slow.parameters().at("b")));
  EXPECT_TRUE(identical(checkpoint.kept.at("moving average 2").at("parameter b"), fast.parameters().at("b")));
}

}  // namespace
}  // namespace halfstep
