// Training on the GPU as the program does it: batches that are copied while a step runs, and a budget of the device's
// memory. CUDA is emulated.
#include <algorithm>
#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include <cuda_runtime_api.h>
#include <fmt/format.h>
#include <fmt/ranges.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "data/batch_reader.h"
#include "tests/executors/cudnn/emulated_executor.h"
#include "tests/executors/cudnn/emulation/calls.h"
#include "tests/executors/cudnn/emulation/emulation.h"
#include "tests/training/deep_model.h"
#include "training/step_program.h"
#include <halfstep/base/error.h>
#include <halfstep/executors/memory_use.h>
#include <halfstep/ops/builder.h>
#include <halfstep/ops/op_def.h>
#include <halfstep/training/trainer.h>

namespace halfstep::cudnn {
namespace {

using testing::HasSubstr;

constexpr std::int64_t kRows = 14, kBatch = 4, kSide = 32;  // the last batch is a smaller one

Dataset rows() {
  Tensor x(DType::f32, {kRows, 3, kSide, kSide}), y(DType::i64, {kRows});
  for (std::int64_t i = 0; i < x.count(); ++i) x.data<float>()[i] = static_cast<float>(i * 37 % 101) / 100;
  for (std::int64_t i = 0; i < kRows; ++i) y.data<std::int64_t>()[i] = i % 8;
  return {DataArray::of(x, "x"), DataArray::of(y, "y")};
}

class TrainerOnGpu : public testing::Test {
 protected:
  ~TrainerOnGpu() override {
    emulation::machine() = {};
    EXPECT_EQ(emulation::live_objects(), 0);
    EXPECT_STREQ(emulation::latest_refusal(), "");
  }
};

struct Trained {
  std::vector<float> losses;
  NamedTensors parameters;
  std::size_t predicted = 0;  ///< bytes of the device
  std::size_t taken = 0;      ///< at the end of a step
  std::size_t most = 0;       ///< up to there
  int least_copies = 100;     ///< of a step, outside of a graph
};

std::size_t memory_taken() {
  std::size_t free = 0, all = 0;
  cudaMemGetInfo(&free, &all);
  return all - free;
}

Trained train(Executor& executor, std::size_t budget = 0) {
  emulation::most_memory();
  Trainer trainer(test::deep_model(kSide), executor, rows(),
                  {.precision = Precision::fp32, .epochs = 2, .batch_size = kBatch, .memory_budget = budget});
  Trained run;
  int copies = 0;
  TrainerCallbacks callbacks;
  callbacks.on_step_begin = [&](std::int64_t) { copies = emulation::calls().copies; };
  callbacks.on_step = [&](const StepResult& result) {
    run.losses.push_back(result.loss);
    if (run.taken == 0) {  // with that step's program alone
      run.taken = memory_taken();
      run.most = emulation::most_memory();
    }
    run.least_copies = std::min(run.least_copies, emulation::calls().copies - copies);
  };
  trainer.fit(callbacks);
  run.parameters = trainer.parameters();
  run.predicted = trainer.memory().value().total();
  return run;
}

/// Each loss is of its own batch, whenever that came to the device.
TEST_F(TrainerOnGpu, LearnsFromTheBatchesThatWereCopiedWhileAStepRan) {
  const Trained right = train(*make_reference_executor());
  for (const std::uint32_t seed : {0U, 1U, 2U, 3U}) {
    emulation::machine().seed = seed;
    const Trained got = train(*emulated_executor());
    EXPECT_EQ(got.least_copies, 0) << "of the step whose batch had been copied, before a batch of other rows";
    ASSERT_EQ(got.losses.size(), right.losses.size());
    for (std::size_t i = 0; i < right.losses.size(); ++i)
      EXPECT_NEAR(got.losses[i], right.losses[i], 1e-4) << "seed " << seed << ", step " << i;
  }
}

/// A batch after the other, each as soon as it is asked for.
class Batches final : public BatchReader {
 public:
  explicit Batches(std::vector<Batch> all) : all_(std::move(all)) {}
  const Batch* next() override { return &all_.at(read_++); }
  const Batch* ahead() override { return read_ < all_.size() ? &all_[read_] : nullptr; }
  std::int64_t batches_per_epoch() const override { return static_cast<std::int64_t>(all_.size()); }

 private:
  std::vector<Batch> all_;
  std::size_t read_ = 0;
};

/// The shares of a loss of so many terms that they are more than goes with a step: of each batch they are known only
/// before its own step.
TEST_F(TrainerOnGpu, TakesTheSharesOfItsOwnBatch) {
  constexpr std::int64_t kTerms = 2000;
  Graph g;
  g.opsets = {{"", kOnnxOpset}};
  Builder b(g);
  const Expr x = b.expr(g.add_input("x", DType::f32, {1, kTerms}));
  const Expr shares = b.expr(g.add_input("shares", DType::f32, {kTerms}));
  const Expr loss = b.reduce_sum(x * shares, {0, 1}, false);
  g.outputs = {loss.id()};
  g.step = {{StepRole::loss, loss.id()}, {StepRole::loss_shares, shares.id()}};
  std::vector<Batch> batches(4);
  for (std::size_t i = 0; i < batches.size(); ++i) {
    Tensor rows(DType::f32, {1, kTerms});
    std::ranges::fill(rows.span<float>(), static_cast<float>(i + 1));
    batches[i].x = {rows};
    batches[i].rows = 1;
    batches[i].at.row = static_cast<std::int64_t>(i);
  }
  const auto executor = emulated_executor();
  const auto store = executor->make_store();
  StepProgram program(g, *executor, *store);
  Batches reader(batches);
  for (std::size_t i = 0; i < batches.size(); ++i) {
    const Batch* batch = reader.next();
    const std::vector<float> own(kTerms, static_cast<float>(10 * (i + 1)));
    program.run(*batch, 0, true, own, &reader);
    EXPECT_EQ(program.loss(), static_cast<float>((i + 1) * 10 * (i + 1) * kTerms)) << "step " << i;
  }
}

std::size_t least_of(const std::string& refusal) {
  const std::string before = "at least ";
  const std::size_t at = refusal.find(before);
  return at == std::string::npos ? 0 : std::stoull(refusal.substr(at + before.size()));
}

TEST_F(TrainerOnGpu, KeepsToABudgetOfTheDevicesMemoryWithTheSameLosses) {
  const auto executor = emulated_executor();
  const Trained whole = train(*executor);
  std::string refused;
  try {
    train(*executor, 1);
  } catch (const Error& error) {
    refused = error.what();
  }
  EXPECT_THAT(refused, testing::Not(HasSubstr("the process"))) << "which is not in the device's memory";
  const std::size_t least = least_of(refused);
  ASSERT_GT(least, 0U) << refused;
  ASSERT_LT(least, whole.predicted);
  EXPECT_LT(whole.predicted, std::size_t{10} << 20) << "less than a process takes";
  for (const std::size_t budget : {(whole.predicted + least) / 2, least}) {
    SCOPED_TRACE(budget);
    const Trained run = train(*executor, budget);
    EXPECT_LE(run.predicted, budget);
    EXPECT_LT(run.taken, whole.taken);
    EXPECT_LT(run.taken - run.predicted, std::size_t{64} << 10) << "tables of addresses and handles";
    EXPECT_LT(run.most, budget + (std::size_t{64} << 10)) << "before the step was within the budget";
    EXPECT_EQ(run.losses, whole.losses);
    ASSERT_EQ(run.parameters.size(), whole.parameters.size());
    for (const auto& [name, tensor] : run.parameters) EXPECT_TRUE(identical(tensor, whole.parameters.at(name))) << name;
  }
}

}  // namespace
}  // namespace halfstep::cudnn
