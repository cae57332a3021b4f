// Metrics that count by class or by score: F1, the area under the curve, the table of classes.
#include <algorithm>
#include <cmath>

#include <gmock/gmock.h>

#include "tests/temporary_directory.h"
#include "tests/training/metric_testing.h"

namespace halfstep {
namespace {

/// Scores whose largest are at these classes; -1: all NaN.
Tensor scores_of(const std::vector<std::int64_t>& guesses, std::int64_t classes_of_model) {
  Tensor scores(DType::f32, Shape{static_cast<std::int64_t>(guesses.size()), classes_of_model});
  for (std::size_t i = 0; i < guesses.size(); ++i)
    for (std::int64_t c = 0; c < classes_of_model; ++c)
      scores.data<float>()[static_cast<std::int64_t>(i) * classes_of_model + c] =
          guesses[i] < 0 ? kNan : static_cast<float>(c == guesses[i]);
  return scores;
}

TEST(Metrics, F1OfAClassAndOfAll) {
  // Twice the hits over labels and outputs, as sklearn.metrics.f1_score has it; the first by its documentation.
  const struct {
    const char* metric;
    std::vector<std::int64_t> labels, guesses;
    double expected;
  } cases[] = {
      {"f1", {0, 1, 2, 0, 1, 2}, {0, 2, 1, 0, 0, 1}, (0.8 + 0 + 0) / 3},
      {"f1:0", {0, 1, 2, 0, 1, 2}, {0, 2, 1, 0, 0, 1}, 0.8},
      {"f1:1", {0, 1, 2, 0, 1, 2}, {0, 2, 1, 0, 0, 1}, 0},
      {"f1", {0, 0, 1}, {0, 1, 1}, 2.0 / 3},                // class 2 occurs nowhere
      {"f1", {0, 0, 1}, {0, 2, 1}, (2.0 / 3 + 1 + 0) / 3},  // as an output only
      {"f1:2", {0, 0, 1}, {0, 1, 1}, kNan},
      {"f1", {0, -1, 1}, {0, 2, 1}, 1},                  // an ignored label
      {"f1", {0, 0, 1}, {0, -1, 1}, (2.0 / 3 + 1) / 2},  // an output that is NaN is of no class
  };
  for (const auto& c : cases) {
    const LabelReading reading{.form = Form::classes, .class_axis = 1, .ignored = -1};
    const double got = measure(c.metric, scores_of(c.guesses, 3), classes(c.labels), reading);
    if (std::isnan(c.expected))
      EXPECT_TRUE(std::isnan(got)) << c.metric;
    else
      EXPECT_DOUBLE_EQ(got, c.expected) << c.metric;
  }
  const Tensor scores = Tensor::of<float>({0.9f, 0.6f, 0.4f, 0.7f}), labels = Tensor::of<float>({1, 0, 1, -100});
  const LabelReading binary{.form = Form::binary, .ignored = -100};
  EXPECT_DOUBLE_EQ(measure("f1:1", scores, labels, binary), 0.5);
  EXPECT_DOUBLE_EQ(measure("accuracy", scores, labels, binary), 1.0 / 3);
  EXPECT_NEAR(measure("mae", scores, labels, binary), (0.1 + 0.6 + 0.6) / 3, 1e-7);
  EXPECT_EQ(counted_labels(binary, labels, 4), 3);
}

TEST(Metrics, AreaUnderTheCurve) {
  const LabelReading binary{.form = Form::binary, .ignored = -100};
  const struct {
    std::vector<float> scores, labels;
    double expected;
  } cases[] = {
      {{0.1f, 0.4f, 0.35f, 0.8f}, {0, 0, 1, 1}, 0.75},  // the example of sklearn.metrics.roc_auc_score
      {{0.5f, 0.5f, 0.5f, 0.2f}, {1, 0, 1, 0}, 0.75},   // two pairs of four are tied
      {{1, 1, 1}, {0, 1, 1}, 0.5},
      {{3, 2, 1}, {0, 1, 1}, 0},
      {{-kInf, kInf, 0}, {0, 1, 1}, 1},
      {{0.1f, 9, 0.2f}, {0, -100, 1}, 1},
      {{0.1f, 0.2f}, {1, 1}, kNan},
      {{0.1f, kNan, 0.2f}, {0, 1, 1}, kNan},
  };
  for (const auto& c : cases) {
    const double got = measure("auc", Tensor::of<float>(c.scores), Tensor::of<float>(c.labels), binary);
    if (std::isnan(c.expected))
      EXPECT_TRUE(std::isnan(got));
    else
      EXPECT_DOUBLE_EQ(got, c.expected);
  }
  // Of two classes, the score is by how much the second is above the first.
  EXPECT_DOUBLE_EQ(measure("auc", Tensor::of<float>({5, 6, 0, 3, 9, 9}, Shape{3, 2}), classes({0, 1, 1}),
                           {.form = Form::classes, .class_axis = 1}),
                   0.5);
}

// Numbers of scikit-learn 1.9.1: roc_auc_score and confusion_matrix with sample_weight.
TEST(Metrics, WeightsCountInCurvesAndTables) {
  const Tensor scores = Tensor::of<float>({0.1f, 0.4f, 0.35f, 0.8f, 0.35f, 0.6f});
  const Tensor labels = Tensor::of<float>({0, 0, 1, 1, 0, 1});
  const struct {
    std::vector<float> weights;
    double expected;
  } cases[] = {{{1, 2, 0.5f, 3, 4, 0.25f}, 0.9238095238095239},
               {{1, 1, 1, 1, 1, 1}, 0.8333333333333333},
               {{0, 2, 0.5f, 0, 4, 1}, 0.7777777777777778},
               {{2, 1, 3, 1, 1, 2}, 0.8125},
               {{1, 1, 0, 0, 1, 0}, kNan}};
  for (const auto& c : cases) {
    const Tensor weights = Tensor::of<float>(c.weights);
    Metrics metrics(parse_metrics("auc"), {.form = Form::binary});
    const Tensor first = weights.rows(0, 4);
    metrics.add(scores.rows(0, 4), labels.rows(0, 4), 0, &first);
    // What a checkpoint keeps goes on in the same way.
    Metrics resumed(parse_metrics("auc"), {.form = Form::binary});
    resumed.load_state(metrics.state());
    for (Metrics* one : {&metrics, &resumed}) {
      const Tensor rest = weights.rows(4, 6);
      one->add(scores.rows(4, 6), labels.rows(4, 6), 0, &rest);
      if (std::isnan(c.expected))
        EXPECT_TRUE(std::isnan(one->value(0)));
      else
        EXPECT_DOUBLE_EQ(one->value(0), c.expected);
    }
  }
  const Tensor weights = Tensor::of<float>({0.5f, 2, 1, 0.25f, 4, 1.5f});
  Metrics table(parse_metrics("confusion"), {.form = Form::classes, .class_axis = 1});
  table.add(scores_of({1, 0, 1, 0, 2, 1}, 3), classes({0, 1, 2, 0, 1, 2}), 0, &weights);
  EXPECT_THAT(table.table(0)->counts, testing::ElementsAre(0.25, 0.5, 0, 0,  //
                                                           2, 0, 4, 0,       //
                                                           0, 2.5, 0, 0));
}

TEST(Metrics, AreaUnderTheCurveIsThatOfAllPairs) {
  Metrics metrics(parse_metrics("auc"), {.form = Form::binary});
  for (int epoch = 0; epoch < 2; ++epoch) {
    metrics.reset();
    std::vector<float> scores[2];
    for (int batch = 0; batch < 40; ++batch) {
      std::vector<float> x, y;
      for (int i = 0; i < 17; ++i) {
        const int n = batch * 17 + i + epoch;
        x.push_back(static_cast<float>((n * 7919) % 101) / 8);
        y.push_back(static_cast<float>((n * 31 + n * n) % 3 == 0));
        scores[y.back() == 1].push_back(x.back());
      }
      metrics.add(Tensor::of<float>(x), Tensor::of<float>(y));
    }
    double wins = 0;
    for (const float one : scores[1])
      for (const float zero : scores[0]) wins += one > zero ? 1 : one == zero ? 0.5 : 0;
    EXPECT_DOUBLE_EQ(metrics.value(0), wins / static_cast<double>(scores[0].size() * scores[1].size()));
  }
}

TEST(Metrics, ConfusionIsATable) {
  Metrics metrics(parse_metrics("accuracy,confusion"), {.form = Form::classes, .class_axis = 1, .ignored = -1});
  EXPECT_EQ(metrics.table(0), nullptr);
  metrics.add(scores_of({0, 2, 1, 0, 0, 1}, 3), classes({0, 1, 2, 0, 1, 2}));
  metrics.add(scores_of({-1, 2, 2}, 3), classes({1, -1, 2}));
  const ClassTable& table = *metrics.table(1);
  EXPECT_EQ(table.classes, 3);
  EXPECT_THAT(table.counts, testing::ElementsAre(2, 0, 0, 0,  //
                                                 1, 0, 1, 1,  //
                                                 0, 2, 1, 0));
  metrics.reset();
  EXPECT_THAT(metrics.table(1)->counts, testing::Each(0));
}

}  // namespace
}  // namespace halfstep
