// Training within a number of bytes: the same losses, less memory, and an error where that cannot be.
#include <algorithm>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include <fmt/format.h>
#include <fmt/ranges.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/paths.h"
#include "tests/training/deep_model.h"
#include <halfstep/base/byte_count.h>
#include <halfstep/base/error.h>
#include <halfstep/executors/memory_use.h>
#include <halfstep/training/trainer.h>
#include <halfstep/training/training_step.h>

namespace halfstep {
namespace {

using ::testing::HasSubstr;

constexpr std::int64_t kRows = 10, kBatch = 8;  // the last batch is a smaller one

Tensor images() {
  Tensor x(DType::f32, {kRows, 3, 64, 64});
  for (std::int64_t i = 0; i < x.count(); ++i) x.data<float>()[i] = static_cast<float>(i * 37 % 101) / 100;
  return x;
}
Tensor classes() {
  Tensor y(DType::i64, {kRows});
  for (std::int64_t i = 0; i < kRows; ++i) y.data<std::int64_t>()[i] = i % 8;
  return y;
}

LoadedModel resnet() { return load_model(test::source_dir() / "models" / "zoo" / "resnet-torchscript" / "model.onnx"); }

struct Trained {
  std::vector<float> losses;
  NamedTensors parameters;
  std::size_t peak = 0;     // as inspect --memory predicts it
  std::size_t largest = 0;  // parameter
};

Trained train(Executor& executor, std::size_t budget) {
  Trainer trainer(test::deep_model(64), executor, Dataset(DataArray::of(images(), "x"), DataArray::of(classes(), "y")),
                  {.precision = Precision::fp32, .epochs = 2, .batch_size = kBatch, .memory_budget = budget});
  Trained run;
  trainer.fit({.on_step = [&](const StepResult& result) { run.losses.push_back(result.loss); }});
  run.parameters = trainer.parameters();
  for (const auto& [name, tensor] : run.parameters) run.largest = std::max(run.largest, tensor.bytes());
  const MemoryUse memory = trainer.memory().value();
  run.peak = memory.total() + trainer.beside_step().total();
  EXPECT_EQ(trainer.beside_step().saving, run.largest);
  return run;
}

std::string refusal(Executor& executor, std::size_t budget) {
  try {
    train(executor, budget);
  } catch (const Error& error) {
    return error.what();
  }
  return {};
}

TEST(MemoryBudget, ATrainerKeepsToItWithTheSameLosses) {
  const auto executor = make_onednn_executor();
  const Trained whole = train(*executor, 0);
  const std::string refused = refusal(*executor, 1);
  ASSERT_THAT(refused, HasSubstr("a memory budget of at least "));
  EXPECT_THAT(refused, HasSubstr("the peak is at '"));
  EXPECT_THAT(refused, HasSubstr("activations "));
  const std::size_t least = std::stoull(refused.substr(refused.find("at least ") + std::string("at least ").size()));
  EXPECT_LT(least, whole.peak) << refused;
  for (const std::size_t budget : {whole.peak, (whole.peak + least) / 2, least}) {
    SCOPED_TRACE(budget);
    const Trained run = train(*executor, budget);
    EXPECT_LE(run.peak, budget);
    EXPECT_EQ(run.losses, whole.losses);
    ASSERT_EQ(run.parameters.size(), whole.parameters.size());
    for (const auto& [name, tensor] : run.parameters) EXPECT_TRUE(identical(tensor, whole.parameters.at(name))) << name;
  }
}

TEST(MemoryBudget, ATrainingStepKeepsToIt) {
  const auto executor = make_onednn_executor();
  const NamedTensors batch = [] {
    const LoadedModel model = resnet();
    return NamedTensors{{model.graph[model.graph.inputs[0]].name, images()}, {"labels", classes()}};
  }();
  const auto losses = [&](std::size_t budget) {
    TrainingStep step(resnet(), *executor, {.precision = Precision::fp32, .memory_budget = budget});
    std::vector<float> result;
    for (int i = 0; i < 2; ++i) result.push_back(step.run(batch).loss);
    result.push_back(step.forward_backward(batch).loss);
    step.update();
    result.push_back(step.evaluate(batch).loss);
    return result;
  };
  const std::vector<float> whole = losses(0);
  std::size_t least = 0;
  try {
    losses(1);
  } catch (const Error& error) {
    const std::string text = error.what();
    ASSERT_THAT(text, HasSubstr("at least "));
    least = std::stoull(text.substr(text.find("at least ") + std::string("at least ").size()));
  }
  ASSERT_GT(least, 0u);
  EXPECT_EQ(losses(least * 11 / 10), whole);
}

TEST(MemoryBudget, TheReferenceExecutorKeepsToItToo) {
  const auto executor = make_reference_executor();
  EXPECT_EQ(refusal(*executor, 1'000'000'000), "");
  EXPECT_THAT(refusal(*executor, 1), HasSubstr("at least"));
}

TEST(MemoryBudget, BytesAreWrittenInUnits) {
  const std::pair<const char*, std::size_t> good[] = {
      {"1", 1},
      {"1000000", 1'000'000},
      {"500MB", 500'000'000},
      {"500M", 500'000'000},
      {"2GiB", 2ull << 30},
      {"1.5 gib", 3ull << 29},
      {"64k", 64'000},
      {"64KiB", 65'536},
      {"0.5TB", 500'000'000'000},
      {"7 B", 7},
  };
  for (const auto& [text, bytes] : good) EXPECT_EQ(parse_byte_count(text, "a budget"), bytes) << text;
  for (const char* text : {"", "0", "-1", "MB", "5XB", "5 MBs", "1e40", "nan", "inf", "0x10", "5iB", "0.2"})
    EXPECT_THROW(parse_byte_count(text, "a budget"), Error) << text;
}

}  // namespace
}  // namespace halfstep
