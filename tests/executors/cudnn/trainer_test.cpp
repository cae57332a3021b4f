// Training on the GPU as the program does it: batches that are copied while a step runs, and a budget of the device's
// memory. CUDA is emulated.
#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <set>
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
#include "tests/executors/cudnn/emulation/clock.h"
#include "tests/executors/cudnn/emulation/emulation.h"
#include "tests/support/half_copies.h"
#include "tests/temporary_directory.h"
#include "tests/training/deep_model.h"
#include "training/step_program.h"
#include <halfstep/base/error.h>
#include <halfstep/executors/memory_use.h>
#include <halfstep/onnx_io/load.h>
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
  std::size_t predicted = 0;             ///< bytes of the device
  std::size_t taken = 0;                 ///< at the end of a step
  std::size_t most = 0;                  ///< up to there
  int least_copies = 100;                ///< of a step, outside of a graph
  int launches = 0;                      ///< entries of the step's plan that run
  int casts = 0;                         ///< of these
  std::set<std::string> recurrent = {};  ///< kernels of recurrent networks
};

std::size_t memory_taken() {
  std::size_t free = 0, all = 0;
  cudaMemGetInfo(&free, &all);
  return all - free;
}

struct Setting {
  std::size_t budget = 0;
  Precision precision = Precision::fp32;
  const char* optimizer = "adam";
};
Trained train(Executor& executor, const Setting& setting = {}, const LoadedModel& model = test::deep_model(kSide),
              const Dataset& data = rows()) {
  emulation::most_memory();
  TrainerOptions options{
      .precision = setting.precision, .epochs = 2, .batch_size = kBatch, .memory_budget = setting.budget};
  options.optimizer.name = setting.optimizer;
  Trainer trainer(model, executor, data, options);
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
  for (const PlanEntry& entry : trainer.plan().entries) {
    const bool runs = entry.kernel != "alias" && entry.kernel != "fused" && !entry.reason.starts_with("made when");
    run.launches += runs;
    run.casts += runs && entry.op == "Cast";
    if (entry.kernel.ends_with(": recurrent")) run.recurrent.insert(entry.kernel);
  }
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
    train(*executor, {1});
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
    const Trained run = train(*executor, {budget});
    EXPECT_LE(run.predicted, budget);
    EXPECT_LT(run.taken, whole.taken);
    EXPECT_LT(run.taken - run.predicted, std::size_t{64} << 10) << "tables of addresses and handles";
    EXPECT_LT(run.most, budget + (std::size_t{64} << 10)) << "before the step was within the budget";
    EXPECT_EQ(run.losses, whole.losses);
    ASSERT_EQ(run.parameters.size(), whole.parameters.size());
    for (const auto& [name, tensor] : run.parameters) EXPECT_TRUE(identical(tensor, whole.parameters.at(name))) << name;
  }
}

constexpr int kSteps = 16, kHidden = 8;

/// Three LSTM networks, one behind the other.
LoadedModel recurrent_model() {
  std::string parameters, nodes, last = "x";
  const auto numbers = [](int count) {
    std::vector<std::string> all;
    for (int i = 0; i < count; ++i) all.push_back(fmt::format("{}", static_cast<double>(i * 7 % 13 - 6) / 40));
    return fmt::format("{}", fmt::join(all, ", "));
  };
  for (int i = 0; i < 3; ++i) {
    parameters += fmt::format("float[1, {0}, {1}] w{2} = {{{3}}}, float[1, {0}, {1}] r{2} = {{{3}}}, ", 4 * kHidden,
                              kHidden, i, numbers(4 * kHidden * kHidden));
    nodes += fmt::format("y{0} = LSTM <hidden_size = {1}, layout = 1> ({2}, w{0}, r{0}) z{0} = Reshape(y{0}, shape) ",
                         i, kHidden, last);
    last = fmt::format("z{}", i);
  }
  return parse_model(fmt::format(
      R"(<ir_version: 10, opset_import: ["": 24]> m (float[N, {4}, {0}] x) => (float[N, {0}] y)
         <{1} int64[3] shape = {{0, {4}, {0}}}, int64[1] axes = {{1}}>
         {{ {2} y = ReduceMean<keepdims = 0>({3}, axes) }})",
      kHidden, parameters, nodes, last, kSteps));
}

Dataset sequences() {
  Tensor x(DType::f32, {kBatch, kSteps, kHidden}), y(DType::f32, {kBatch, kHidden});
  for (std::int64_t i = 0; i < x.count(); ++i) x.data<float>()[i] = static_cast<float>(i * 37 % 101) / 100;
  for (std::int64_t i = 0; i < y.count(); ++i) y.data<float>()[i] = static_cast<float>(i % 8) / 8;
  return {DataArray::of(x, "x"), DataArray::of(y, "y")};
}

/// What cuDNN's networks leave to their gradients cannot be computed again: a step for which there is no room with them
/// has the generated ones.
TEST_F(TrainerOnGpu, LeavesRecurrentNetworksToTheGeneratedKernelsWhereMemoryIsShort) {
  const auto executor = emulated_executor();
  const Trained whole = train(*executor, {}, recurrent_model(), sequences());
  EXPECT_THAT(whole.recurrent, testing::ElementsAre("cudnn: recurrent"));
  emulation::machine().failing = "cudnnCreateRNNDescriptor";
  const Trained generated = train(*executor, {}, recurrent_model(), sequences());
  emulation::machine().failing = "";
  emulation::latest_refusal();
  EXPECT_THAT(generated.recurrent, testing::ElementsAre("generated: recurrent"));
  ASSERT_LT(generated.predicted, whole.predicted);
  const auto expect_generated = [&](const Trained& run) {
    EXPECT_THAT(run.recurrent, testing::ElementsAre("generated: recurrent"));
    EXPECT_EQ(run.losses, generated.losses) << "which are those of every run";
  };
  const Trained within =
      train(*executor, {(generated.predicted + whole.predicted) / 2}, recurrent_model(), sequences());
  expect_generated(within);
  EXPECT_EQ(within.predicted, generated.predicted);
  // The same without a budget, where the device has no more.
  emulation::machine().memory = (generated.predicted + whole.predicted) / 2;
  expect_generated(train(*emulated_executor(), {}, recurrent_model(), sequences()));
}

/// Where a process that knows no times begins with a budget.
TEST_F(TrainerOnGpu, KeepsToABudgetWhileKernelsAreTimed) {
  const TemporaryDirectory folder;
  const auto executor = emulated_executor();
  const Trained whole = train(*executor);
  const std::size_t budget = whole.predicted * 3 / 4;
  emulation::duration() = [](std::string_view, int number) { return number == 3 ? 0.5 : 1; };
  ::setenv("HALFSTEP_KERNEL_CACHE", folder.path().c_str(), 1);
  const Trained run = train(*executor, {budget});
  ::setenv("HALFSTEP_KERNEL_CACHE", "/proc/nothing", 1);
  emulation::duration() = {};
  EXPECT_THAT(read_text(folder / "choices.json"), HasSubstr("engine 3 k2=13; measured 0.5 us"));
  EXPECT_LT(run.most, budget + (std::size_t{64} << 10));
}

/// The optimizer's launch writes the half copies, which no step casts. "adafactor" has no kernel of its own; the sums
/// of "lamb" are rounds before it.
TEST_F(TrainerOnGpu, WritesHalfCopiesWithTheParameters) {
  constexpr int kParameters = 5;
  const std::pair<const char*, Precision> cases[] = {
      {"adam", Precision::bf16}, {"sgd", Precision::fp16}, {"lamb", Precision::bf16}, {"adafactor", Precision::fp16}};
  for (const auto& [name, type] : cases) {
    const char* optimizer = name;
    const Precision precision = type;
    SCOPED_TRACE(optimizer);
    const auto run = [&](bool half_copies, std::size_t budget = 0) {
      test::HalfCopiesExecutor executor(emulated_executor(), half_copies);
      return train(executor, {budget, precision, optimizer});
    };
    const Trained casts = run(false), copies = run(true);
    EXPECT_EQ(copies.losses, casts.losses);
    for (const auto& [name, tensor] : copies.parameters)
      EXPECT_TRUE(identical(tensor, casts.parameters.at(name))) << name;
    EXPECT_EQ(copies.casts, casts.casts - kParameters);
    EXPECT_EQ(copies.launches, casts.launches - kParameters);
    EXPECT_LT(copies.taken - copies.predicted, std::size_t{64} << 10);
    if (std::string(optimizer) != "adam") continue;
    const Trained less = run(true, copies.predicted - 1);
    EXPECT_LT(less.predicted, copies.predicted);
    EXPECT_EQ(less.losses, casts.losses);
  }
}

}  // namespace
}  // namespace halfstep::cudnn
