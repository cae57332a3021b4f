// Weights of rows in a run's loss, metrics and validation.
#include <cstdint>
#include <cstring>
#include <memory>
#include <string>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/temporary_directory.h"
#include <halfstep/data/batch_stream.h>
#include <halfstep/executors/executor.h>
#include <halfstep/onnx_io/load.h>
#include <halfstep/training/evaluator.h>
#include <halfstep/training/trainer.h>

namespace halfstep {
namespace {

using ::testing::HasSubstr;

constexpr std::int64_t kRows = 6;
const std::vector<std::int64_t> kWeights{2, 0, 1, 3, 1, 1};  // 8 in all

LoadedModel model() {
  return parse_model(R"(<ir_version: 10, opset_import: ["": 24]> m (float[N, 2] x) => (float[N, 3] scores)
      <float[2, 3] w = {0.5, -1, 0.25, 0.1, 0.7, -0.3}, float[3] b = {0, 0.1, -0.2}> { scores = Gemm(x, w, b) })");
}

Tensor inputs() {
  Tensor x(DType::f32, {kRows, 2});
  for (std::int64_t i = 0; i < x.count(); ++i) x.data<float>()[i] = static_cast<float>((5 * i) % 7 - 3) / 3;
  return x;
}
Tensor classes() { return Tensor::of<std::int64_t>({0, 1, 2, 2, -100, 1}); }
Tensor binary() {
  Tensor y(DType::i64, {kRows, 3});
  for (std::int64_t i = 0; i < y.count(); ++i) y.data<std::int64_t>()[i] = (3 * i + i / 4) % 5 % 2;
  return y;
}
Tensor values() {
  Tensor y(DType::f32, {kRows, 3});
  for (std::int64_t i = 0; i < y.count(); ++i) y.data<float>()[i] = static_cast<float>((3 * i) % 5 - 2) / 2;
  return y;
}

/// Each row as often as it weighs.
Tensor repeated(const Tensor& rows) {
  std::vector<std::int64_t> dims = rows.shape().dims();
  dims[0] = 8;
  Tensor result(rows.dtype(), Shape(dims));
  const std::size_t bytes = rows.bytes() / kRows;
  auto* out = static_cast<std::byte*>(result.raw());
  for (std::size_t i = 0; i < kRows; ++i)
    for (std::int64_t n = 0; n < kWeights[i]; ++n, out += bytes)
      std::memcpy(out, static_cast<const std::byte*>(rows.raw()) + i * bytes, bytes);
  return result;
}

Dataset weighted(const Tensor& y) {
  return Dataset({{"x", DataArray::of(inputs(), "x")}, {"w", DataArray::of(Tensor::of<std::int64_t>(kWeights), "w")}},
                 DataArray::of(y, "y"));
}
Dataset plain(const Tensor& y) {
  return Dataset(DataArray::of(repeated(inputs()), "x"), DataArray::of(repeated(y), "y"));
}

TrainerOptions options(const OutputLoss& loss) {
  TrainerOptions result{.losses = {loss}, .precision = Precision::fp32, .epochs = 4, .batch_size = 8, .shuffle = false};
  result.optimizer.name = "sgd";
  result.schedule.base_lr = 0.1;
  return result;
}

struct Course {
  std::vector<double> losses, metrics, validation;
};
Course course(const TrainerOptions& o, const Dataset& data) {
  const auto executor = make_reference_executor();
  Trainer trainer(model(), *executor, data, o);
  Course course;
  trainer.fit({.on_step = [&](const StepResult& r) { course.losses.push_back(r.loss); },
               .on_epoch_end =
                   [&](const StepResult& last, const Evaluation* validation) {
                     for (std::size_t i = 0; i < last.metrics->size(); ++i)
                       course.metrics.push_back(last.metrics->value(i));
                     course.validation.push_back(validation->loss);
                     for (const auto& [name, value] : validation->metrics) course.validation.push_back(value);
                   }},
              &data);
  return course;
}

void expect_near(const std::vector<double>& a, const std::vector<double>& b) {
  ASSERT_EQ(a.size(), b.size());
  for (std::size_t i = 0; i < a.size(); ++i) EXPECT_NEAR(a[i], b[i], 2e-6) << i;
}

const struct {
  OutputLoss loss;
  const char* metrics;
} kCases[] = {
    {{.loss = "softmax_cross_entropy"}, "accuracy,top_k:2,f1,mean_iou"},
    {{.loss = "softmax_cross_entropy", .numbers = {{"label-smoothing", 0.1}}, .class_weights = {1, 2, 0.5}}, "f1:1"},
    {{.loss = "focal", .class_weights = {1, 2, 0.5}}, "accuracy"},
    {{.loss = "mean_squared_error"}, "mae,mse"},
    {{.loss = "huber"}, "mae"},
    {{.loss = "binary_cross_entropy_logits"}, "auc,accuracy,f1:1"},
};

Tensor labels_of(const OutputLoss& loss) {
  const LossLabels labels = loss_named(*loss.loss).labels;
  return labels == LossLabels::classes ? classes() : labels == LossLabels::binary ? binary() : values();
}

TEST(SampleWeights, AreHowOftenARowIsThere) {
  for (const auto& c : kCases) {
    SCOPED_TRACE(*c.loss.loss + " " + c.metrics);
    const Tensor y = labels_of(c.loss);
    TrainerOptions with = options(c.loss), without = options(c.loss);
    with.metrics = without.metrics = parse_metrics(c.metrics);
    with.losses[0].sample_weights = "w";
    const Course a = course(with, weighted(y)), b = course(without, plain(y));
    expect_near(a.losses, b.losses);
    expect_near(a.metrics, b.metrics);
    expect_near(a.validation, b.validation);
  }
}

TEST(SampleWeights, AreCountedInAConfusionMatrix) {
  const auto executor = make_reference_executor();
  TrainerOptions with = options({.loss = "softmax_cross_entropy", .sample_weights = "w"}),
                 without = options({.loss = "softmax_cross_entropy"});
  with.metrics = without.metrics = parse_metrics("confusion");
  const auto table = [&](const Dataset& data, const TrainerOptions& o) {
    return Evaluator(model(), *executor, data, o).evaluate(data).tables.at(0).second.counts;
  };
  EXPECT_EQ(table(weighted(classes()), with), table(plain(classes()), without));
}

TEST(SampleWeights, MakeMeansThatBatchesDoNotChange) {
  const auto executor = make_reference_executor();
  for (const auto& c : kCases) {
    SCOPED_TRACE(*c.loss.loss);
    const Tensor y = labels_of(c.loss);
    std::vector<double> losses;
    for (const std::int64_t batch : {6, 4, 1}) {
      TrainerOptions o = options(c.loss);
      o.losses[0].sample_weights = "w";
      o.batch_size = batch;
      losses.push_back(Evaluator(model(), *executor, weighted(y), o).evaluate(weighted(y)).loss);
    }
    EXPECT_NEAR(losses[1], losses[0], 1e-6);
    EXPECT_NEAR(losses[2], losses[0], 1e-6);
  }
}

// (1 * 4 + 3 * 0.25) / 4, by hand: the model gives 0.
TEST(SampleWeights, MayBeOnesOfLabels) {
  const auto executor = make_reference_executor();
  const LoadedModel zero = parse_model(R"(<ir_version: 10, opset_import: ["": 24]> m (float[N, 2] x) => (float[N, 2] y)
      <float[2, 2] w = {0, 0, 0, 0}> { y = MatMul(x, w) })");
  const Dataset data({{"x", DataArray::of(Tensor::of<float>({1, 1}, {1, 2}), "x")},
                      {"w", DataArray::of(Tensor::of<float>({1, 3}, {1, 2}), "w")}},
                     DataArray::of(Tensor::of<float>({2, 0.5f}, {1, 2}), "y"));
  const TrainerOptions o = options({.loss = "mean_squared_error", .sample_weights = "w"});
  const Evaluation result = Evaluator(zero, *executor, data,
                                      [&] {
                                        TrainerOptions measured = o;
                                        measured.metrics = parse_metrics("mse");
                                        return measured;
                                      }())
                                .evaluate(data);
  EXPECT_DOUBLE_EQ(result.loss, 4.75 / 4);
  EXPECT_DOUBLE_EQ(result.metrics[0].second, 4.75 / 4);
}

TEST(SampleWeights, AreEvenWhereValidationHasNone) {
  const auto executor = make_reference_executor();
  TrainerOptions o = options({.loss = "mean_squared_error", .sample_weights = "w"});
  o.epochs = 1;
  Trainer trainer(model(), *executor, weighted(values()), o);
  const Dataset validation(DataArray::of(inputs(), "x"), DataArray::of(values(), "y"));
  std::vector<std::string> notices;
  double loss = 0;
  trainer.fit({.on_epoch_end = [&](const StepResult&, const Evaluation* e) { loss = e->loss; },
               .on_notice = [&](const std::string& text) { notices.push_back(text); }},
              &validation);
  EXPECT_THAT(notices, ::testing::Contains("the validation data has no 'w': its rows are unweighted"));
  TrainerOptions even = o;
  even.losses[0].sample_weights = "";
  Trainer other(model(), *executor, validation, even);
  other.set_parameters(trainer.parameters());
  EXPECT_DOUBLE_EQ(other.evaluate(validation).loss, loss);
}

TEST(SampleWeights, ThatAreAllZeroAreTold) {
  const auto executor = make_reference_executor();
  TrainerOptions o = options({.loss = "mean_squared_error", .sample_weights = "w"});
  o.epochs = 1;
  const Tensor none(DType::f32, {kRows});
  const Dataset data({{"x", DataArray::of(inputs(), "x")}, {"w", DataArray::of(none, "w")}},
                     DataArray::of(values(), "y"));
  Trainer trainer(model(), *executor, data, o);
  std::vector<std::string> notices;
  trainer.fit({.on_notice = [&](const std::string& text) { notices.push_back(text); }});
  EXPECT_THAT(notices, ::testing::Contains(HasSubstr("every label of epoch 1 is ignored")));
}

class Stream : public BatchStream {
 public:
  void begin(std::int64_t) override { at_ = 0; }
  NamedTensors next() override {
    if (at_ == kRows) return {};
    at_ += 3;
    return {{"x", inputs().rows(at_ - 3, at_)},
            {"labels", values().rows(at_ - 3, at_)},
            {"w", Tensor::of<std::int64_t>(kWeights).rows(at_ - 3, at_)}};
  }

 private:
  std::int64_t at_ = 0;
};

TEST(SampleWeights, ComeWithAStream) {
  const auto executor = make_reference_executor();
  TrainerOptions o = options({.loss = "mean_squared_error", .sample_weights = "w"});
  o.batch_size = 3;
  Stream stream;
  std::vector<float> streamed, rows;
  Trainer(model(), *executor, stream, o).fit({.on_step = [&](const StepResult& r) { streamed.push_back(r.loss); }});
  Trainer(model(), *executor, weighted(values()), o).fit({.on_step = [&](const StepResult& r) {
    rows.push_back(r.loss);
  }});
  EXPECT_EQ(streamed, rows);
}

TEST(SampleWeights, SayWhatDoesNotFit) {
  const auto executor = make_reference_executor();
  const Tensor x = inputs(), y = classes();
  const auto with = [&](const Tensor& w) {
    return Dataset({{"x", DataArray::of(x, "x")}, {"w", DataArray::of(w, "w")}}, DataArray::of(y, "y"));
  };
  const struct {
    const char* says;
    Dataset data;
    OutputLoss loss;
    const char* metrics = "";
  } cases[] = {
      {"sample weights 'v' in the data", with(Tensor(DType::f32, {kRows})), {.sample_weights = "v"}},
      {"a sample weight for each row", with(Tensor(DType::f32, {kRows, 2})), {.sample_weights = "w"}},
      {"sample weights from 0 to 1e+30, got 1e+38 in row 5 of w",
       with(Tensor::of<float>({1, 1, 1, 1, 1, 1e38f})),
       {.sample_weights = "w"}},
      {"sample weights from 0 to 1e+30, got -1 in row 3 of w",
       with(Tensor::of<float>({1, 1, 1, -1, 1, 1})),
       {.sample_weights = "w"}},
      {"for sample weights, got --loss output",
       with(Tensor(DType::f32, {kRows})),
       {.loss = "output", .sample_weights = "w"}},
      {"a label that is not ignored", with(Tensor(DType::f32, {kRows})), {.sample_weights = "w"}},
  };
  for (const auto& c : cases) {
    TrainerOptions o = options(c.loss);
    if (*c.metrics) o.metrics = parse_metrics(c.metrics);
    EXPECT_THAT(error_of(Error::Kind::input, [&] { Evaluator(model(), *executor, c.data, o).evaluate(c.data); }),
                HasSubstr(c.says));
  }
}

}  // namespace
}  // namespace halfstep
