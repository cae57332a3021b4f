// A TrainingStep with the options of ranks: what each of them leaves as it is, and what it keeps.
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <functional>
#include <initializer_list>
#include <memory>
#include <string>
#include <vector>

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/allocations.h"
#include "tests/distributed/run_on.h"
#include "tests/support/error_of.h"
#include <halfstep/ops/optimizers/optimizer_def.h>
#include <halfstep/training/training_step.h>

namespace halfstep {
namespace {

using namespace test;
using ::testing::Contains;
using ::testing::HasSubstr;
using ::testing::Key;
using ::testing::Not;

/// Two outputs, of which `z` is computed from w and b alone.
constexpr const char* kTwoLayers = R"(<ir_version: 10, opset_import: ["": 24]> m (float[N, 2] x) => (float[N, 1] y,
  float[N, 3] z) <float[2, 3] w = {0.5, -1, 0.25, 1, 0.125, -0.5}, float[3] b = {0, 0.5, -0.5},
                  float[3, 1] v = {1, -1, 0.5}, float[1] c = {0}> { z = Gemm(x, w, b) t = Tanh(z) y = Gemm(t, v, c) })";
constexpr const char* kNormalized = R"(<ir_version: 10, opset_import: ["": 24]> m (float[N, 2] x) => (float[N, 1] y)
  <float[2] g = {1, 1}, float[2] o = {0, 0}, float[2] m = {0, 0}, float[2] v = {1, 1}, float[2, 1] w = {0.5, -1}>
  { n = BatchNormalization(x, g, o, m, v) y = MatMul(n, w) })";

/// Rows for a rank of `size`: other ones for each, of another number for the first.
NamedTensors batch_of(int rank) {
  const std::int64_t rows = rank == 0 ? 3 : 2;
  Tensor x(DType::f32, {rows, 2}), y(DType::f32, {rows, 1});
  for (std::int64_t i = 0; i < x.count(); ++i) x.data<float>()[i] = static_cast<float>((i * 5 + 3 * rank) % 7 - 3) / 4;
  for (std::int64_t i = 0; i < y.count(); ++i) y.data<float>()[i] = static_cast<float>((i + rank) % 2);
  return {{"x", x}, {"labels", y}};
}

TrainingStepOptions options_of(std::string_view optimizer = "adam") {
  TrainingStepOptions options{.loss = LossOptions{.terms = {{.loss = "mean_squared_error"}}}};
  options.optimizer.name = optimizer;
  options.learning_rate = 0.05;
  options.precision = Precision::fp32;
  return options;
}

using Work = std::function<void(TrainingStep& step, const NamedTensors& batch)>;

struct Ranks {
  const char* model = kTwoLayers;
  TrainingStepOptions options = options_of();

  /// Has each of `size` ranks do `work`; the whole state of rank 0 then.
  NamedTensors do_on(int size, const Work& work) const {
    NamedTensors state;
    run_ranks(size, [&](const auto& ranks) {
      const std::unique_ptr<Executor> executor = make_onednn_executor({.threads = 1});
      TrainingStepOptions own = options;
      own.ranks = ranks;
      TrainingStep step(parse_model(model), *executor, own);
      work(step, batch_of(ranks->rank()));
      const NamedTensors whole = step.state();
      if (ranks->rank() == 0) state = whole;
    });
    return state;
  }
  Ranks sharded() const {
    Ranks result = *this;
    result.options.sharded_optimizer = true;
    return result;
  }
};

void run_three(TrainingStep& step, const NamedTensors& batch) {
  for (int i = 0; i < 3; ++i) step.run(batch);
}

/// By parts; of the last gradients only w and b have some.
void run_in_parts(TrainingStep& step, const NamedTensors& batch) {
  step.run(batch);
  step.forward_backward(batch);
  step.forward_backward(batch, 0.5);
  step.update();
  Tensor gradient(DType::f32, {batch.at("x").shape()[0], 3});
  std::ranges::fill(gradient.span<float>(), 0.25f);
  step.backward({{"x", batch.at("x")}}, {{"z", gradient}});
  step.update();
  step.run(batch);
}

TEST(ShardedTrainingStep, GivesTheSameBitsAndTheSameStateForEveryOptimizer) {
  for (const OptimizerDef& row : optimizers())
    for (const Work work : {run_three, run_in_parts})
      for (const int size : {2, 3}) {
        const Ranks whole{.options = options_of(row.name)};
        EXPECT_TRUE(same_bits(whole.sharded().do_on(size, work), whole.do_on(size, work)))
            << row.name << " on " << size;
      }
}

TEST(ShardedTrainingStep, ARankHasTheMomentsOfItsPart) {
  const auto state_bytes = [](bool is_sharded) {
    std::vector<std::size_t> result(2);
    Ranks ranks;
    ranks.options.sharded_optimizer = is_sharded;
    ranks.do_on(2, [&](TrainingStep& step, const NamedTensors& batch) {
      const bool is_first = batch.at("x").shape() == batch_of(0).at("x").shape();
      result[is_first ? 0 : 1] = step.plan(batch).state_bytes;
    });
    return result;
  };
  const std::vector<std::size_t> whole = state_bytes(false), parts = state_bytes(true);
  for (const int rank : {0, 1}) EXPECT_LT(parts[rank], whole[rank]) << rank;
}

TEST(ShardedTrainingStep, AccumulatesAsTheWholeOne) {
  Ranks whole;
  whole.options.optimizer.accumulate = 3;
  whole.options.optimizer.clip_norm = 0.1;
  EXPECT_TRUE(same_bits(whole.sharded().do_on(2, run_three), whole.do_on(2, run_three)));
}

/// From and to any number of ranks, with or without.
TEST(ShardedTrainingStep, AStateIsTheWholeAndGoesOnAnywhere) {
  const Ranks whole;
  const auto go_on_from = [](const NamedTensors& state) {
    return [state](TrainingStep& step, const NamedTensors& batch) {
      step.load_state(state);
      step.run(batch);
      step.load_state(state);  // once it has a program
      step.run(batch);
    };
  };
  const NamedTensors state = whole.sharded().do_on(2, run_three);
  EXPECT_THAT(state, Contains(Key("adam.m.w")));
  EXPECT_THAT(state, Contains(Key("adam.m.v")));
  const NamedTensors wanted = whole.do_on(3, go_on_from(state));
  EXPECT_FALSE(same_bits(wanted, state));
  EXPECT_TRUE(same_bits(whole.sharded().do_on(3, go_on_from(state)), wanted));
}

/// y = x w with labels far away: the gradient of |y - label| is -x in every step, which bf16 rounds.
TEST(HalfGradientsOfATrainingStep, WhatRoundingTakesIsSentLater) {
  constexpr float kGradient = 1.0f + 0x1p-10f;
  Ranks ranks;
  ranks.model = R"(<ir_version: 10, opset_import: ["": 24]> m (float[N, 1] x) => (float[N, 1] y)
                   <float[1, 1] w = {0}> { y = MatMul(x, w) })";
  ranks.options = options_of("sgd");
  ranks.options.loss->terms[0].loss = "l1";
  ranks.options.learning_rate = 1;
  ranks.options.gradient_dtype = DType::bf16;
  Tensor x(DType::f32, {1, 1}), y(DType::f32, {1, 1});
  x.data<float>()[0] = kGradient;
  y.data<float>()[0] = 1e6f;
  const NamedTensors batch{{"x", x}, {"labels", y}};
  const auto steps = [&](int count) {
    return [&batch, count](TrainingStep& step, const NamedTensors&) {
      for (int i = 0; i < count; ++i) step.run(batch);
    };
  };
  const NamedTensors one = ranks.do_on(2, steps(1)), many = ranks.do_on(2, steps(64));
  EXPECT_EQ(*one.at("w").data<float>(), 1.0f) << "the first gradient loses its last digit";
  EXPECT_LE(std::abs(*many.at("w").data<float>() - 64 * kGradient), 0x1p-8);
  ASSERT_TRUE(one.contains("gradient_residual.w"));

  // A state goes on with what is held back, and without where it has none.
  const auto from = [&](NamedTensors state, int count) {
    return [state = std::move(state), &batch, count](TrainingStep& step, const NamedTensors&) {
      step.run(batch);  // has the state that is loaded
      step.load_state(state);
      for (int i = 0; i < count; ++i) step.run(batch);
    };
  };
  EXPECT_TRUE(same_bits(ranks.do_on(2, from(one, 63)), many));
  // Whatever their number: of all ranks together it is the same.
  const float lacking = *one.at("gradient_residual.w").data<float>();
  EXPECT_NE(lacking, 0);
  EXPECT_EQ(*ranks.do_on(4, from(one, 0)).at("gradient_residual.w").data<float>(), lacking);
  NamedTensors bare = one;
  bare.erase("gradient_residual.w");
  EXPECT_EQ(*ranks.do_on(2, from(bare, 1)).at("w").data<float>(), 2.0f);
  ranks.options.gradient_dtype = DType::f32;
  EXPECT_THAT(ranks.do_on(2, from(one, 1)), Not(Contains(Key("gradient_residual.w"))));
}

TEST(HalfGradientsOfATrainingStep, AreRefusedWhereTheyCannotBe) {
  Ranks ranks;
  ranks.options.gradient_dtype = DType::f16;
  EXPECT_THAT(error_of([&] { ranks.do_on(2, run_three); }), HasSubstr("a loss scale, for gradients in fp16"));
  ranks.options.gradient_dtype = DType::i32;
  EXPECT_THAT(error_of([&] { ranks.do_on(2, run_three); }), HasSubstr("gradients in f32, bf16 or f16, got i32"));
}

TEST(TrainingStepOnRanks, StatisticsAreSharedOnRequestOrTakenTogether) {
  const auto means = [](bool sync, bool share) {
    std::vector<Tensor> result(2);
    run_ranks(2, [&](const auto& ranks) {
      const std::unique_ptr<Executor> executor = make_onednn_executor({.threads = 1});
      TrainingStepOptions options = options_of();
      options.ranks = ranks;
      options.sync_batchnorm = sync;
      TrainingStep step(parse_model(kNormalized), *executor, options);
      run_three(step, batch_of(ranks->rank()));
      if (share) step.share_statistics();
      result[static_cast<std::size_t>(ranks->rank())] = step.statistics().at("m");
    });
    return result;
  };
  const std::vector<Tensor> own = means(false, false), shared = means(false, true), together = means(true, false);
  EXPECT_FALSE(identical(own[0], own[1]));
  EXPECT_TRUE(identical(shared[0], own[0]));
  EXPECT_TRUE(identical(shared[1], own[0]));
  EXPECT_TRUE(identical(together[0], together[1]));
  EXPECT_FALSE(identical(together[0], own[0]));
}

TEST(TrainingStepOnRanks, OutputsWithStatisticsOfAllRanksAreRefused) {
  Ranks ranks;
  ranks.options.sync_batchnorm = true;
  EXPECT_THAT(
      error_of([&] {
        ranks.do_on(2, [](TrainingStep& step, const NamedTensors& batch) { step.forward({{"x", batch.at("x")}}); });
      }),
      HasSubstr("statistics of all ranks"));
}

TEST(TrainingStepOnRanks, AnUpdateTakesTheLearningRateOfTheFirstRank) {
  std::vector<Tensor> parameters(2);
  run_ranks(2, [&](const auto& ranks) {
    const std::unique_ptr<Executor> executor = make_onednn_executor({.threads = 1});
    TrainingStepOptions options = options_of("sgd");
    options.ranks = ranks;
    TrainingStep step(parse_model(kTwoLayers), *executor, options);
    step.forward_backward(batch_of(ranks->rank()));
    step.set_learning_rate(ranks->rank() == 0 ? 0.1 : 0.5);
    step.update();
    parameters[static_cast<std::size_t>(ranks->rank())] = step.flat_parameters();
  });
  EXPECT_TRUE(identical(parameters[0], parameters[1]));
}

/// Beside what a step by itself does, and the one exchange before it.
TEST(TrainingStepOnRanks, AStepAllocatesNothingMore) {
  const std::shared_ptr<Communicator> rank = make_local_communicators(1)[0];
  const auto allocations = [](const auto& work) {
    for (int i = 0; i < 3; ++i) work();
    const testing::AllocationCounter counter;
    work();
    return counter.count();
  };
  const auto of_step = [&](const std::shared_ptr<Communicator>& ranks) {
    const std::unique_ptr<Executor> executor = make_onednn_executor({.threads = 1});
    TrainingStepOptions options = options_of();
    options.loss->terms[0].sample_weights = "weights";
    options.ranks = ranks;
    TrainingStep step(parse_model(kTwoLayers), *executor, options);
    NamedTensors batch = batch_of(0);
    batch["weights"] = Tensor::of<float>({1, 2, 0.5});
    return allocations([&] { step.run(batch); });
  };
  std::vector<double> numbers(8);
  const std::unique_ptr<AllReduce> exchange =
      rank->make_all_reduce(numbers.data(), numbers.size(), DType::f64, Reduction::sum);
  const long of_exchange = allocations([&] {
    exchange->start();
    exchange->wait();
  });
  EXPECT_EQ(of_step(rank), of_step(nullptr) + of_exchange);
}

}  // namespace
}  // namespace halfstep
