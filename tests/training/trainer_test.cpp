#include "training/trainer.h"

#include <array>
#include <memory>
#include <string>
#include <vector>

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "graph/error.h"
#include "tests/temporary_directory.h"

namespace halfstep {
namespace {

using testing::HasSubstr;

/// Rows whose squared error overflows f32, whatever the loss scale: every step is skipped.
Dataset overflowing_rows() {
  Tensor x(DType::f32, {4, 2}), y(DType::f32, {4, 1});
  for (float& value : x.span<float>()) value = 1e30f;
  for (float& value : y.span<float>()) value = -1e30f;
  return Dataset(DataArray::of(x, "x"), DataArray::of(y, "y"));
}

LoadedModel linear_model() {
  return parse_model(R"(<ir_version: 10, opset_import: ["": 24]> test
    (float[N, 2] x) => (float[N, 1] y) <float[2, 1] w = {1, 1}> { y = MatMul(x, w) })");
}

TEST(Trainer, GivesUpWhenTheLossScaleHasNothingLeftToGive) {
  struct Case {
    double loss_scale;  // 0: off
    std::int64_t accumulate, steps;
  };
  // Five updates, and one for each halving that brings the scale to 1.
  const Case cases[] = {{0, 1, 5}, {1, 1, 5}, {8, 1, 8}, {9, 1, 9}, {8, 2, 16}, {1e30, 1, 105}};
  const std::unique_ptr<Executor> executor = make_reference_executor();
  for (const Case& c : cases) {
    const TrainerOptions options{.optimizer = {.accumulate = c.accumulate},
                                 .precision = Precision::fp32,
                                 .loss_scale = c.loss_scale,
                                 .epochs = 1000,
                                 .max_skipped_in_a_row = 5};
    Trainer trainer(linear_model(), *executor, overflowing_rows(), options);
    std::int64_t steps = 0;
    float scale = 0;
    const TrainerCallbacks callbacks{.on_step = [&](const StepResult& result) {
      EXPECT_FALSE(result.grads_finite);
      steps = result.step;
      scale = result.loss_scale;
    }};
    EXPECT_THAT(error_of(Error::Kind::failure, [&] { trainer.fit(callbacks); }), HasSubstr("non-finite"));
    EXPECT_EQ(steps, c.steps) << "loss scale " << c.loss_scale << ", " << c.accumulate << " batches an update";
    EXPECT_EQ(scale, 1) << "the last steps ran unscaled";
  }
}

TEST(Trainer, SeveralInputsLearnAsTheirConcatenationDoes) {
  const std::unique_ptr<Executor> executor = make_reference_executor();
  Tensor x(DType::f32, {6, 5}), a(DType::f32, {6, 2}), y(DType::f32, {6, 1});
  Tensor b(DType::i64, {6, 3});
  for (std::int64_t row = 0; row < 6; ++row) {
    for (std::int64_t column = 0; column < 5; ++column) {
      const std::int64_t value = (row * 7 + column * 3) % 5 - 2;
      x.data<float>()[row * 5 + column] = static_cast<float>(value);
      if (column < 2)
        a.data<float>()[row * 2 + column] = static_cast<float>(value);
      else
        b.data<std::int64_t>()[row * 3 + column - 2] = value;
    }
    y.data<float>()[row] = static_cast<float>(row % 3);
  }
  const TrainerOptions options{.precision = Precision::fp32, .steps = 7, .batch_size = 4, .shuffle = false};
  const DataArray targets = DataArray::of(y, "y");
  const auto train = [&](const char* model, const Dataset& data, const Dataset& held_out) {
    Trainer trainer(parse_model(model), *executor, data, options);
    std::vector<double> losses;
    trainer.fit({.on_step = [&](const StepResult& result) { losses.push_back(result.loss); }});
    losses.push_back(trainer.evaluate(held_out).loss);
    return losses;
  };
  const Dataset whole(DataArray::of(x, "x"), targets);
  const std::vector<double> expected =
      train(R"(<ir_version: 10, opset_import: ["": 24]> one (float[N, 5] x) => (float[N, 1] y)
               <float[5, 1] w = {1, -1, 0.5, 0.25, -0.5}> { y = MatMul(x, w) })",
            whole, whole);
  const Dataset::Input first{"a", DataArray::of(a, "a.npy")}, second{"b", DataArray::of(b, "b.npy")};
  const std::vector<double> losses =
      train(R"(<ir_version: 10, opset_import: ["": 24]> two (float[N, 2] a, int64[N, 3] b) => (float[N, 1] y)
               <float[2, 1] v = {1, -1}, float[3, 1] w = {0.5, 0.25, -0.5}>
               { c = Cast<to = 1>(b) p = MatMul(a, v) q = MatMul(c, w) y = Add(p, q) })",
            Dataset({first, second}, targets), Dataset({second, first}, targets));
  ASSERT_EQ(losses.size(), expected.size());
  EXPECT_LT(losses[6], losses[0]) << "the same rows, six steps later";
  for (std::size_t i = 0; i < losses.size(); ++i)
    EXPECT_NEAR(losses[i], expected[i], 1e-5 * expected[i]) << "step " << i;
}

/// Losses of five steps of a model whose values are called so: two inputs, one between, the output.
std::vector<float> losses_with_names(std::array<std::string, 4> names, LossKind loss, std::int64_t accumulate) {
  const auto& [first, second, inner, out] = names;
  const bool own = loss == LossKind::output;
  const std::string rest = own ? fmt::format("d = Sub({}, {}) {} = Mul(d, d)", inner, second, out)
                               : fmt::format("{} = Mul({}, {})", out, inner, second);
  const std::string text = fmt::format(
      R"(<ir_version: 10, opset_import: ["": 24]> m (float[N, 2] {0}, float[N, 1] {1}) => (float[N, 1] {3})
         <float[2, 1] w = {{1, -1}}> {{ {2} = MatMul({0}, w) {4} }})",
      first, second, inner, out, rest);
  Tensor a(DType::f32, {4, 2}), b(DType::f32, {4, 1}), y(DType::f32, {4, 1});
  for (std::size_t i = 0; i < 8; ++i) a.span<float>()[i] = static_cast<float>(i % 3);
  for (std::size_t i = 0; i < 4; ++i)
    b.span<float>()[i] = static_cast<float>(i + 1), y.span<float>()[i] = static_cast<float>(i % 2);
  std::vector<Dataset::Input> x{{"", DataArray::of(a, "a")}};
  if (!own) x.push_back({"", DataArray::of(b, "b")});
  TrainerOptions options{.precision = Precision::fp32, .loss_scale = 8, .steps = 6, .batch_size = 2, .shuffle = false};
  options.loss = loss;
  options.optimizer.accumulate = accumulate;
  const std::unique_ptr<Executor> executor = make_reference_executor();
  Trainer trainer(parse_model(text), *executor, Dataset(x, DataArray::of(y, "y")), options);
  std::vector<float> losses;
  trainer.fit({.on_step = [&](const StepResult& result) { losses.push_back(result.loss); }});
  return losses;
}

TEST(Trainer, ValuesMayBeCalledAsAPartOfTheStepIs) {
  const std::array<std::string, 4> plain{"a", "b", "h", "o"};
  const char* reserved[] = {"labels", "learning_rate", "update", "loss", "grad_norm", "grads_finite", "loss_scale"};
  for (const LossKind loss : {LossKind::mean_squared_error, LossKind::output}) {
    for (const std::int64_t accumulate : {1, 2}) {
      const std::vector<float> expected = losses_with_names(plain, loss, accumulate);
      EXPECT_NE(expected[0], expected[4]) << "it does not learn";
      for (const char* name : reserved) {
        for (std::size_t i = 0; i < plain.size(); ++i) {
          std::array<std::string, 4> names = plain;
          names[i] = name;
          EXPECT_EQ(losses_with_names(names, loss, accumulate), expected) << name << " for " << plain[i];
        }
      }
    }
  }
}

TEST(Trainer, AParameterCalledAsAPartOfTheStepIsRefused) {
  const std::unique_ptr<Executor> executor = make_reference_executor();
  const LoadedModel model = parse_model(R"(<ir_version: 10, opset_import: ["": 24]> test
    (float[N, 2] x) => (float[N, 1] y) <float[2, 1] loss = {1, 1}> { y = MatMul(x, loss) })");
  EXPECT_THAT(error_of(Error::Kind::input, [&] { Trainer(model, *executor, overflowing_rows(), {}); }),
              HasSubstr("'loss'"));
}

// Steps of one epoch over five rows of a model with inputs `a` and `b`, both [rows, 2], whose batch size is baked in.
std::int64_t steps_with_inputs(const std::string& a, const std::string& b) {
  const LoadedModel model = parse_model(fmt::format(R"(<ir_version: 10, opset_import: ["": 24]> test
    (float[{}, 2] a, float[{}, 2] b) => (float[N, 1] y) <float[2, 1] w = {{1, 1}}, float[2, 2] c = {{1, 2, 3, 4}}>
    {{ s = Add(a, b) t = Add(s, c) y = MatMul(t, w) }})",
                                                    a, b));
  const Tensor rows(DType::f32, {5, 2}), targets(DType::f32, {5, 1});
  const Dataset data({{"a", DataArray::of(rows, "a.npy")}, {"b", DataArray::of(rows, "b.npy")}},
                     DataArray::of(targets, "y.npy"));
  const std::unique_ptr<Executor> executor = make_reference_executor();
  std::int64_t steps = 0;
  const TrainerCallbacks callbacks{.on_step = [&](const StepResult& result) { steps = result.step; }};
  Trainer(model, *executor, data, {.precision = Precision::fp32, .epochs = 1, .batch_size = 3}).fit(callbacks);
  return steps;
}

TEST(Trainer, TakesTheBatchThatInputsAreFixedAt) {
  EXPECT_EQ(steps_with_inputs("2", "2"), 2);
  EXPECT_EQ(steps_with_inputs("2", "N"), 2);
  EXPECT_EQ(steps_with_inputs("N", "2"), 2);
  for (const auto& [a, b] : {std::pair("2", "1"), std::pair("1", "2")})
    EXPECT_THAT(error_of(Error::Kind::input, [&] { steps_with_inputs(a, b); }),
                HasSubstr(fmt::format("'a' has {}, 'b' has {}", a, b)));
}

TEST(Trainer, CallsOnStartOnceWithTheStepsAlreadyDone) {
  TemporaryDirectory dir;
  const std::unique_ptr<Executor> executor = make_reference_executor();
  Tensor x(DType::f32, {4, 2}), y(DType::f32, {4, 1});
  const Dataset data(DataArray::of(x, "x"), DataArray::of(y, "y"));
  TrainerOptions options{.precision = Precision::fp32, .steps = 3, .batch_size = 2, .checkpoint = dir.path()};
  std::vector<std::int64_t> starts;
  const TrainerCallbacks callbacks{.on_start = [&](std::int64_t steps) { starts.push_back(steps); }};
  Trainer(linear_model(), *executor, data, options).fit(callbacks);
  options.resume = dir.path();
  options.steps = 5;
  Trainer(linear_model(), *executor, data, options).fit(callbacks);
  EXPECT_THAT(starts, testing::ElementsAre(0, 3));
}

TEST(Trainer, OneRunAtATimeHasTheCheckpoints) {
  TemporaryDirectory dir;
  const std::unique_ptr<Executor> executor = make_reference_executor();
  Tensor x(DType::f32, {4, 2}), y(DType::f32, {4, 1});
  const Dataset data(DataArray::of(x, "x"), DataArray::of(y, "y"));
  const TrainerOptions options{
      .precision = Precision::fp32, .steps = 1, .batch_size = 2, .checkpoint = dir / "checkpoints"};
  std::string refusal;
  Trainer(linear_model(), *executor, data, options).fit({.on_start = [&](std::int64_t) {
    refusal = error_of(Error::Kind::failure, [&] { Trainer(linear_model(), *executor, data, options).fit({}); });
  }});
  EXPECT_THAT(refusal, testing::HasSubstr("one run at a time for the checkpoints"));
  EXPECT_NO_THROW(Trainer(linear_model(), *executor, data, options).fit({}));
}

}  // namespace
}  // namespace halfstep
