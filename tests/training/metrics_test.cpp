#include "training/metrics.h"

#include <cmath>
#include <limits>

#include <gmock/gmock.h>

#include "tests/temporary_directory.h"

namespace halfstep {
namespace {

using testing::HasSubstr;

constexpr float kNan = std::numeric_limits<float>::quiet_NaN();
constexpr float kInf = std::numeric_limits<float>::infinity();

double measure(const char* metric, const Tensor& output, const Tensor& labels, double threshold = 0.5) {
  Metrics metrics(parse_metrics(metric), threshold);
  metrics.add(output, labels);
  return metrics.value(0);
}

Tensor classes(std::vector<std::int64_t> values) { return Tensor::of<std::int64_t>(values); }

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
              HasSubstr("2 at row 1"));
}

TEST(Metrics, Errors) {
  const Tensor output = Tensor::of<float>({1, 2, 3, 4}, Shape{2, 2}),
               target = Tensor::of<float>({1, 0, 0, 8}, Shape{2, 2});
  EXPECT_EQ(measure("mae", output, target), 9.0 / 4);
  EXPECT_EQ(measure("mse", output, target), (0 + 4 + 9 + 16) / 4.0);
  EXPECT_EQ(measure("mse", convert(output, DType::f16), convert(target, DType::i32)), 29.0 / 4);
}

TEST(Metrics, BatchesCountByTheirRows) {
  Metrics metrics(parse_metrics("accuracy,mae"));
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

TEST(Metrics, RefusesLabelsThatDoNotFit) {
  const Tensor output(DType::f32, Shape{2, 3});
  struct Case {
    const char* metric;
    Tensor labels;
    const char* expected;
  };
  const Case cases[] = {
      {"accuracy", classes({0, 3}), "3 at row 1"},
      {"top_k:2", classes({-1, 0}), "-1 at row 0"},
      {"accuracy", classes({0, 1, 2}), "i64[3] for output f32[2, 3]"},
      {"accuracy", Tensor::of<float>({0, 1}), "f32[2] for output f32[2, 3]"},
      {"mae", classes({0, 1}), "one target for each output"},
      {"accuracy", Tensor(DType::string, Shape{2}), "numeric"},
  };
  for (const Case& c : cases)
    EXPECT_THAT(error_of(Error::Kind::input, [&] { measure(c.metric, output, c.labels); }), HasSubstr(c.expected));
  error_of(Error::Kind::input, [&] { measure("accuracy", Tensor(DType::i64, Shape{2, 3}), classes({0, 1})); });
}

TEST(Metrics, Parsing) {
  const std::vector<Metric> metrics = parse_metrics("accuracy,top_k:3,mae,mse,top_k");
  std::vector<std::string> names;
  for (const Metric& m : metrics) names.push_back(m.name());
  EXPECT_THAT(names, testing::ElementsAre("accuracy", "top_k:3", "mae", "mse", "top_k:5"));
  EXPECT_TRUE(parse_metrics("").empty());
  for (const char* bad : {"acc", "accuracy,", ",mae", "top_k:0", "top_k:x", "top_k:", "top_k:2x", "accuracy:1",
                          "mae,mae", "top_k,top_k:5", "top_k:99999999999999999999"})
    EXPECT_THROW(parse_metrics(bad), Error) << bad;
}

}  // namespace
}  // namespace halfstep
