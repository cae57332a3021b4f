#include <algorithm>
#include <cmath>

#include <gmock/gmock.h>

#include "tests/temporary_directory.h"
#include "tests/training/metric_testing.h"

namespace halfstep {
namespace {

using testing::DoubleNear;
using testing::HasSubstr;
using testing::Pointwise;

TEST(Metrics, ClassLabels) {
  const Tensor scores = Tensor::of<float>({0.1f, 0.7f, 0.2f,  //
                                           0.5f, 0.3f, 0.2f,  //
                                           -1, -3, -2,        //
                                           5, 6, 7},          //
                                          Shape{4, 3});
  struct Case {
    const char* metric;
    std::vector<std::int64_t> labels;
    double expected;
  };
  const Case cases[] = {
      {"accuracy", {1, 0, 0, 2}, 1.0}, {"accuracy", {1, 0, 0, 1}, 0.75}, {"accuracy", {0, 1, 2, 0}, 0.0},
      {"top_k:1", {1, 0, 0, 1}, 0.75}, {"top_k:2", {2, 2, 2, 1}, 0.75},  {"top_k:2", {0, 2, 1, 0}, 0.0},
      {"top_k:3", {0, 2, 1, 0}, 1.0},  {"top_k:9", {0, 2, 1, 0}, 1.0},
  };
  for (const Case& c : cases)
    for (const DType dtype : {DType::f32, DType::f16, DType::bf16, DType::f64})
      for (const DType label_type : {DType::i64, DType::i32, DType::u8})
        EXPECT_EQ(measure(c.metric, convert(scores, dtype), convert(classes(c.labels), label_type)), c.expected)
            << c.metric << " " << name_of(dtype);
}

TEST(Metrics, TiesCountTheFirstAsLarger) {
  const Tensor scores = Tensor::of<float>({1, 1, 1, 0}, Shape{1, 4});
  const double first[] = {1, 0, 0, 0}, two[] = {1, 1, 0, 0}, three[] = {1, 1, 1, 0};
  for (std::int64_t label = 0; label < 4; ++label) {
    EXPECT_EQ(measure("accuracy", scores, classes({label})), first[label]);
    EXPECT_EQ(measure("top_k:1", scores, classes({label})), first[label]);
    EXPECT_EQ(measure("top_k:2", scores, classes({label})), two[label]);
    EXPECT_EQ(measure("top_k:3", scores, classes({label})), three[label]);
  }
}

// Of many classes blocks are compared at once, along an axis whose elements lie together.
TEST(Metrics, AccuracyOfManyClassesIsTheFirstRank) {
  constexpr std::int64_t kClasses = 200;
  for (const std::int64_t label : {0, 1, 63, 64, 127, 130, 198, 199}) {
    for (const std::int64_t other : {0, 1, 62, 64, 128, 191, 192, 199}) {
      for (const float score : {0.5F, 1.0F, 2.0F, kNan}) {
        std::vector<float> scores(kClasses, 0);
        scores[static_cast<std::size_t>(label)] = 1;
        if (other != label) scores[static_cast<std::size_t>(other)] = score;
        const Tensor output = Tensor::of<float>(scores, Shape{1, kClasses});
        for (const DType dtype : {DType::f32, DType::bf16, DType::f64})
          EXPECT_EQ(measure("accuracy", convert(output, dtype), classes({label})),
                    measure("top_k:1", convert(output, dtype), classes({label})))
              << name_of(dtype) << " " << label << " beside " << other << ": " << score;
      }
    }
  }
}

TEST(Metrics, NonFiniteOutputs) {
  const Tensor scores = Tensor::of<float>({kNan, 1, 2, kNan, kNan, kNan, kInf, 0, -kInf}, Shape{3, 3});
  EXPECT_DOUBLE_EQ(measure("accuracy", scores, classes({0, 0, 0})), 1.0 / 3);
  EXPECT_DOUBLE_EQ(measure("top_k:3", scores, classes({0, 0, 0})), 1.0 / 3);
  EXPECT_DOUBLE_EQ(measure("accuracy", scores, classes({2, 1, 1})), 1.0 / 3);
  EXPECT_TRUE(std::isnan(measure("mae", scores, scores)));
}

TEST(Metrics, OneHotAndSequenceLabels) {
  const Tensor scores = Tensor::of<float>({1, 2, 3, 6, 5, 4, 1, 9, 1, 8, 0, 0}, Shape{2, 2, 3});
  EXPECT_EQ(measure("accuracy", scores, Tensor::of<std::int64_t>({2, 0, 1, 2}, Shape{2, 2})), 0.75);
  const Tensor one_hot = Tensor::of<float>({0, 0, 1, 1, 0, 0, 0, 1, 0, 0, 0, 1}, Shape{2, 2, 3});
  EXPECT_EQ(measure("accuracy", scores, one_hot), 0.75);
  EXPECT_EQ(measure("accuracy", scores, convert(one_hot, DType::boolean)), 0.75);
  EXPECT_EQ(measure("accuracy", scores, convert(one_hot, DType::bf16)), 0.75);
  EXPECT_EQ(measure("accuracy", scores.reshaped(Shape{4, 3}), Tensor::of<std::int64_t>({2, 0, 1, 2}, Shape{4, 1})),
            0.75);
}

TEST(Metrics, BinaryLabels) {
  const Tensor scores = Tensor::of<float>({0.4f, 0.5f, 0.6f, kNan}, Shape{4, 1});
  const Tensor labels = Tensor::of<float>({0, 0, 1, 0}, Shape{4, 1});
  EXPECT_EQ(measure("accuracy", scores, labels), 0.75);
  EXPECT_EQ(measure("accuracy", scores, labels, 0.0), 0.25);
  EXPECT_EQ(measure("accuracy", scores.reshaped(Shape{4}), convert(labels, DType::i64).reshaped(Shape{4})), 0.75);
  EXPECT_THAT(error_of(Error::Kind::input,
                       [&] {
                         measure("accuracy", scores, Tensor::of<float>({0, 2, 1, 0}));
                       }),
              HasSubstr("2 at element 1"));
}

TEST(Metrics, Errors) {
  const Tensor output = Tensor::of<float>({1, 2, 3, 4}, Shape{2, 2}),
               target = Tensor::of<float>({1, 0, 0, 8}, Shape{2, 2});
  EXPECT_EQ(measure("mae", output, target), 9.0 / 4);
  EXPECT_EQ(measure("mse", output, target), (0 + 4 + 9 + 16) / 4.0);
  EXPECT_EQ(measure("mse", convert(output, DType::f16), convert(target, DType::i32)), 29.0 / 4);
  EXPECT_EQ(measure("rmse", output, target), std::sqrt(29.0 / 4));
}

TEST(Metrics, ExplainedVariance) {
  const struct {
    Tensor output, target;
    double expected;
  } cases[] = {
      // The examples of sklearn.metrics.r2_score: errors of 1.5 and distances of 29.1875, then of two places.
      {Tensor::of<float>({2.5f, 0, 2, 8}), Tensor::of<float>({3, -0.5f, 2, 7}), 1 - 1.5 / 29.1875},
      {Tensor::of<float>({0, 2, -1, 2, 8, -5}, Shape{3, 2}), Tensor::of<float>({0.5f, 1, -1, 1, 7, -6}, Shape{3, 2}),
       (1 - 1.25 / (36 + 1.0 / 6) + 1 - 3 / (32 + 2.0 / 3)) / 2},
      {Tensor::of<float>({1, 2, 3}), Tensor::of<float>({1, 2, 3}), 1},
      {Tensor::of<float>({2, 2, 2}), Tensor::of<float>({1, 2, 3}), 0},
      {Tensor::of<float>({3, 2, 1}), Tensor::of<float>({1, 2, 3}), -3},
      {Tensor::of<float>({1, 2, 3}), Tensor::of<float>({2, 2, 2}), kNan},
      {Tensor::of<float>({1}), Tensor::of<float>({2}), kNan},
      {Tensor::of<float>({2, 1, 2, 5}, Shape{2, 2}), Tensor::of<float>({1, 4, 3, 4}, Shape{2, 2}), 0},
      {Tensor::of<float>({1, kNan, 3}), Tensor::of<float>({1, 2, 3}), kNan},
      {Tensor::of<double>({1e8 + 1, 1e8 + 2, 1e8 + 2}), Tensor::of<double>({1e8 + 1, 1e8 + 2, 1e8 + 3}), 0.5},
  };
  for (const auto& c : cases) {
    const double got = measure("r2", c.output, c.target, {.form = Form::values});
    if (std::isnan(c.expected))
      EXPECT_TRUE(std::isnan(got)) << got;
    else
      EXPECT_NEAR(got, c.expected, 1e-14);
  }
  // Batches are one set of rows, weights count rows, and a run goes on with what it has kept.
  const Tensor output = Tensor::of<float>({2.5f, 9, 0, 2, 2, 8}, Shape{6, 1}),
               target = Tensor::of<float>({3, 5, -0.5f, 2, 2, 7}, Shape{6, 1}),
               weights = Tensor::of<float>({1, 0, 1, 0.25f, 0.75f, 1});
  Metrics metrics(parse_metrics("r2"), {.form = Form::values});
  const Tensor first = weights.rows(0, 2), rest = weights.rows(2, 6);
  metrics.add(output.rows(0, 2), target.rows(0, 2), 0, &first);
  Metrics resumed(parse_metrics("r2"), {.form = Form::values});
  resumed.load_state(metrics.state());
  metrics.reset();
  EXPECT_TRUE(std::isnan(metrics.value(0)));
  resumed.add(output.rows(2, 6), target.rows(2, 6), 0, &rest);
  EXPECT_NEAR(resumed.value(0), 1 - 1.5 / 29.1875, 1e-14);
}

TEST(Metrics, BatchesCountByTheirRows) {
  Metrics metrics(parse_metrics("accuracy,mae"), {.form = Form::one_hot});
  EXPECT_TRUE(std::isnan(metrics.value(0)));
  metrics.add(Tensor::of<float>({1, 0, 1, 0, 1, 0}, Shape{3, 2}), Tensor::of<float>({1, 0, 1, 0, 1, 0}, Shape{3, 2}));
  metrics.add(Tensor::of<float>({1, 0}, Shape{1, 2}), Tensor::of<float>({0, 1}, Shape{1, 2}));
  metrics.add(Tensor(DType::f32, Shape{0, 2}), Tensor(DType::i64, Shape{0}));
  EXPECT_EQ(metrics.value(0), 0.75);
  EXPECT_EQ(metrics.value(1), 0.25);
  metrics.reset();
  EXPECT_TRUE(std::isnan(metrics.value(0)));

  RunningMean loss;
  loss.add(2, 32);
  loss.add(5, 16);
  EXPECT_EQ(loss.value(), 3);
}

// Of ranks, and of a run before and after a checkpoint.
TEST(Metrics, OfPartsAreThoseOfTheWhole) {
  constexpr std::int64_t kRows = 12;
  Tensor output(DType::f32, {kRows, 2}), targets(DType::f32, {kRows, 2}), labels(DType::i64, {kRows}),
      weights(DType::f32, {kRows});
  for (std::int64_t i = 0; i < kRows; ++i) {
    for (std::int64_t k = 2 * i; k < 2 * i + 2; ++k) {
      output.data<float>()[k] = static_cast<float>((k * 7) % 11) / 4;
      targets.data<float>()[k] = static_cast<float>(k * k) / 50 - 3;  // the parts' means differ
    }
    labels.data<std::int64_t>()[i] = (i * i + i / 5) % 2;
    weights.data<float>()[i] = static_cast<float>(i % 4) / 2;
  }
  const LabelReading of_classes{.form = Form::classes, .class_axis = 1}, of_values{.form = Form::values};
  const auto numbers = [](const Metrics& metrics) {
    return metrics.table(0) ? metrics.table(0)->counts : std::vector<double>{metrics.value(0)};
  };
  for (const MetricDef& row : all_metrics()) {
    const bool is_of_values = row.takes(of_values, 1);
    const LabelReading& reading = is_of_values ? of_values : of_classes;
    const Tensor& wanted_labels = is_of_values ? targets : labels;
    ASSERT_TRUE(row.takes(reading, 2)) << row.name;
    const auto part = [&](std::int64_t first, std::int64_t end, bool weighted) {
      Metrics metrics(parse_metrics(row.name), reading);
      const Tensor given = weights.rows(first, end);
      if (end > first)
        metrics.add(output.rows(first, end), wanted_labels.rows(first, end), 0, weighted ? &given : nullptr);
      return metrics;
    };
    for (const bool weighted : {false, true}) {
      const std::vector<double> whole = numbers(part(0, kRows, weighted));
      const double size = std::ranges::max(whole, {}, [](double number) { return std::abs(number); });
      for (const std::int64_t middle : {0, 1, 3, 6, 11}) {
        SCOPED_TRACE(::testing::Message() << row.name << " of " << middle << " rows and the rest");
        Metrics sum = part(0, middle, weighted);
        const std::int64_t rest = (middle + kRows) / 2;
        for (const std::int64_t end : {middle, rest}) sum.add_state(part(middle, end, weighted).state());
        const Tensor given = weights.rows(rest, kRows);
        sum.add(output.rows(rest, kRows), wanted_labels.rows(rest, kRows), 0, weighted ? &given : nullptr);
        EXPECT_THAT(numbers(sum), Pointwise(DoubleNear(1e-12 * std::max(1.0, std::abs(size))), whole));
        Metrics loaded(parse_metrics(row.name), reading);
        loaded.load_state(sum.state());
        EXPECT_THAT(numbers(loaded), Pointwise(DoubleNear(1e-14), numbers(sum)));
      }
    }
  }
}

TEST(Metrics, RefusesLabelsThatDoNotFit) {
  const Tensor output(DType::f32, Shape{2, 3});
  struct Case {
    const char* metric;
    Tensor labels;
    const char* expected;
  };
  const Case cases[] = {
      {"accuracy", classes({0, 3}), "3 at point 1"},
      {"top_k:2", classes({-1, 0}), "-1 at point 0"},
      {"accuracy", classes({0, 1, 2}), "i64[3] for output f32[2, 3]"},
      {"accuracy", Tensor::of<float>({0, 1}), "f32[2] for output f32[2, 3]"},
      {"mae", classes({0, 1}), "one label for each output"},
      {"accuracy", Tensor(DType::string, Shape{2}), "string[2]"},
  };
  for (const Case& c : cases)
    EXPECT_THAT(error_of(Error::Kind::input, [&] { measure(c.metric, output, c.labels); }), HasSubstr(c.expected));
  error_of(Error::Kind::input, [&] { measure("accuracy", Tensor(DType::i64, Shape{2, 3}), classes({0, 1})); });
}

// Two images of 2 by 2 points and 3 classes, and what is the largest of each point: 0 1 2 0, 1 1 0 2.
const std::vector<std::int64_t> kGuesses = {0, 1, 2, 0, 1, 1, 0, 2};
Tensor image_scores(bool classes_last) {
  Tensor scores(DType::f32, classes_last ? Shape{2, 2, 2, 3} : Shape{2, 3, 2, 2});
  for (std::int64_t p = 0; p < 8; ++p) {
    const std::int64_t c = kGuesses[static_cast<std::size_t>(p)];
    scores.data<float>()[classes_last ? p * 3 + c : p / 4 * 12 + c * 4 + p % 4] = 1;
  }
  return scores;
}

TEST(Metrics, PointsOfImages) {
  // Labels 0 1 1 0, 1 2 -1 2, and the values that follow by counting: class 0 has 2 of 2, 1 has 2 of 4, 2 has 1 of 3.
  const std::vector<std::int64_t> labels = {0, 1, 1, 0, 1, 2, -1, 2};
  const double iou = (2.0 / 2 + 2.0 / 4 + 1.0 / 3) / 3;
  for (const bool last : {false, true}) {
    const LabelReading reading{.form = Form::classes, .class_axis = last ? 3u : 1u, .ignored = -1};
    for (const Shape& shape : {Shape{2, 2, 2}, Shape{2, 1, 2, 2}}) {
      const Tensor indices = Tensor::of<std::int64_t>(labels, shape);
      EXPECT_DOUBLE_EQ(measure("accuracy", image_scores(last), indices, reading), 5.0 / 7);
      EXPECT_DOUBLE_EQ(measure("top_k:3", image_scores(last), indices, reading), 1);
      EXPECT_DOUBLE_EQ(measure("mean_iou", image_scores(last), indices, reading), iou);
    }
    const LabelReading one_hot{.form = Form::one_hot, .class_axis = reading.class_axis};
    EXPECT_EQ(measure("accuracy", image_scores(last), image_scores(last), one_hot), 1);
    EXPECT_EQ(measure("mean_iou", image_scores(last), image_scores(last), one_hot), 1);
  }
}

TEST(Metrics, MeanIouOfTwoClassesAndOverBatches) {
  const Tensor scores = Tensor::of<float>({0.9f, 0.6f, 0.4f, 0.1f}, Shape{1, 1, 2, 2});
  const Tensor labels = Tensor::of<float>({1, 0, 0, 0}, Shape{1, 1, 2, 2});
  EXPECT_DOUBLE_EQ(measure("mean_iou", scores, labels, LabelReading{.form = Form::binary}), (1.0 / 2 + 2.0 / 3) / 2);
  // Classes that occur nowhere do not count, and batches are one set of points.
  Metrics metrics(parse_metrics("mean_iou"), {.form = Form::classes, .class_axis = 1});
  const Tensor first = Tensor::of<float>({1, 0, 0, 0, 1, 0}, Shape{2, 3});
  metrics.add(first, classes({0, 0}));
  metrics.add(first, classes({0, 1}));
  EXPECT_DOUBLE_EQ(metrics.value(0), (2.0 / 3 + 1.0 / 2) / 2);
}

TEST(Metrics, IgnoredLabelsDoNotCount) {
  const LabelReading reading{.form = Form::classes, .class_axis = 1, .ignored = 255};
  const Tensor scores = Tensor::of<float>({1, 0, 1, 0, 1, 0}, Shape{3, 2});
  Metrics metrics(parse_metrics("accuracy,top_k:1,mean_iou"), reading);
  metrics.add(scores, convert(classes({255, 255, 255}), DType::u8));
  for (std::size_t i = 0; i < metrics.size(); ++i) EXPECT_TRUE(std::isnan(metrics.value(i)));
  metrics.add(scores, convert(classes({255, 0, 1}), DType::u8));
  EXPECT_EQ(metrics.value(0), 0.5);
  EXPECT_EQ(metrics.value(1), 0.5);
  EXPECT_EQ(metrics.value(2), 0.25);
  EXPECT_EQ(counted_labels(reading, convert(classes({255, 0, 1}), DType::u8), 3), 2);
  EXPECT_EQ(counted_labels({.form = Form::values}, scores, 3), 3);
}

TEST(Metrics, WhatCannotBeComputedIsTold) {
  struct Case {
    const char* metrics;
    Form form;
    const char* says;  // nullptr: it can be
  };
  const Case cases[] = {
      {"accuracy,top_k,mean_iou,f1,f1:2,confusion", Form::classes, nullptr},
      {"accuracy,top_k,mean_iou,mae,mse", Form::one_hot, nullptr},
      {"accuracy,mean_iou,f1:1,auc,confusion,mae,mse", Form::binary, nullptr},
      {"mae,mse,rmse,r2", Form::values, nullptr},
      {"accuracy,mae", Form::classes, "a label for each element of the output for the metric mae"},
      {"top_k:3", Form::binary, "--metrics (accuracy, mean_iou, f1, auc, confusion, mae, mse, "},
      {"mean_iou", Form::values, "--metrics (mae, mse, "},
      {"accuracy", Form::values, "the metric accuracy"},
      {"auc", Form::classes, "labels of 0 and 1, or of two classes for the metric auc"},
      {"f1:3", Form::classes, "a class from 0 to 2 for the metric f1, got f1:3"},
      {"f1:2", Form::binary, "a class from 0 to 1"},
  };
  for (const Case& c : cases) {
    const auto check = [&] { check_metrics(parse_metrics(c.metrics), {.form = c.form}, 3, "these labels"); };
    if (c.says)
      EXPECT_THAT(error_of(Error::Kind::input, check), HasSubstr(c.says)) << c.metrics;
    else
      EXPECT_NO_THROW(check()) << c.metrics;
  }
}

TEST(Metrics, Parsing) {
  const std::vector<Metric> metrics = parse_metrics("accuracy,top_k:3,mean_iou,mae,mse,top_k,f1,f1:0,auc");
  std::vector<std::string> names;
  for (const Metric& m : metrics) names.push_back(m.name());
  EXPECT_THAT(names,
              testing::ElementsAre("accuracy", "top_k:3", "mean_iou", "mae", "mse", "top_k:5", "f1", "f1:0", "auc"));
  EXPECT_TRUE(parse_metrics("").empty());
  for (const char* bad : {"acc", "accuracy,", ",mae", "top_k:0", "top_k:x", "top_k:", "top_k:2x", "accuracy:1",
                          "mean_iou:2", "f1:-1", "auc:1", "mae,mae", "top_k,top_k:5", "top_k:99999999999999999999"})
    EXPECT_THROW(parse_metrics(bad), Error) << bad;
}

}  // namespace
}  // namespace halfstep
