// What a mean, a random operator or a precision could make different on several ranks.
#include <algorithm>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/distributed/run_on.h"
#include "tests/support/error_of.h"
#include <halfstep/training/training_step.h>

namespace halfstep {
namespace {

using namespace test;
using ::testing::HasSubstr;

constexpr const char* kClasses =
    R"(<ir_version: 10, opset_import: ["": 24]> m (float[N, 2] x) => (float[N, 3] c)
       <float[2, 3] w = {1, 2, 3, 0.5, -1, 0}> { c = MatMul(x, w) })";

/// Eight rows of three classes, and a weight for each if wanted.
Dataset class_rows(bool weighted = true) {
  Tensor classes(DType::i64, {8}), weights(DType::f32, {8});
  for (std::int64_t i = 0; i < 8; ++i) classes.data<std::int64_t>()[i] = i % 3;
  for (std::int64_t i = 0; i < 8; ++i) weights.data<float>()[i] = i == 2 ? 0 : 0.25f * static_cast<float>(i % 4 + 1);
  std::vector<Dataset::Input> arrays{{"x", small_rows().x[0].rows}, {"classes", DataArray::of(classes, "classes")}};
  if (weighted) arrays.push_back({"weights", DataArray::of(weights, "weights")});
  return Dataset(std::move(arrays));
}

TEST(OnRanks, WeightsOfClassesAndSamplesWeighAsInOneBatch) {
  for (const bool of_classes : {true, false})
    for (const bool of_samples : {true, false}) {
      SCOPED_TRACE(fmt::format("classes {}, samples {}", of_classes, of_samples));
      Job job;
      job.model = [] { return parse_model(kClasses); };
      job.data = [=] { return class_rows(of_samples); };
      job.options.losses = {{.loss = "softmax_cross_entropy", .output = "c", .labels = "classes"}};
      if (of_classes) job.options.losses[0].class_weights = {1, 0.25, 3};
      if (of_samples) job.options.losses[0].sample_weights = "weights";
      job.options.metrics = parse_metrics("accuracy");
      job.options.batch_size = 5;
      job.validates = true;
      expect_the_same_on_ranks(job, {2, 4});
    }
}

TEST(TrainingStepOnRanks, WeightsOfClassesAndSamplesWeighAsInOneBatch) {
  const Dataset data = class_rows();
  Tensor x(DType::f32, {8, 2}), y(DType::i64, {8}), weights(DType::f32, {8});
  const std::vector<std::int64_t> all{0, 1, 2, 3, 4, 5, 6, 7};
  data.x[0].rows.read_rows(all, x.raw(), {});
  data.x[1].rows.read_rows(all, y.raw(), {});
  data.x[2].rows.read_rows(all, weights.raw(), {});
  const auto run = [&](const std::shared_ptr<Communicator>& ranks, std::vector<double>& numbers) {
    const std::unique_ptr<Executor> executor = make_onednn_executor({.threads = 1});
    TrainingStepOptions options{
        .loss = LossOptions{
            .terms = {{.loss = "softmax_cross_entropy", .class_weights = {1, 0.25, 3}, .sample_weights = "weights"}}}};
    options.optimizer.name = "sgd";
    options.learning_rate = 0.1;
    options.precision = Precision::fp32;
    options.ranks = ranks;
    TrainingStep step(parse_model(kClasses), *executor, options);
    const std::int64_t first = ranks && ranks->rank() == 1 ? 3 : 0, last = ranks && ranks->rank() == 0 ? 3 : 8;
    for (int i = 0; i < 3; ++i)
      numbers.push_back(
          step.run(
                  {{"x", x.rows(first, last)}, {"labels", y.rows(first, last)}, {"weights", weights.rows(first, last)}})
              .loss);
  };
  std::vector<double> alone, together[2];
  run(nullptr, alone);
  run_ranks(2, [&](const auto& ranks) { run(ranks, together[ranks->rank()]); });
  EXPECT_EQ(together[0], together[1]);
  for (std::size_t i = 0; i < alone.size(); ++i) expect_near(together[0][i], alone[i], fmt::format("step {}", i));
}

constexpr const char* kDropout =
    R"(<ir_version: 10, opset_import: ["": 24]> m (float[N, 8] x) => (float[N, 1] y, float[N, 8] d)
       <float[8, 1] w = {1, 2, 3, 4, 5, 6, 7, 8}, float r = {0.5}, bool t = {1}>
       { d = Dropout(x, r, t) y = MatMul(d, w) })";

/// What a rank drops is another choice than that of the others, and the same in each run.
TEST(OnRanks, DropoutDrawsNumbersOfItsOwnOnEachRank) {
  const auto run = [](std::vector<std::vector<float>>& masks, std::vector<float>& losses) {
    masks.assign(2, {});
    losses.assign(2, 0);
    run_ranks(2, [&](const auto& ranks) {
      const std::unique_ptr<Executor> executor = make_onednn_executor({.threads = 1});
      TrainingStep step(parse_model(kDropout), *executor, small_step(ranks));
      Tensor ones(DType::f32, {32, 8}), labels(DType::f32, {32, 1});
      std::ranges::fill(ones.span<float>(), 1.0f);
      const auto rank = static_cast<std::size_t>(ranks->rank());
      losses[rank] = step.run({{"x", ones}, {"labels", labels}}).loss;
      const Tensor mask = step.outputs().at("d").clone();
      masks[rank].assign(mask.span<float>().begin(), mask.span<float>().end());
    });
  };
  std::vector<std::vector<float>> masks, again;
  std::vector<float> losses, losses_again;
  run(masks, losses);
  run(again, losses_again);
  for (const std::vector<float>& mask : masks) {
    EXPECT_EQ(mask.size(), 256u);
    EXPECT_GT(std::ranges::count(mask, 0.0f), 64);
    EXPECT_GT(std::ranges::count(mask, 2.0f), 64);
  }
  EXPECT_NE(masks[0], masks[1]);
  EXPECT_EQ(masks, again);
  EXPECT_EQ(losses, losses_again);
  EXPECT_EQ(losses[0], losses[1]) << "of all rows";
}

TEST(SyncBatchNorm, InHalfPrecisionFollowsOneProcess) {
  for (const Precision precision : {Precision::bf16, Precision::fp16}) {
    Job job = uneven();
    job.model = [] {
      return parse_model(R"(<ir_version: 10, opset_import: ["": 24]> m (float[N, 2] x) => (float[N, 1] y)
        <float[2, 4] u = {1, 0.5, -1, 0.25, 0.5, -0.25, 1, -1}, float[4] g = {1, 1, 1, 1}, float[4] o = {0, 0, 0, 0},
         float[4] m = {0, 0, 0, 0}, float[4] v = {1, 1, 1, 1}, float[4, 1] w = {0.5, -1, 0.25, 1}>
        { z = MatMul(x, u) n = BatchNormalization(z, g, o, m, v) r = Relu(n) y = MatMul(r, w) })");
    };
    job.options.precision = precision;
    job.options.loss_scale = 128;  // no gradient is near the largest number
    job.options.sync_batchnorm = true;
    const Course alone = run_on(0, job);
    const double rounding = precision == Precision::bf16 ? 1.0 / 256 : 1.0 / 2048;
    for (const int size : {2, 4}) {
      const Course synced = run_on(size, job);
      ASSERT_EQ(synced.steps.size(), alone.steps.size());
      // Activations round to the type; a step adds a few such roundings of the loss.
      for (std::size_t i = 0; i < alone.steps.size(); ++i)
        expect_near(synced.steps[i].loss, alone.steps[i].loss, fmt::format("{} ranks, step {}", size, i + 1),
                    4 * rounding);
      EXPECT_TRUE(synced.steps.back().grads_finite);
    }
  }
}

/// An exception while gradients are under way destroys what they are added up in: the other rank learns of it.
TEST(OnRanks, AnExceptionBetweenStartAndWaitEndsTheOthers) {
  std::string other;
  EXPECT_THAT(
      error_of([&] {
        run_ranks(2, [&](const std::shared_ptr<Communicator>& ranks) {
          std::vector<float> values(100, 1);
          if (ranks->rank() == 1) {
            const auto reduction = ranks->make_all_reduce(values.data(), values.size(), DType::f32, Reduction::sum);
            reduction->start();
            throw_input_error("good data", "bad data", "");
          }
          other = error_of([&] {
            const auto reduction = ranks->make_all_reduce(values.data(), values.size(), DType::f32, Reduction::sum);
            reduction->start();
            reduction->wait();
            while (true) ranks->barrier();
          });
        });
      }),
      HasSubstr("bad data"));
  EXPECT_THAT(other, HasSubstr("the end of rank 1"));
}

}  // namespace
}  // namespace halfstep
