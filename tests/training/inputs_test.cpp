// Which inputs of a model take what: losses without labels, labels among the inputs, a batch that is not the first
// axis.
#include <memory>
#include <string>
#include <vector>

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/temporary_directory.h"
#include <halfstep/base/error.h>
#include <halfstep/training/evaluator.h>
#include <halfstep/training/trainer.h>

namespace halfstep {
namespace {

using testing::HasSubstr;

Tensor numbers(const Shape& shape) {
  Tensor result(DType::f32, shape);
  for (std::int64_t i = 0; i < result.count(); ++i) result.data<float>()[i] = static_cast<float>((i * 7) % 11 - 5) / 4;
  return result;
}

LoadedModel model(const std::string& text) {
  return parse_model(R"(<ir_version: 10, opset_import: ["": 24]> test )" + text);
}

TrainerOptions sgd(std::optional<std::string> loss) {
  TrainerOptions options{
      .losses = {{loss}}, .precision = Precision::fp32, .steps = 5, .batch_size = 4, .shuffle = false};
  options.optimizer.name = "sgd";
  options.schedule = parse_schedule("constant", 0.05f);
  return options;
}

struct Course {
  std::vector<double> losses;  ///< of steps, then of the trained model and of the untrained one over all rows
  std::string notices;
};

Course run(const LoadedModel& source, const Dataset& data, const TrainerOptions& options) {
  const std::unique_ptr<Executor> executor = make_reference_executor();
  Course result;
  Trainer trainer(source, *executor, data, options);
  trainer.fit({.on_step = [&](const StepResult& step) { result.losses.push_back(step.loss); },
               .on_notice = [&](const std::string& text) { result.notices += text + "\n"; }},
              &data);
  result.losses.push_back(trainer.evaluate(data).loss);
  result.losses.push_back(Evaluator(source, *executor, data, options).evaluate(data).loss);
  return result;
}

void expect_same(const std::vector<double>& got, const std::vector<double>& want) {
  EXPECT_NE(want[0], want[3]) << "it does not learn";
  ASSERT_EQ(got.size(), want.size());
  for (std::size_t i = 0; i < want.size(); ++i) EXPECT_NEAR(got[i], want[i], 1e-6) << "loss " << i;
}

// mean((x w - t)²), four times: from labels, and by models of their own losses.
const std::string kOutput = "(float[N, 2] x) => (float[N, 1] y) <float[2, 1] w = {1, -1}> { y = MatMul(x, w) }";
const std::string kLabelsLast =
    "(float[N, 2] x, float[N, 1] t) => (float[N, 1] l) <float[2, 1] w = {1, -1}> "
    "{ y = MatMul(x, w) d = Sub(y, t) l = Mul(d, d) }";
const std::string kLabelsFirst =
    "(float[N, 1] t, float[N, 2] x) => (float[N, 1] l) <float[2, 1] w = {1, -1}> "
    "{ y = MatMul(x, w) d = Sub(y, t) l = Mul(d, d) }";

TEST(Inputs, ALossOfTheModelTakesLabelsFromAnyInputOrNone) {
  const DataArray x = DataArray::of(numbers({6, 2}), "x.npy"), t = DataArray::of(numbers({6, 1}), "t.npy");
  const std::vector<double> expected = run(model(kOutput), Dataset(x, t), sgd("mean_squared_error")).losses;
  struct Case {
    const char* what;
    const std::string& text;
    Dataset data;
    bool unused;  // labels that are there
  };
  const Case cases[] = {
      {"labels last", kLabelsLast, Dataset(x, t), false},
      {"no labels", kLabelsLast, Dataset({{"", x}, {"", t}}), false},
      {"inputs by name", kLabelsLast, Dataset({{"t", t}, {"x", x}}), false},
      {"labels that are not needed", kLabelsLast, Dataset({{"x", x}, {"t", t}}, t), true},
      {"labels first", kLabelsFirst, Dataset({{"x", x}}, t), false},
      {"labels first, inputs by name", kLabelsFirst, Dataset({{"x", x}, {"t", t}}), false},
  };
  for (const Case& c : cases) {
    SCOPED_TRACE(c.what);
    const Course result = run(model(c.text), c.data, sgd("output"));
    expect_same(result.losses, expected);
    EXPECT_EQ(result.notices.find("t.npy is not used") != std::string::npos, c.unused) << result.notices;
  }
}

TEST(Inputs, LabelsThatAreMissingAndMetricsWithoutThemAreTold) {
  const DataArray x = DataArray::of(numbers({6, 2}), "x.npy"), t = DataArray::of(numbers({6, 1}), "t.npy");
  const Dataset alone({{"", x}});
  for (const auto& loss : {std::optional<std::string>(), std::optional<std::string>("mean_squared_error")})
    EXPECT_THAT(error_of(Error::Kind::input, [&] { run(model(kOutput), alone, sgd(loss)); }),
                HasSubstr("--loss output"));
  EXPECT_THAT(error_of(Error::Kind::input, [&] { run(model(kLabelsLast), alone, sgd("output")); }),
              HasSubstr("rows for each of the model's inputs: x, t"));
  TrainerOptions options = sgd("output");
  options.metrics = parse_metrics("mae");
  EXPECT_THAT(error_of(Error::Kind::input, [&] { run(model(kLabelsLast), Dataset(x, t), options); }),
              HasSubstr("--metrics"));
  const std::unique_ptr<Executor> executor = make_reference_executor();
  Evaluator evaluator(model(kOutput), *executor, Dataset(x, t), sgd({}));
  EXPECT_THAT(error_of(Error::Kind::input, [&] { evaluator.evaluate(alone); }), HasSubstr("x.npy"));
  // Before the first step, not after the first epoch.
  Trainer trainer(model(kOutput), *executor, Dataset(x, t), sgd({}));
  std::int64_t steps = 0;
  EXPECT_THAT(
      error_of(Error::Kind::input, [&] { trainer.fit({.on_step = [&](const StepResult&) { ++steps; }}, &alone); }),
      HasSubstr("x.npy"));
  EXPECT_EQ(steps, 0);
}

// Sums over time, with the batch first and behind the time; and a class for each time.
const std::string kBatchFirst =
    "(float[N, T, 2] x) => (float[N, 1] y) <float[2, 1] w = {1, -1}, int64[1] time = {1}> "
    "{ h = MatMul(x, w) y = ReduceSum<keepdims = 0>(h, time) }";
const std::string kTimeFirst =
    "(float[T, N, 2] x) => (float[N, 1] y) <float[2, 1] w = {1, -1}, int64[1] time = {0}> "
    "{ h = MatMul(x, w) y = ReduceSum<keepdims = 0>(h, time) }";

TEST(BatchAxis, LearnsAsTheModelWithTheBatchFirst) {
  const Dataset sums(DataArray::of(numbers({6, 3, 2}), "x.npy"), DataArray::of(numbers({6, 1}), "y.npy"));
  TrainerOptions options = sgd({});
  const std::vector<double> expected = run(model(kBatchFirst), sums, options).losses;
  options.batch_axes = {{"x", 1}};
  expect_same(run(model(kTimeFirst), sums, options).losses, expected);
  options.batch_axes = {{"x", -2}};
  expect_same(run(model(kTimeFirst), sums, options).losses, expected);

  // Outputs [T, N, C]; the number of times is that of classes.
  const std::string classes = "<float[2, 3] w = {1, -1, 0.5, 0, 1, 0.25}, int64 time = {";
  const LoadedModel first =
      model("(float[N, T, 2] x) => (float[N, T, 3] y) " + classes + "1}> { h = CumSum(x, time) y = MatMul(h, w) }");
  const LoadedModel second =
      model("(float[T, N, 2] x) => (float[T, N, 3] y) " + classes + "0}> { h = CumSum(x, time) y = MatMul(h, w) }");
  const Dataset tags(
      DataArray::of(numbers({6, 3, 2}), "x.npy"),
      DataArray::of(Tensor::of<std::int64_t>({0, 1, 2, 2, 1, 0, 0, 0, 1, 2, 2, 1, 1, 0, 2, 1, 2, 0}, {6, 3}), "y.npy"));
  options.batch_axes = {};
  const std::vector<double> tagged = run(first, tags, options).losses;
  options.batch_axes = {{"x", 1}, {"y", 1}};
  expect_same(run(second, tags, options).losses, tagged);
  options.batch_axes = {{"x", 1}};
  EXPECT_THAT(error_of(Error::Kind::input, [&] { run(second, tags, options); }), HasSubstr("--batch-axis y=1"));
}

TEST(BatchAxis, WhatTheModelDoesNotHaveIsTold) {
  const Dataset sums(DataArray::of(numbers({6, 3, 2}), "x.npy"), DataArray::of(numbers({6, 1}), "y.npy"));
  struct Case {
    std::map<std::string, std::int64_t> axes;
    const char* says;
  };
  const Case cases[] = {
      {{{"z", 1}}, "(x, y)"}, {{{"h", 1}}, "(x, y)"}, {{{"x", 3}}, "axis 3"}, {{{"x", -4}}, "axis -4"}};
  for (const Case& c : cases) {
    TrainerOptions options = sgd({});
    options.batch_axes = c.axes;
    EXPECT_THAT(error_of(Error::Kind::input, [&] { run(model(kTimeFirst), sums, options); }), HasSubstr(c.says));
  }
}

TEST(BatchAxis, ARecurrentLayerSaysWhereItsIs) {
  const LoadedModel recurrent = model(
      "(float[T, N, 2] x) => (float[1, N, 1] h) <float[1, 1, 2] w = {1, -1}, float[1, 1, 1] r = {0.5}> "
      "{ y, h = RNN<hidden_size = 1>(x, w, r) }");
  const Dataset data(DataArray::of(numbers({6, 3, 2}), "x.npy"), DataArray::of(numbers({6, 1}), "y.npy"));
  TrainerOptions options = sgd({});
  options.batch_axes = {{"x", 1}, {"h", 1}};
  EXPECT_EQ(run(recurrent, data, options).notices, "");
  options.batch_axes = {};
  EXPECT_THAT(error_of(Error::Kind::input, [&] { run(recurrent, data, options); }), HasSubstr("first axis"));
  const LoadedModel all = model(
      "(float[T, N, 2] x) => (float[T, 1, N, 1] y) <float[1, 1, 2] w = {1, -1}, float[1, 1, 1] r = {0.5}> "
      "{ y, h = RNN<hidden_size = 1>(x, w, r) }");
  const Dataset each(DataArray::of(numbers({6, 3, 2}), "x.npy"), DataArray::of(numbers({6, 3}), "y.npy"));
  EXPECT_THAT(run(all, each, options).notices, HasSubstr("--batch-axis x=1"));
}

}  // namespace
}  // namespace halfstep
