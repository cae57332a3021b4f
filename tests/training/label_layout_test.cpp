// How labels of every layout are read: the loss that is chosen, the class axis, labels that do not count. The losses
// expected are those of PyTorch 2.15 (torch.nn.functional.cross_entropy, torch.optim.SGD) on the same numbers.
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include <fmt/format.h>
#include <fmt/ranges.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/temporary_directory.h"
#include <halfstep/base/error.h>
#include <halfstep/executors/registry.h>
#include <halfstep/training/evaluator.h>
#include <halfstep/training/trainer.h>

namespace halfstep {
namespace {

using testing::AllOf;
using testing::HasSubstr;
using testing::Not;
using Losses = std::vector<double>;

/// Numbers that are not alike, as the references were computed from.
Tensor numbers(const Shape& shape, float scale = 1) {
  Tensor result(DType::f32, shape);
  for (std::int64_t i = 0; i < result.count(); ++i)
    result.data<float>()[i] = static_cast<float>((i * 7) % 11 - 5) / 4 * scale;
  return result;
}
Tensor class_labels(std::int64_t classes, const Shape& shape) {
  Tensor result(DType::i64, shape);
  for (std::int64_t i = 0; i < result.count(); ++i) result.data<std::int64_t>()[i] = (i * 5 + i / 3) % classes;
  return result;
}
Tensor one_hot_on_axis_1(const Tensor& labels, std::int64_t classes) {
  std::vector<std::int64_t> dims = labels.shape().dims();
  dims.insert(dims.begin() + 1, classes);
  Tensor result(DType::f32, Shape(dims));
  const std::int64_t inner = labels.count() / labels.shape()[0];
  for (std::int64_t i = 0; i < labels.count(); ++i)
    result.data<float>()[(i / inner * classes + labels.data<std::int64_t>()[i]) * inner + i % inner] = 1;
  return result;
}

Dataset rows_of(const Tensor& x, const Tensor& y) {
  return Dataset(DataArray::of(x, "x.npy"), DataArray::of(y, "y.npy"));
}

LoadedModel model(const std::string& text) {
  return parse_model(R"(<ir_version: 10, opset_import: ["": 24]> test )" + text);
}
/// A model whose parameter w is these numbers.
LoadedModel model_with(std::string text, const Tensor& w) {
  const std::size_t at = text.find("] w");
  return model(text.insert(at + 3, fmt::format(" = {{{}}}", fmt::join(w.span<float>(), ", "))));
}

TrainerOptions plain_sgd(std::int64_t steps, std::int64_t batch = 2) {
  TrainerOptions options{.precision = Precision::fp32, .steps = steps, .batch_size = batch, .shuffle = false};
  options.optimizer.name = "sgd";
  options.schedule = parse_schedule("constant", 0.1f);
  return options;
}

struct Course {
  Losses losses, means;
  std::string notices;
  Evaluation evaluation;
};

Course train(const LoadedModel& source, const Dataset& data, const TrainerOptions& options, const char* executor_name) {
  const std::unique_ptr<Executor> executor = make_executor(executor_name, {.threads = 2});
  Course run;
  Trainer trainer(source, *executor, data, options);
  run.evaluation = trainer.evaluate(data);
  trainer.fit({.on_step =
                   [&](const StepResult& result) {
                     run.losses.push_back(result.loss);
                     run.means.push_back(result.mean_loss);
                   },
               .on_notice = [&](const std::string& text) { run.notices += text + "\n"; }});
  return run;
}

void expect_losses(const Losses& got, const Losses& want, double tolerance = 2e-5) {
  ASSERT_EQ(got.size(), want.size());
  for (std::size_t i = 0; i < want.size(); ++i) EXPECT_NEAR(got[i], want[i], tolerance) << "step " << i;
}

constexpr const char* kExecutors[] = {"reference", "onednn"};

struct PrecisionRow {
  Precision precision;
  double tolerance;  // of a loss about 1, after a few steps
};
constexpr PrecisionRow kPrecisions[] = {{Precision::fp32, 2e-5}, {Precision::bf16, 3e-2}, {Precision::fp16, 4e-3}};

const std::string kAmbiguous =
    "(float[N, 4] x) => (float[N, 3, 3] y) <float[4, 9] w, int64[3] s = {0, 3, 3}> { h = MatMul(x, w) y = Reshape(h, "
    "s) }";
const std::string kFeaturesLast = "(float[N, 3, 4] x) => (float[N, 3, 3] y) <float[4, 3] w> { y = MatMul(x, w) }";
const std::string kFeaturesMoved =
    "(float[N, 3, 4] x) => (float[N, 3, 3] y) <float[4, 3] w> { h = MatMul(x, w) y = Transpose<perm = [0, 2, 1]>(h) }";

TEST(ClassAxis, IsOneUnlessTheModelOrTheCallerSaysOtherwise) {
  const Tensor y = class_labels(3, {6, 3}), wide = numbers({4, 9}, 0.5f), narrow = numbers({4, 3}, 0.5f);
  const Tensor x = numbers({6, 4}), sequence = numbers({6, 3, 4});
  const Losses first = {1.19477, 1.3146, 1.00731, 1.16607}, last = {1.20547, 1.41822, 1.16437, 1.1736};
  const Losses of_matrix = {0.947856, 1.41369, 1.07087, 0.944772};
  struct Case {
    const std::string& text;
    const Tensor &w, &x;
    std::optional<std::int64_t> axis;
    const Losses& losses;
    const char* says;  // nullptr: nothing about the axis
  };
  const Case cases[] = {
      {kAmbiguous, wide, x, {}, first, "along axis 1 of 'y' [2, 3, 3], as in PyTorch and ONNX; the labels fit axis 2"},
      {kAmbiguous, wide, x, 1, first, nullptr},
      {kAmbiguous, wide, x, 2, last, nullptr},
      {kAmbiguous, wide, x, -1, last, nullptr},
      {kFeaturesLast, narrow, sequence, {}, of_matrix, "along axis 2 of 'y' [2, 3, 3], as the model's last layer has"},
      {kFeaturesMoved, narrow, sequence, {}, of_matrix, "along axis 1 of 'y' [2, 3, 3], as the model's last layer has"},
  };
  for (const Case& c : cases) {
    for (const char* executor : kExecutors) {
      SCOPED_TRACE(testing::Message() << c.text << " axis " << c.axis.value_or(0) << " " << executor);
      TrainerOptions options = plain_sgd(4);
      options.losses[0].class_axis = c.axis;
      options.metrics = parse_metrics("accuracy,top_k:2,mean_iou");
      const Course run = train(model_with(c.text, c.w), rows_of(c.x, y), options, executor);
      expect_losses(run.losses, c.losses);
      if (c.says)
        EXPECT_THAT(run.notices, AllOf(HasSubstr(c.says), HasSubstr("--class-axis")));
      else
        EXPECT_EQ(run.notices, "");
    }
  }
  TrainerOptions options = plain_sgd(4);
  options.losses[0].class_axis = 0;
  EXPECT_THAT(
      error_of(Error::Kind::input, [&] { train(model_with(kAmbiguous, wide), rows_of(x, y), options, "reference"); }),
      HasSubstr("--class-axis"));
}

TEST(ClassAxis, OfMetricsIsThatOfTheLoss) {
  // The largest along axis 1 is the label everywhere, along axis 2 nowhere.
  const LoadedModel shifted = model("(float[N, 3, 3] x) => (float[N, 3, 3] y) <float w = {1}> { y = Mul(x, w) }");
  const Tensor labels = Tensor::of<std::int64_t>({1, 2, 0}, Shape{1, 3});
  const Tensor x = one_hot_on_axis_1(labels, 3);
  const std::unique_ptr<Executor> executor = make_reference_executor();
  for (const std::int64_t axis : {1, 2}) {
    const TrainerOptions options{.losses = {{.class_axis = axis}}, .precision = Precision::fp32};
    const Evaluation result = Evaluator(shifted, *executor, rows_of(x, labels), options).evaluate(rows_of(x, labels));
    EXPECT_EQ(result.metrics[0].second, axis == 1 ? 1 : 0);
  }
}

TEST(ClassAxis, ASoftmaxThatEndsTheModelIsTakenOutAlongIt) {
  for (const std::int64_t axis : {1, 2}) {
    const std::string softmax = fmt::format("Softmax<axis = {}>", axis);
    const LoadedModel plain = model_with(kAmbiguous, numbers({4, 9}, 0.5f));
    LoadedModel with_softmax = model_with(
        "(float[N, 4] x) => (float[N, 3, 3] y) <float[4, 9] w, int64[3] s = {0, 3, 3}> "
        "{ h = MatMul(x, w) r = Reshape(h, s) y = " +
            softmax + "(r) }",
        numbers({4, 9}, 0.5f));
    LoadedModel then_moved = model_with(
        "(float[N, 4] x) => (float[N, 3, 3] y) <float[4, 9] w, int64[3] s = {0, 3, 3}> { h = MatMul(x, w) "
        "r = Reshape(h, s) t = Transpose<perm = [0, 2, 1]>(r) p = " +
            softmax + "(t) y = Transpose<perm = [0, 2, 1]>(p) }",
        numbers({4, 9}, 0.5f));
    const Dataset data = rows_of(numbers({6, 4}), class_labels(3, {6, 3}));
    TrainerOptions options = plain_sgd(4);
    expect_losses(train(with_softmax, data, options, "reference").losses, [&] {
      TrainerOptions given = options;
      given.losses[0].class_axis = axis;
      return train(plain, data, given, "reference").losses;
    }());
    options.losses[0].class_axis = 3 - axis;
    const Losses moved = train(then_moved, data, options, "reference").losses;
    expect_losses(moved, train(plain, data, options, "reference").losses);
  }
}

const std::string kSegmentation =
    "(float[N, 2, 2, 2] x) => (float[N, 3, 2, 2] y) <float[3, 2, 1, 1] w> { y = Conv(x, w) }";

TEST(Segmentation, LearnsAndIsMeasured) {
  const Losses ignoring = {1.06584, 1.06147, 1.30957, 1.06058}, whole = {0.96596, 1.10534, 1.37797, 0.969521};
  const Tensor labels = class_labels(3, {6, 2, 2}), ignored = labels.clone();
  for (std::int64_t i = 0; i < ignored.count(); i += 5) const_cast<Tensor&>(ignored).data<std::int64_t>()[i] = -100;
  const Tensor one_hot = one_hot_on_axis_1(labels, 3);
  struct Case {
    const char* what;
    Tensor labels;
    const Losses& losses;
    std::vector<double> evaluation;  // loss, accuracy, mean IoU; empty: those of `whole`
  };
  const std::vector<double> counted = {1.157731533, 0.4210526316, 0.2666666757};
  const Case cases[] = {
      {"ignored", ignored, ignoring, counted},
      {"with an axis for channels", ignored.reshaped({6, 1, 2, 2}), ignoring, counted},
      {"i32", convert(ignored, DType::i32), ignoring, counted},
      {"indices", labels, whole, {}},
      {"u8", convert(labels, DType::u8), whole, {}},
      {"one-hot floats", one_hot, whole, {}},
      {"one-hot integers", convert(one_hot, DType::u8), whole, {}},
      {"one-hot bools", convert(one_hot, DType::boolean), whole, {}},
  };
  for (const Case& c : cases) {
    for (const char* executor : kExecutors) {
      for (const PrecisionRow& p : kPrecisions) {
        SCOPED_TRACE(testing::Message() << c.what << " " << executor << " " << name_of(p.precision));
        TrainerOptions options = plain_sgd(4);
        options.metrics = parse_metrics("accuracy,mean_iou,top_k:3");
        options.precision = p.precision;
        const Course run = train(model_with(kSegmentation, numbers({3, 2, 1, 1}, 0.5f)),
                                 rows_of(numbers({6, 2, 2, 2}), c.labels), options, executor);
        expect_losses(run.losses, c.losses, p.tolerance);
        ASSERT_EQ(run.evaluation.metrics.size(), 3u);
        EXPECT_EQ(run.evaluation.metrics[2].second, 1);
        if (c.evaluation.empty() || p.precision != Precision::fp32) continue;
        EXPECT_NEAR(run.evaluation.loss, c.evaluation[0], 1e-5);
        EXPECT_NEAR(run.evaluation.metrics[0].second, c.evaluation[1], 1e-6);
        EXPECT_NEAR(run.evaluation.metrics[1].second, c.evaluation[2], 1e-6);
      }
    }
  }
}

const std::string kLinear = "(float[N, 4] x) => (float[N, 3] y) <float[4, 3] w> { y = MatMul(x, w) }";
const std::string kLogProbabilities =
    "(float[N, 4] x) => (float[N, 3] y) <float[4, 3] w> { h = MatMul(x, w) y = LogSoftmax(h) }";

TEST(IgnoredLabels, ABatchOfNothingElseChangesNothing) {
  const Losses torch = {0.30644, 0, 1.00103, 0.272425, 0, 0.901177};
  for (const std::int64_t ignore : {-100, 255}) {
    const Tensor y = Tensor::of<std::int64_t>({0, ignore, ignore, ignore, 2, 1});
    for (const std::string loss : {"softmax_cross_entropy", "negative_log_likelihood"}) {
      for (const char* executor : kExecutors) {
        for (const PrecisionRow& p : kPrecisions) {
          SCOPED_TRACE(testing::Message() << loss << " " << executor << " " << name_of(p.precision));
          TrainerOptions options = plain_sgd(6);
          options.losses[0].loss = loss;
          options.ignore_label = ignore;
          options.precision = p.precision;
          const std::string& text = loss == "softmax_cross_entropy" ? kLinear : kLogProbabilities;
          const Course run =
              train(model_with(text, numbers({4, 3}, 0.5f)), rows_of(numbers({6, 4}), y), options, executor);
          expect_losses(run.losses, torch, p.tolerance);
          // One row counts in the first batch, none in the second, two in the third.
          EXPECT_DOUBLE_EQ(run.means[1], run.losses[0]);
          EXPECT_DOUBLE_EQ(run.means[2], (run.losses[0] + 2 * run.losses[2]) / 3);
          EXPECT_NEAR(run.evaluation.loss, 0.7680879235, p.tolerance);
          EXPECT_THAT(run.notices, HasSubstr(fmt::format("labels of {} are ignored (3 of 6): --ignore-label", ignore)));
        }
      }
    }
  }
}

TEST(IgnoredLabels, LabelsOfNothingElseAreRefusedBeforeTraining) {
  const Dataset none = rows_of(numbers({2, 4}), Tensor::of<std::int64_t>({-100, -100}));
  const Dataset some = rows_of(numbers({2, 4}), Tensor::of<std::int64_t>({-100, 1}));
  const LoadedModel linear = model_with(kLinear, numbers({4, 3}));
  const std::unique_ptr<Executor> executor = make_reference_executor();
  const auto says = HasSubstr("--ignore-label");
  EXPECT_THAT(error_of(Error::Kind::input, [&] { train(linear, none, plain_sgd(1), "reference"); }), says);
  Evaluator evaluator(linear, *executor, some, {.precision = Precision::fp32});
  EXPECT_THAT(error_of(Error::Kind::input, [&] { evaluator.evaluate(none); }), says);
  const Dataset other = rows_of(numbers({2, 4}), Tensor::of<std::int64_t>({255, 1}));
  EXPECT_THAT(error_of(Error::Kind::input, [&] { train(linear, other, plain_sgd(1), "reference"); }),
              HasSubstr("--ignore-label 255"));
}

TEST(IgnoredLabels, OfValidationAloneAreRefusedBeforeTraining) {
  const auto data = [](float ignored) {
    return rows_of(numbers({2, 4}), Tensor::of<float>({1, 0, 0, 0, ignored, 1}, {2, 3}));
  };
  const std::unique_ptr<Executor> executor = make_reference_executor();
  TrainerOptions options = plain_sgd(1);
  options.losses[0].loss = "binary_cross_entropy_logits";
  const Dataset none = data(0), some = data(-100);
  const auto steps_of = [&](const Dataset& training, const Dataset& validation) {
    Trainer trainer(model_with(kLinear, numbers({4, 3})), *executor, training, options);
    int steps = 0;
    try {
      trainer.fit({.on_step = [&](const StepResult&) { ++steps; }}, &validation);
    } catch (const Error& error) {
      EXPECT_THAT(error.what(), HasSubstr("no label of the training data is ignored, got 1 of -100"));
      return -1 - steps;
    }
    return steps;
  };
  EXPECT_EQ(steps_of(none, some), -1) << "no step was made";
  EXPECT_GT(steps_of(some, some), 0);
  EXPECT_GT(steps_of(none, none), 0);
}

TEST(LossChoice, ComesFromLabelsAndModel) {
  const Tensor one_hot = Tensor::of<float>({1, 0, 0, 0, 0, 1, 0, 1, 0, 1, 0, 0}, {4, 3});
  const Tensor several = Tensor::of<float>({1, 1, 0, 0, 0, 1, 0, 0, 0, 1, 0, 0}, {4, 3});
  const Tensor column = Tensor::of<float>({1, 0, 0, 1}, {4, 1});
  struct Case {
    const char* what;
    const char* last;  // the operator that ends the model
    std::int64_t outputs;
    Tensor labels;
    const char* loss;
    const char* says;  // nullptr: nothing
  };
  const Case cases[] = {
      {"one-hot", "", 3, one_hot, "softmax_cross_entropy", "the labels are one-hot: --loss"},
      {"one-hot integers", "", 3, convert(one_hot, DType::i64), "softmax_cross_entropy", "the labels are one-hot"},
      {"one-hot, Softmax", "Softmax", 3, one_hot, "softmax_cross_entropy", nullptr},
      {"one-hot, Sigmoid", "Sigmoid", 3, one_hot, "binary_cross_entropy", nullptr},
      {"several", "", 3, several, "binary_cross_entropy_logits", "with several or no 1 per row: --loss"},
      {"several bools", "", 3, convert(several, DType::boolean), "binary_cross_entropy_logits", "several"},
      {"several, Sigmoid", "Sigmoid", 3, several, "binary_cross_entropy", nullptr},
      {"floats", "", 3, numbers({4, 3}), "mean_squared_error", nullptr},
      {"soft, Softmax", "Softmax", 3, numbers({4, 3}), "softmax_cross_entropy", nullptr},
      {"counts", "", 3, convert(numbers({4, 3}, 4), DType::i64), "mean_squared_error",
       "integers of the output's shape"},
      {"indices", "", 3, class_labels(3, {4}), "softmax_cross_entropy", nullptr},
      {"a column of indices", "", 3, class_labels(3, {4, 1}), "softmax_cross_entropy", nullptr},
      {"0 and 1", "", 1, column, "binary_cross_entropy_logits", "the labels are 0 and 1: --loss"},
      {"0 and 1, Sigmoid", "Sigmoid", 1, column, "binary_cross_entropy", nullptr},
      {"integers 0 and 1", "", 1, convert(column, DType::i64), "binary_cross_entropy_logits", nullptr},
      {"integers", "", 1, class_labels(3, {4}), "mean_squared_error", "integers beyond 0 and 1"},
      {"a number", "", 1, numbers({4, 1}), "mean_squared_error", nullptr},
  };
  const std::unique_ptr<Executor> executor = make_reference_executor();
  for (const Case& c : cases) {
    SCOPED_TRACE(c.what);
    const std::string last = std::string(c.last).empty() ? "Identity" : c.last;
    const std::string text = fmt::format(
        "(float[N, 2] x) => (float[N, {0}] y) <float[2, {0}] w> {{ h = MatMul(x, w) y = {1}(h) }}", c.outputs, last);
    const Dataset data = rows_of(numbers({4, 2}), c.labels);
    Evaluator evaluator(model_with(text, numbers({2, c.outputs})), *executor, data, {.precision = Precision::fp32});
    EXPECT_EQ(evaluator.loss().name, c.loss);
    std::string notices;
    for (const std::string& notice : evaluator.notices()) notices += notice;
    if (c.says)
      EXPECT_THAT(notices, HasSubstr(c.says));
    else
      EXPECT_EQ(notices, "");
  }
}

TEST(LossChoice, WhatDoesNotFitIsToldBeforeTraining) {
  struct Case {
    const char* what;
    std::int64_t outputs;
    Tensor labels;
    std::optional<std::string> loss;
    const char* metrics;
    std::vector<const char*> says;
  };
  const Case cases[] = {
      {"a metric of elements", 3, class_labels(3, {4}), {}, "mae", {"the metric mae", "i64[2]", "--metrics"}},
      {"a metric of classes", 1, numbers({4, 1}), {}, "accuracy", {"the metric accuracy", "--metrics"}},
      {"soft binary labels",
       1,
       Tensor::of<float>({0, 1, 0.5f, 1}, {4, 1}),
       "binary_cross_entropy",
       "accuracy",
       {"the metric accuracy"}},
      {"floats as indices", 3, Tensor::of<float>({0, 1, 2, 1}), {}, "", {"f32[2]", "astype"}},
      {"an axis swapped", 4, numbers({4, 2, 2}), "mean_squared_error", "mse", {}},
      {"labels beyond 1", 1, numbers({4, 1}), "binary_cross_entropy", "", {"from 0 to 1", "row"}},
      {"ignored binary labels", 1, Tensor::of<std::int64_t>({0, 1, -100, 1}), {}, "accuracy,f1:1,auc", {}},
      {"none but ignored binary labels",
       1,
       Tensor::of<float>({-100, -100, -100, -100}, {4, 1}),
       "binary_focal",
       "",
       {"a label that is not ignored", "--ignore-label"}},
      {"ignored labels and one beyond 1",
       1,
       Tensor::of<float>({1, -100, 3, 0}),
       "binary_cross_entropy",
       "",
       {"from 0 to 1, or -100 for ignored elements", "row"}},
      {"class indices for shares", 3, class_labels(3, {4}), "kl_divergence", "", {"kl_divergence", "i64[2]"}},
      {"shares beyond 1", 3, numbers({4, 3}), "kl_divergence", "", {"from 0 to 1"}},
      {"a class that the model lacks", 3, class_labels(3, {4}), {}, "f1:3", {"a class from 0 to 2", "f1:3"}},
      {"a curve of three classes", 3, class_labels(3, {4}), {}, "auc", {"the metric auc", "mean_iou, f1"}},
      {"a table while training", 3, class_labels(3, {4}), {}, "confusion", {"to follow while training", "evaluate"}},
      {"a loss over classes", 3, class_labels(3, {4}), "focal", "f1", {}},
  };
  for (const Case& c : cases) {
    SCOPED_TRACE(c.what);
    const std::string text =
        fmt::format("(float[N, 2] x) => (float[N, {0}] y) <float[2, {0}] w> {{ y = MatMul(x, w) }}", c.outputs);
    TrainerOptions options = plain_sgd(2);
    options.losses[0].loss = c.loss;
    options.metrics = parse_metrics(c.metrics);
    const auto run = [&] {
      train(model_with(text, numbers({2, c.outputs}, 0.1f)), rows_of(numbers({4, 2}), c.labels), options, "reference");
    };
    if (c.says.empty()) {
      EXPECT_NO_THROW(run());
      continue;
    }
    const std::string error = error_of(Error::Kind::input, run);
    for (const char* says : c.says) EXPECT_THAT(error, HasSubstr(says));
  }
  // As many elements in another order are no labels.
  const LoadedModel grid = model(
      "(float[N, 2, 3] x) => (float[N, 2, 3] y) <float[3, 3] w = {1, 0, 0, 0, 1, 0, 0, 0, 1}> { y = MatMul(x, w) }");
  EXPECT_THAT(error_of(Error::Kind::input,
                       [&] {
                         train(grid, rows_of(numbers({4, 2, 3}), numbers({4, 3, 2})), plain_sgd(1), "reference");
                       }),
              AllOf(HasSubstr("[2, 3, 2]"), Not(HasSubstr("astype"))));
}

TEST(ModelsLastOperator, MayLackItsFirstResult) {
  // As the last state of a recurrent layer is exported: of its results only the second is there.
  const std::string squeezed =
      "(float[3, N, 2] x) => (float[N, 3] y) <float[1, 3, 2] w = {0.1, 0.2, 0.3, 0.4, 0.5, 0.6}, float[1, 3, 3] r = "
      "{0, "
      "0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8}, int64[1] a = {0}> { , h = RNN<hidden_size = 3>(x, w, r) y = Squeeze(h, "
      "a) }";
  const Dataset data = rows_of(numbers({4, 3, 2}), class_labels(3, {4}));
  for (const char* executor : kExecutors) {
    TrainerOptions options = plain_sgd(2);
    options.batch_axes = {{"x", 1}};
    const Course run = train(model(squeezed), data, options, executor);
    EXPECT_LT(run.losses.back(), 2) << executor;
    EXPECT_GT(run.losses.back(), 0) << executor;
  }
}

}  // namespace
}  // namespace halfstep
