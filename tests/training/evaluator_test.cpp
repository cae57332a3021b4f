#include <cmath>
#include <memory>
#include <string>

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/temporary_directory.h"
#include <halfstep/base/error.h>
#include <halfstep/executors/core/backend.h>
#include <halfstep/training/evaluator.h>
#include <halfstep/training/trainer.h>

namespace halfstep {
namespace {

using testing::HasSubstr;

LoadedModel model(const std::string& text) {
  return parse_model(R"(<ir_version: 10, opset_import: ["": 24, "ai.halfstep": 1]> test )" + text);
}

Dataset rows_of(const Tensor& x, const Tensor& y) { return Dataset(DataArray::of(x, "x"), DataArray::of(y, "y")); }

/// Five rows that all have the label 2.
Dataset five_rows() {
  Tensor x(DType::f32, {5, 3}), y(DType::i64, {5});
  for (std::int64_t row = 0; row < 5; ++row) {
    for (std::int64_t i = 0; i < 3; ++i) x.data<float>()[row * 3 + i] = static_cast<float>(i == 2);
    y.data<std::int64_t>()[row] = 2;
  }
  return rows_of(x, y);
}

TEST(Evaluator, NeedsNoParametersAndNoGradients) {
  struct Case {
    const char* text;
    double scale;            // of x in the model's output
    const char* no_trainer;  // what the trainer says of the model
  };
  const Case cases[] = {
      {"(float[N, 3] x) => (float[N, 3] y) { y = Add(x, x) }", 2, "parameter"},
      // Gradient operators have no gradients of their own.
      {"(float[N, 3] x) => (float[N, 3] y) <float[3] w = {1, 1, 1}> "
       "{ a = Mul(x, w) y = ai.halfstep.ReluGrad(a, x) }",
       1, "ReluGrad"},
  };
  const std::unique_ptr<Executor> executor = make_reference_executor();
  for (const Case& c : cases) {
    for (const std::int64_t batch : {1, 2, 5, 100}) {
      const TrainerOptions options{.precision = Precision::fp32, .batch_size = batch};
      Evaluator evaluator(model(c.text), *executor, five_rows(), options);
      const Evaluation result = evaluator.evaluate(five_rows());
      EXPECT_EQ(result.rows, 5);
      EXPECT_NEAR(result.loss, std::log(2 + std::exp(c.scale)) - c.scale, 1e-6) << c.text;
      ASSERT_EQ(result.metrics.size(), 1u);
      EXPECT_EQ(result.metrics[0].second, 1) << result.metrics[0].first;
    }
    EXPECT_THAT(error_of(Error::Kind::input, [&] { Trainer(model(c.text), *executor, five_rows(), {}); }),
                HasSubstr(c.no_trainer));
  }
}

TEST(Evaluator, AgreesWithTheTrainer) {
  const LoadedModel source = model(
      "(float[N, 3] x) => (float[N, 3] y) <float[3, 3] w = {1, -1, 2, 0.5, 0, 1, -2, 1, 1}, float[3] s = {1, 1, 1}, "
      "float[3] b = {0, 0, 0}, float[3] mean = {1, 0, -1}, float[3] var = {1, 2, 3}> "
      "{ h = MatMul(x, w) y = BatchNormalization(h, s, b, mean, var) }");
  const std::unique_ptr<Executor> executor = make_reference_executor();
  const TrainerOptions options{.precision = Precision::fp32, .batch_size = 2};
  const Evaluation apart = Evaluator(source, *executor, five_rows(), options).evaluate(five_rows());
  const Evaluation training = Trainer(source, *executor, five_rows(), options).evaluate(five_rows());
  EXPECT_DOUBLE_EQ(apart.loss, training.loss);
  EXPECT_EQ(apart.metrics, training.metrics);
}

// Metrics of values are those of the model's outputs, whatever the loss is computed from.
TEST(Evaluator, MeasuresTheModelsOwnOutput) {
  // Probabilities 0.5, 0.25, 0.25 and 0.25, 0.25, 0.5 by these scores, and labels that are one-hot.
  const float two = std::log(2.0F);
  const Tensor x = Tensor::of<float>({two, 0, 0, 5, 5, two + 5}, {2, 3});
  const Tensor y = Tensor::of<float>({1, 0, 0, 0, 1, 0}, {2, 3});
  const double mse = (0.375 + 0.875) / 6, mae = (1.0 + 1.5) / 6;
  const double log_mae = (10 * std::log(2.0) + 2) / 6;
  const struct {
    const char *last, *loss, *metric;
    double expected;
  } cases[] = {{"Softmax", "softmax_cross_entropy", "mse", mse},
               {"Softmax", "softmax_cross_entropy", "mae", mae},
               {"Softmax", "kl_divergence", "mse", mse},
               {"Softmax", "focal", "mse", mse},
               {"LogSoftmax", "softmax_cross_entropy", "mae", log_mae},
               {"Softmax", "mean_squared_error", "mse", mse},
               {"Softmax", "softmax_cross_entropy", "accuracy", 0.5}};
  const std::unique_ptr<Executor> executor = make_reference_executor();
  for (const auto& c : cases) {
    SCOPED_TRACE(::testing::Message() << c.last << " under " << c.loss << ": " << c.metric);
    const LoadedModel source =
        model(fmt::format("(float[N, 3] x) => (float[N, 3] y) <float[3, 3] w = {{1, 0, 0, 0, 1, 0, 0, 0, 1}}> "
                          "{{ s = MatMul(x, w) y = {}(s) }}",
                          c.last));
    const Dataset data = rows_of(x, y);
    TrainerOptions options{.losses = {{.loss = c.loss}}, .precision = Precision::fp32, .batch_size = 2};
    options.metrics = parse_metrics(c.metric);
    EXPECT_NEAR(Evaluator(source, *executor, data, options).evaluate(data).metrics.at(0).second, c.expected, 1e-6);
    EXPECT_NEAR(Trainer(source, *executor, data, options).evaluate(data).metrics.at(0).second, c.expected, 1e-6);
  }
}

TEST(Evaluator, ComputesInFp32UnlessToldAndTheTrainerAsTheDevicePrefers) {
  const LoadedModel source = model(
      "(float[N, 3] x) => (float[N, 3] y) <float[3, 3] w = {1, -1, 2, 0.5, 0, 1, -2, 1, 1}> { y = MatMul(x, w) }");
  // Without kernels of its own, whatever CPU tests run on.
  Capabilities capabilities;
  capabilities.auto_precision = DType::bf16;
  const auto made = core::make_executor({"bf16", capabilities, {}});
  Executor& executor = *made;
  EXPECT_EQ(Evaluator(source, executor, five_rows(), {}).precision(), DType::f32);
  EXPECT_EQ(Evaluator(source, executor, five_rows(), {.precision = Precision::automatic}).precision(), DType::bf16);
  EXPECT_EQ(Evaluator(source, executor, five_rows(), {.precision = Precision::fp16}).precision(), DType::f16);
  EXPECT_EQ(Trainer(source, executor, five_rows(), {}).precision(), DType::bf16);
}

}  // namespace
}  // namespace halfstep
