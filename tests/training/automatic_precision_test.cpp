// What `auto` takes for training: by the device's rule, by measuring, or from the checkpoint that a run resumes.
#include "training/automatic_precision.h"

#include <algorithm>
#include <chrono>
#include <filesystem>
#include <fstream>
#include <functional>
#include <memory>
#include <regex>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "executors/core/choices.h"
#include "executors/core/memory_use.h"
#include "tests/support/error_of.h"
#include "tests/temporary_directory.h"
#include "tests/training/small_rows.h"
#include "tests/training/step_testing.h"
#include <halfstep/distributed/local.h>
#include <halfstep/executors/ranks.h>
#include <halfstep/passes/prepared_model.h>

namespace halfstep {
namespace {

using testing::AllOf;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::Not;

/// Programs in fp32, or those in half types, take longer than they need.
class SlowProgram : public Program {
 public:
  SlowProgram(std::unique_ptr<Program> program, bool is_slow) : program_(std::move(program)), is_slow_(is_slow) {}
  Tensor input(std::size_t i) override { return program_->input(i); }
  Tensor output(std::size_t i) override { return program_->output(i); }
  const Plan& plan() const override { return program_->plan(); }
  void run() override {
    if (is_slow_) std::this_thread::sleep_for(std::chrono::milliseconds(20));
    program_->run();
  }

 protected:
  const Program& own() const { return *program_; }

 private:
  std::unique_ptr<Program> program_;
  bool is_slow_;
};

/// The same, with the memory that the program uses.
class SlowMeasuredProgram final : public SlowProgram, public core::MeasuredProgram {
 public:
  SlowMeasuredProgram(std::unique_ptr<Program> program, bool is_slow)
      : SlowProgram(std::move(program), is_slow), use_(memory_of(own()).value()) {}
  const MemoryUse& memory() const override { return use_; }

 private:
  MemoryUse use_;
};

bool has_bf16(const Graph& graph) {
  return std::ranges::any_of(graph.values, [](const Value& value) { return value.dtype == DType::bf16; });
}

/// A device with units for bf16 on which steps in `slow` take long. It measures where there is a file for its choices.
class Device final : public RankedExecutor, public core::KeepsChoices {
 public:
  explicit Device(DType slow, const std::filesystem::path& file = {}, DType rule = DType::bf16)
      : executor_(make_onednn_executor({.threads = 1})), capabilities_(executor_->capabilities()), slow_(slow) {
    capabilities_.native.insert({OpClass::matmul, DType::bf16});
    std::erase_if(capabilities_.native, [](const auto& native) { return native.second == DType::f16; });
    capabilities_.auto_precision = rule;
    capabilities_.auto_reason = "the rule";
    if (!file.empty()) choices_ = std::make_unique<core::Choices>(file, "machine");
  }

  std::string_view name() const override { return executor_->name(); }
  const Capabilities& capabilities() const override { return capabilities_; }
  std::unique_ptr<StateStore> make_store() override {
    ++stores;
    return executor_->make_store();
  }
  using RankedExecutor::compile;
  std::unique_ptr<Program> compile(const Graph& graph, StateStore& store,
                                   const std::shared_ptr<Communicator>& ranks) override {
    auto program = dynamic_cast<RankedExecutor&>(*executor_).compile(graph, store, ranks);
    const bool is_slow = has_bf16(graph) == (slow_ == DType::bf16);
    if (tells_memory) return std::make_unique<SlowMeasuredProgram>(std::move(program), is_slow);
    return std::make_unique<SlowProgram>(std::move(program), is_slow);
  }
  core::Choices* choices() override { return choices_.get(); }
  void make_native(DType half) { capabilities_.native.insert({OpClass::matmul, half}); }

  int stores = 0;
  bool tells_memory = false;

 private:
  std::unique_ptr<Executor> executor_;
  Capabilities capabilities_;
  DType slow_;
  std::unique_ptr<core::Choices> choices_;
};

TrainerOptions options_with(Precision precision) {
  TrainerOptions options = small_options();
  options.precision = precision;
  return options;
}

TrainingStepOptions step_on(const std::shared_ptr<Communicator>& ranks) {
  TrainingStepOptions options{.loss = LossOptions{.terms = {{.loss = "mean_squared_error"}}}};
  options.ranks = ranks;
  return options;
}

class AutomaticPrecision : public testing::Test {
 protected:
  const TemporaryDirectory folder_;
  const std::filesystem::path file_ = folder_ / "tuning.json";
};

TEST_F(AutomaticPrecision, IsByTheRuleWhereNothingIsMeasured) {
  Device device(DType::bf16);
  const Trainer trainer(small_model(), device, small_rows(), options_with(Precision::automatic));
  EXPECT_EQ(trainer.precision(), DType::bf16);
  EXPECT_EQ(trainer.precision_reason(), "the rule");
  EXPECT_EQ(device.stores, 1);
  const Trainer asked(small_model(), device, small_rows(), options_with(Precision::fp32));
  EXPECT_THAT(asked.precision_reason(), IsEmpty());
}

TEST_F(AutomaticPrecision, IsTheFasterOneAndIsMeasuredOnce) {
  for (const DType slow : {DType::bf16, DType::f32}) {
    const DType fast = slow == DType::bf16 ? DType::f32 : DType::bf16;
    const std::filesystem::path file = folder_ / std::string(name_of(slow));
    for (const bool is_known : {false, true}) {
      Device device(slow, file);
      const Trainer trainer(small_model(), device, small_rows(), options_with(Precision::automatic));
      EXPECT_EQ(trainer.precision(), fast);
      EXPECT_THAT(trainer.precision_reason(),
                  AllOf(HasSubstr("measured "), HasSubstr(" in " + std::string(precision_name(slow))),
                        HasSubstr("--precision " + std::string(precision_name(slow)) + " changes it")));
      EXPECT_EQ(device.stores, is_known ? 1 : 5);
    }
    // Neither the seed nor the values of parameters count, but the shapes do.
    Device device(slow, file);
    TrainerOptions options = options_with(Precision::automatic);
    options.seed = 7;
    EXPECT_EQ(Trainer(small_model(), device, small_rows(), options).precision(), fast);
    EXPECT_EQ(device.stores, 1);
    options.batch_size = 4;
    EXPECT_EQ(Trainer(small_model(), device, small_rows(), options).precision(), fast);
    EXPECT_EQ(device.stores, 6);
  }
}

TEST_F(AutomaticPrecision, OnlyWhatIsToBeMeasuredIsLowered) {
  const PreparedModel model(small_model().graph);
  std::vector<DType> lowered;
  const auto lower = [&](DType dtype) {
    lowered.push_back(dtype);
    StepOptions step;
    step.precision = dtype;
    step.shapes.batch = 4;
    return model.lower(Purpose::inference, step, Device(DType::bf16).capabilities());
  };
  const std::vector<DType> types{DType::f32, DType::bf16};
  for (const bool is_known : {false, true}) {
    Device device(DType::bf16, file_);
    lowered.clear();
    const auto chosen = measured_precision(device, types, 0, 0, lower);
    ASSERT_TRUE(chosen);
    EXPECT_EQ(chosen->dtype, DType::f32);
    EXPECT_EQ(lowered, is_known ? std::vector{DType::f32} : types) << "the first tells which step it is";
  }
}

TEST_F(AutomaticPrecision, TellsWhyALittleFasterIsNotTaken) {
  const auto reason = [&] {
    Device device(DType::bf16, file_);
    const Trainer trainer(small_model(), device, small_rows(), options_with(Precision::automatic));
    EXPECT_EQ(trainer.precision(), DType::f32);
    return trainer.precision_reason();
  };
  EXPECT_THAT(reason(), Not(HasSubstr("faster")));
  const std::string kept = read_text(file_);
  std::ofstream(file_) << std::regex_replace(kept, std::regex("fp32 [^ ]+ bf16 [0-9.e-]+"), "fp32 0.1 bf16 0.098");
  EXPECT_EQ(reason(),
            "measured 100 ms a step against 98 in bf16 (taken only if 3 % faster); --precision bf16 changes it");
}

/// With all that draws or keeps statistics.
TEST_F(AutomaticPrecision, MeasuringChangesNothingOfTheRun) {
  const auto model = [] { return parse_model(test::kNormalized); };
  Tensor x = test::rows(12, 3), y = test::classes(12, 2);
  const auto data = [&] { return Dataset(DataArray::of(x, "x"), DataArray::of(y, "y")); };
  TrainerOptions options = options_with(Precision::automatic);
  options.losses = {{"softmax_cross_entropy"}};
  Device measuring(DType::bf16, file_), asked(DType::bf16);
  Trainer found(model(), measuring, data(), options);
  ASSERT_EQ(found.precision(), DType::f32);
  options.precision = Precision::fp32;
  Trainer wanted(model(), asked, data(), options);
  EXPECT_EQ(losses_of(found), losses_of(wanted));
  test::expect_same(found.parameters(), wanted.parameters());
}

TEST_F(AutomaticPrecision, ARunThatCannotBeMeasuredFollowsTheRule) {
  Device device(DType::bf16, file_);
  TrainerOptions options = options_with(Precision::automatic);
  options.memory_budget = 1'000'000'000;  // the executor does not tell what its programs take
  for (const int stores : {3, 4}) {       // which is known the second time
    EXPECT_EQ(Trainer(small_model(), device, small_rows(), options).precision(), DType::bf16);
    EXPECT_EQ(device.stores, stores);
  }
}

TEST_F(AutomaticPrecision, TypesThatTheOptionsRefuseDoNotKeepTheOthersFromBeingKnown) {
  Device device(DType::bf16, file_);
  device.make_native(DType::f16);
  TrainerOptions options = options_with(Precision::automatic);
  options.optimizer.loss_scale.min = 2;  // refused where there is a loss scale
  options.optimizer.loss_scale.max = 1;
  for (const int stores : {5, 6}) {
    EXPECT_EQ(Trainer(small_model(), device, small_rows(), options).precision(), DType::f32);
    EXPECT_EQ(device.stores, stores);
  }
  options.optimizer.loss_scale.max = 65536;
  Trainer(small_model(), device, small_rows(), options);
  EXPECT_EQ(device.stores, 9) << "two stores to measure f16, and that of the run";
}

constexpr std::int64_t kWide = 500;
constexpr std::size_t kWideBytes = kWide * kWide * sizeof(float);

LoadedModel wide_model() {
  std::string numbers = "0.5";
  for (std::int64_t i = 1; i < kWide * kWide; ++i) numbers += i % 2 ? ", 0" : ", 1";
  return parse_model(R"(<ir_version: 10, opset_import: ["": 24]> m (float[N, 500] x) => (float[N, 500] y)
                        <float[500, 500] w = {)" +
                     numbers + "}> { y = MatMul(x, w) }");
}

/// What such a step takes in either type.
std::size_t bytes_of_step(const TrainingStepOptions& like) {
  std::size_t most = 0;
  for (const Precision precision : {Precision::fp32, Precision::bf16}) {
    Device device(DType::bf16);
    device.tells_memory = true;
    TrainingStepOptions options = like;
    options.precision = precision;
    options.memory_budget = 1;
    TrainingStep step(wide_model(), device, options);
    const std::string refused = error_of([&] {
      step.run({{"x", test::rows(4, kWide)}, {"labels", test::rows(4, kWide)}});
    });
    const std::size_t at = refused.find("at least ");
    EXPECT_NE(at, std::string::npos) << refused;
    most = std::max<std::size_t>(most, std::stoull(refused.substr(at + std::string("at least ").size())));
  }
  return most;
}

/// In the meantime a run holds the parameters that it starts with, and a step what was loaded into it.
TEST_F(AutomaticPrecision, MeasuringKeepsToTheMemoryBudgetBesideWhatTheRunHolds) {
  const NamedTensors batch{{"x", test::rows(4, kWide)}, {"labels", test::rows(4, kWide)}};
  TrainingStepOptions options{.loss = LossOptions{.terms = {{.loss = "mean_squared_error"}}}};
  options.optimizer.name = "adam";
  const std::size_t least = bytes_of_step(options);
  NamedTensors state;
  const auto precision_with = [&](std::size_t budget) {
    Device device(DType::bf16, folder_ / "choices");
    device.tells_memory = true;
    options.memory_budget = budget;
    TrainingStep step(wide_model(), device, options);
    if (!state.empty()) step.load_state(state);
    step.run(batch);
    state = step.state();
    return step.precision();
  };
  constexpr std::size_t kSome = kWideBytes / 2;
  EXPECT_EQ(precision_with(least + kSome), DType::bf16) << "by the rule";
  state.clear();
  EXPECT_EQ(precision_with(least + kWideBytes + kSome), DType::f32);
  EXPECT_EQ(precision_with(least + kWideBytes + kSome), DType::bf16) << "with a state";
  EXPECT_EQ(precision_with(least + 4 * kWideBytes + kSome), DType::f32);

  for (const std::size_t held : {std::size_t{0}, kWideBytes}) {
    Device device(DType::bf16, folder_ / "choices");
    device.tells_memory = true;
    TrainerOptions of_run = options_with(Precision::automatic);
    of_run.optimizer.name = "adam";
    of_run.batch_size = 4;
    of_run.memory_budget = least + held + kSome;
    const Dataset data(DataArray::of(batch.at("x"), "x"), DataArray::of(batch.at("labels"), "y"));
    Trainer trainer(wide_model(), device, data, of_run);
    EXPECT_EQ(trainer.precision(), held ? DType::f32 : DType::bf16);
    EXPECT_TRUE(trainer.fit({}));
  }
}

TEST_F(AutomaticPrecision, AResumedRunGoesOnInThatOfItsCheckpoint) {
  for (const Precision before : {Precision::fp32, Precision::fp16}) {
    TrainerOptions options = options_with(before);
    options.checkpoint = folder_ / std::string(name_of(before));
    Device device(DType::f32, file_);
    Trainer(small_model(), device, small_rows(), options).fit({});
    options = options_with(Precision::automatic);
    options.resume = folder_ / std::string(name_of(before));
    options.epochs = 4;
    Trainer resumed(small_model(), device, small_rows(), options);
    EXPECT_EQ(precision_name(resumed.precision()), name_of(before));
    EXPECT_EQ(resumed.precision_reason(), "that of the checkpoint");
    EXPECT_TRUE(resumed.fit({}));
  }
}

TEST_F(AutomaticPrecision, OfRanksIsThatOfTheFirst) {
  for (const DType slow_on_first : {DType::bf16, DType::f32}) {
    std::vector<DType> found(2);
    run_ranks(2, [&](const std::shared_ptr<Communicator>& ranks) {
      const int rank = ranks->rank();
      const DType other = slow_on_first == DType::bf16 ? DType::f32 : DType::bf16;
      Device device(rank == 0 ? slow_on_first : other,
                    folder_ / (std::string(name_of(slow_on_first)) + std::to_string(rank)));
      TrainerOptions options = options_with(Precision::automatic);
      options.ranks = ranks;
      Trainer trainer(small_model(), device, small_rows(), options);
      found[static_cast<std::size_t>(rank)] = trainer.precision();
      EXPECT_TRUE(trainer.fit({}));
      TrainingStep step(small_model(), device, step_on(ranks));
      step.run({{"x", test::rows(2, 2)}, {"labels", test::rows(2, 1)}});
      EXPECT_EQ(step.precision(), trainer.precision());
    });
    const DType fast = slow_on_first == DType::bf16 ? DType::f32 : DType::bf16;
    EXPECT_THAT(found, testing::Each(fast));
  }
}

TEST_F(AutomaticPrecision, OfAStepIsMeasuredWithItsFirstBatch) {
  Device device(DType::bf16, file_);
  TrainingStepOptions options;
  TrainingStep step(parse_model(test::kClassifier), device, options);
  step.run(test::batch());
  EXPECT_EQ(step.precision(), DType::f32);
  EXPECT_THAT(step.notices(), testing::Contains(AllOf(HasSubstr("precision fp32, measured"), HasSubstr("in bf16"))));
  options.precision = Precision::fp32;
  TrainingStep asked(parse_model(test::kClassifier), device, options);
  asked.run(test::batch());
  test::expect_same(step.state(), asked.state());
  options.precision = Precision::automatic;
  // A state that was saved continues in the precision that is measured.
  TrainingStep loaded(parse_model(test::kClassifier), device, options);
  loaded.load_state(asked.state());
  loaded.run(test::batch(1));
  asked.run(test::batch(1));
  EXPECT_EQ(loaded.precision(), DType::f32);
  test::expect_same(loaded.state(), asked.state());
}

/// Outputs and a plan are by the rule, until a batch is trained; then they are made anew.
TEST_F(AutomaticPrecision, OfAStepIsMeasuredAfterOtherCallsToo) {
  Device device(DType::bf16, file_);
  TrainingStepOptions options;
  const NamedTensors inputs{{"x", test::rows(4, 3)}};
  TrainingStep step(parse_model(test::kClassifier), device, options);
  step.predict(inputs);
  step.evaluate(test::batch());
  step.plan(test::batch());
  EXPECT_EQ(step.precision(), DType::bf16);
  step.run(test::batch());
  EXPECT_EQ(step.precision(), DType::f32);
  options.precision = Precision::fp32;
  TrainingStep asked(parse_model(test::kClassifier), device, options);
  asked.run(test::batch());
  test::expect_same(step.state(), asked.state());
  test::expect_same(step.predict(inputs), asked.predict(inputs));
  EXPECT_EQ(step.evaluate(test::batch()).loss, asked.evaluate(test::batch()).loss);
}

TEST_F(AutomaticPrecision, WhatOneRankComputesByItselfWaitsForNoOther) {
  const NamedTensors batch{{"x", test::rows(2, 2)}, {"labels", test::rows(2, 1)}};
  for (const bool measures : {false, true})
    run_ranks(2, [&](const std::shared_ptr<Communicator>& ranks) {
      Device device(DType::bf16, measures ? folder_ / std::to_string(ranks->rank()) : std::filesystem::path());
      TrainingStep step(small_model(), device, step_on(ranks));
      if (ranks->rank() == 0) {
        step.predict({{"x", batch.at("x")}});
        step.evaluate(batch);
        step.plan(batch);
      }
      step.run(batch);
      EXPECT_EQ(step.precision(), measures ? DType::f32 : DType::bf16);
    });
}

TEST_F(AutomaticPrecision, RanksOfWhichOnlySomeMeasureOrWhoseRulesDifferAreRefused) {
  const auto refusal = [](const std::function<std::unique_ptr<Device>(int rank)>& device_of) {
    return error_of([&] {
      run_ranks(2, [&](const std::shared_ptr<Communicator>& ranks) {
        const std::unique_ptr<Device> device = device_of(ranks->rank());
        const TrainingStep step(small_model(), *device, step_on(ranks));
      });
    });
  };
  const auto different = AllOf(HasSubstr("--precision"), HasSubstr("bf16"));
  EXPECT_THAT(refusal([](int rank) {
                return std::make_unique<Device>(DType::bf16, std::filesystem::path(),
                                                rank == 0 ? DType::bf16 : DType::f32);
              }),
              AllOf(different, HasSubstr("fp32")));
  EXPECT_THAT(refusal([&](int rank) {
                return std::make_unique<Device>(DType::bf16, rank == 0 ? file_ : std::filesystem::path());
              }),
              AllOf(different, HasSubstr("auto")));
}

}  // namespace
}  // namespace halfstep
