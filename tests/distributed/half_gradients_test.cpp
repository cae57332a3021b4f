// Gradients that are added up in a half type, with what rounding takes from them carried to the next ones.
#include <cmath>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/distributed/run_on.h"
#include "tests/support/error_of.h"
#include "tests/temporary_directory.h"
#include <halfstep/onnx_io/load.h>
#include <halfstep/training/callbacks.h>
#include <halfstep/training/checkpoint.h>

namespace halfstep {
namespace {

using namespace test;

using ::testing::HasSubstr;

/// y = x w with labels far away: the gradient of |y - label| is -x in every step.
constexpr float kGradient = 1.0f + 0x1p-10f;  // bf16 has seven digits behind the point
Job constant_gradient(std::int64_t steps) {
  Job job;
  job.model = [] {
    return parse_model(R"(<ir_version: 10, opset_import: ["": 24]> m (float[N, 1] x) => (float[N, 1] y)
      <float[1, 1] w = {0}> { y = MatMul(x, w) })");
  };
  job.data = [] {
    Tensor x(DType::f32, {8, 1}), y(DType::f32, {8, 1});
    std::ranges::fill(x.span<float>(), kGradient);
    std::ranges::fill(y.span<float>(), 1e6f);
    return Dataset(DataArray::of(x, "x"), DataArray::of(y, "y"));
  };
  job.options.losses = {{"l1"}};
  job.options.optimizer = {.name = "sgd"};
  job.options.schedule.base_lr = 1;
  job.options.batch_size = 8;
  job.options.steps = steps;
  job.options.gradient_dtype = DType::bf16;
  return job;
}

double weight_of(const Course& run) { return run.parameters.at("w").data<float>()[0]; }

TEST(HalfGradients, WhatRoundingTakesIsSentLater) {
  for (const int size : {2, 4})
    for (const std::int64_t steps : {1, 16, 64}) {
      // What a rank holds back is at most half of the last digit of its share, 1 / size.
      const double wanted = static_cast<double>(steps) * kGradient;
      EXPECT_LE(std::abs(weight_of(run_on(size, constant_gradient(steps))) - wanted), 0x1p-8)
          << size << " ranks, " << steps << " steps";
    }
  EXPECT_EQ(weight_of(run_on(2, constant_gradient(1))), 1.0) << "the first gradient loses its last digit";
}

TEST(HalfGradients, TheLossScaleMayChangeInBetween) {
  Job job = constant_gradient(64);
  job.options.loss_scale = 1024;
  job.options.optimizer.loss_scale.growth_interval = 3;
  for (const DType dtype : {DType::bf16, DType::f16}) {
    job.options.gradient_dtype = dtype;
    const Course run = run_on(2, job);
    std::int64_t updates = run.steps.back().update;
    EXPECT_LE(std::abs(weight_of(run) - static_cast<double>(updates) * kGradient), 0x1p-8) << name_of(dtype);
    // fp16 ends at 65504: scales beyond are tried, and their steps skipped.
    EXPECT_EQ(updates < 64, dtype == DType::f16);
    EXPECT_GT(updates, 40);
  }
}

/// An update of several batches: one that is skipped loses what rounding took from its earlier batches, and no more.
TEST(HalfGradients, AnOverflowWhileAccumulatingLosesOneRounding) {
  Job job = constant_gradient(128);
  job.options.gradient_dtype = DType::f16;
  job.options.loss_scale = 1024;
  job.options.optimizer.loss_scale.growth_interval = 3;
  job.options.optimizer.accumulate = 2;
  for (const int size : {2, 4}) {
    const Course run = run_on(size, job);
    const std::int64_t updates = run.steps.back().update, skipped = run.steps.back().skipped;
    EXPECT_EQ(updates + skipped, 64);
    EXPECT_GT(skipped, 0);
    EXPECT_GT(updates, 40);
    EXPECT_LE(std::abs(weight_of(run) - static_cast<double>(updates) * kGradient),
              static_cast<double>(1 + skipped) * 0x1p-10)
        << size;
  }
}

TEST(HalfGradients, AModelConvergesAsWithFullOnes) {
  Job job = zoo("mlp-torchscript");
  job.options.schedule.base_lr = 0.01;
  const Course full = run_on(2, job);
  for (const bool sharded : {false, true}) {
    job.options.gradient_dtype = DType::bf16;
    job.options.sharded_optimizer = sharded;
    const Course half = run_on(2, job);
    for (std::size_t i = 0; i < full.steps.size(); ++i)
      expect_near(half.steps[i].loss, full.steps[i].loss, fmt::format("step {}", i), 1e-2);
    EXPECT_LT(half.steps.back().loss, half.steps.front().loss);
  }
}

TEST(HalfGradients, ACheckpointKeepsWhatIsNotYetSent) {
  for (const int after : {2, 4}) {
    TemporaryDirectory folder;
    Job first = constant_gradient(9), second = constant_gradient(64);
    first.options.checkpoint = folder / "checkpoint";
    run_on(2, first);
    const Checkpoint checkpoint = load_checkpoint(folder / "checkpoint").checkpoint;
    const double sent = checkpoint.tensors.at("w").data<float>()[0];
    const Tensor& left = checkpoint.kept.at("residuals of gradients").at("gradient_residual.w");
    EXPECT_NEAR(sent - left.data<float>()[0], 9 * kGradient, 1e-6) << "the gradient is negative";
    second.options.resume = folder / "checkpoint";
    EXPECT_LE(std::abs(weight_of(run_on(after, second)) - 64 * kGradient), 0x1p-8) << after;
  }
}

TEST(HalfGradients, ARunWithFullOnesGoesOnWithoutThem) {
  TemporaryDirectory folder;
  Job first = constant_gradient(9), second = constant_gradient(12);
  first.options.checkpoint = folder / "checkpoint";
  run_on(2, first);
  second.options.resume = folder / "checkpoint";
  second.options.gradient_dtype = DType::f32;
  EXPECT_LE(std::abs(weight_of(run_on(2, second)) - 12 * kGradient), 0x1p-7);
  // And one without residuals takes them up.
  TemporaryDirectory other;
  Job third = constant_gradient(9);
  third.options.gradient_dtype = DType::f32;
  third.options.checkpoint = other / "checkpoint";
  run_on(2, third);
  second.options.resume = other / "checkpoint";
  second.options.gradient_dtype = DType::bf16;
  EXPECT_LE(std::abs(weight_of(run_on(2, second)) - 12 * kGradient), 0x1p-8);
}

TEST(HalfGradients, AreRefusedWhereTheyCannotBe) {
  Job job = constant_gradient(1);
  job.options.gradient_dtype = DType::f16;
  EXPECT_THAT(error_of([&] { run_on(2, job); }), HasSubstr("a loss scale, for gradients in fp16"));
  job.options.gradient_dtype = DType::i32;
  EXPECT_THAT(error_of([&] { run_on(2, job); }), HasSubstr("gradients in f32, bf16 or f16, got i32"));
  EXPECT_THAT(error_of([] {
                run_ranks(2, [](const auto& ranks) {
                  Job own = constant_gradient(1);
                  if (ranks->rank() == 1) own.options.gradient_dtype = DType::f32;
                  run_rank(own, ranks);
                });
              }),
              HasSubstr("the same --gradient-precision on all ranks"));
}

}  // namespace
}  // namespace halfstep
