// A run with a loss for each of several outputs.
#include <algorithm>
#include <memory>
#include <string>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <halfstep/base/error.h>
#include <halfstep/data/batch_stream.h>
#include <halfstep/executors/executor.h>
#include <halfstep/onnx_io/load.h>
#include <halfstep/training/callbacks.h>
#include <halfstep/training/trainer.h>
#include <halfstep/training/training_step.h>

namespace halfstep {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

LoadedModel two_heads() {
  return parse_model(
      R"(<ir_version: 10, opset_import: ["": 24]> m (float[N, 3] x) => (float[N, 2] boxes, float[N, 3] classes)
         <float[3, 4] w = {0.5, -0.25, 0.75, 0.1, -0.5, 0.3, 0.2, -0.1, 0.9, 0.4, -0.6, 0.2},
          float[4, 2] v = {0.3, -0.4, 0.8, 0.1, -0.7, 0.5, 0.2, 0.6},
          float[4, 3] u = {0.3, -0.4, 0.8, 0.1, -0.7, 0.5, 0.2, 0.6, 0.1, -0.2, 0.4, 0.3}>
         { h = MatMul(x, w) r = Tanh(h) boxes = MatMul(r, v) classes = MatMul(r, u) })");
}

Tensor numbers(std::int64_t rows, std::int64_t columns, int seed) {
  Tensor result(DType::f32, {rows, columns});
  for (std::int64_t i = 0; i < result.count(); ++i)
    result.data<float>()[i] = static_cast<float>((i * 7 + 3 * seed) % 13 - 6) / 6;
  return result;
}
const Tensor kX = numbers(8, 3, 0), kBoxes = numbers(8, 2, 5);
const Tensor kClasses = Tensor::of<std::int64_t>({0, 1, 2, 0, 1, 2, 2, 1});

Dataset rows() {
  return Dataset({{"x", DataArray::of(kX, "x")},
                  {"true_boxes", DataArray::of(kBoxes, "boxes")},
                  {"kinds", DataArray::of(kClasses, "kinds")}});
}

TrainerOptions options() {
  TrainerOptions result{.precision = Precision::fp32, .epochs = 2, .batch_size = 4, .shuffle = false};
  result.losses = {{.loss = "l1", .output = "boxes", .labels = "true_boxes", .weight = 5},
                   {.output = "classes", .labels = "kinds"}};
  result.optimizer.name = "sgd";
  result.schedule.base_lr = 0.1;
  return result;
}

TEST(SeveralLosses, AreThoseOfATrainingStep) {
  const auto executor = make_reference_executor();
  Trainer trainer(two_heads(), *executor, rows(), options());
  std::vector<float> losses;
  std::vector<std::string> names;
  trainer.fit({.on_step = [&](const StepResult& result) {
    losses.push_back(result.loss);
    names.clear();
    for (std::size_t i = 0; i < result.metrics->size(); ++i) names.push_back(result.metrics->metric(i).name());
  }});
  EXPECT_EQ(trainer.loss_text(), "boxes=l1*5, classes=softmax_cross_entropy") << "the second is chosen by its labels";
  EXPECT_THAT(names, ElementsAre("classes.accuracy"));

  TrainingStepOptions step_options{.learning_rate = 0.1, .precision = Precision::fp32};
  step_options.optimizer.name = "sgd";
  step_options.loss = LossOptions{
      .terms = {{.loss = "l1", .output = "boxes", .labels = "b", .weight = 5}, {.output = "classes", .labels = "c"}}};
  TrainingStep step(two_heads(), *executor, step_options);
  std::vector<float> expected;
  for (int epoch = 0; epoch < 2; ++epoch)
    for (const std::int64_t first : {0, 4})
      expected.push_back(step.run({{"x", kX.rows(first, first + 4)},
                                   {"b", kBoxes.rows(first, first + 4)},
                                   {"c", kClasses.rows(first, first + 4)}})
                             .loss);
  EXPECT_EQ(losses, expected);
}

TEST(SeveralLosses, AreEvaluatedEachByItsMetrics) {
  const auto executor = make_reference_executor();
  TrainerOptions measured = options();
  measured.metrics = parse_metrics("boxes.mae,classes.accuracy,classes.top_k:2");
  Evaluator evaluator(two_heads(), *executor, rows(), measured);
  const Evaluation result = evaluator.evaluate(rows());
  ASSERT_EQ(result.metrics.size(), 3U);
  EXPECT_EQ(result.metrics[0].first, "boxes.mae");
  EXPECT_EQ(result.metrics[2].first, "classes.top_k:2");
  // The loss is 5 times the first metric and a cross-entropy near that of three equal classes.
  EXPECT_GT(result.loss, 5 * result.metrics[0].second);
  EXPECT_LT(result.loss, 5 * result.metrics[0].second + 2);
  EXPECT_LE(result.metrics[1].second, result.metrics[2].second);
}

// The means of each term are over the labels that count of that term: batches of any size give the same.
TEST(SeveralLosses, AreMeansOfTheirOwnLabels) {
  const auto executor = make_reference_executor();
  const Dataset some_ignored(
      {{"x", DataArray::of(kX, "x")},
       {"true_boxes", DataArray::of(kBoxes, "boxes")},
       {"kinds", DataArray::of(Tensor::of<std::int64_t>({0, -100, -100, 0, -100, 2, 2, 1}), "kinds")}});
  std::vector<double> losses;
  for (const std::int64_t batch : {8, 3, 1}) {
    TrainerOptions measured = options();
    measured.batch_size = batch;
    losses.push_back(Evaluator(two_heads(), *executor, some_ignored, measured).evaluate(some_ignored).loss);
  }
  EXPECT_NEAR(losses[1], losses[0], 1e-6);
  EXPECT_NEAR(losses[2], losses[0], 1e-6);
}

// A list of one is what several are, but for the names of metrics.
TEST(SeveralLosses, MayBeOne) {
  const auto executor = make_reference_executor();
  TrainerOptions one = options();
  one.losses.resize(1);
  one.metrics = parse_metrics("mae");
  const Dataset data({{"x", DataArray::of(kX, "x")}, {"true_boxes", DataArray::of(kBoxes, "boxes")}});
  const Evaluation result = Evaluator(two_heads(), *executor, data, one).evaluate(data);
  EXPECT_EQ(result.metrics[0].first, "mae");
  EXPECT_NEAR(result.loss, 5 * result.metrics[0].second, 1e-5) << "it has its weight";
  one.metrics = parse_metrics("boxes.mae");
  EXPECT_EQ(Evaluator(two_heads(), *executor, data, one).evaluate(data).metrics[0].first, "boxes.mae");
  one.metrics = parse_metrics("classes.mae");
  EXPECT_THROW(Evaluator(two_heads(), *executor, data, one), Error);
  one.losses.clear();
  EXPECT_THROW(Evaluator(two_heads(), *executor, data, one), Error);
}

// Of mae less is better, whatever output it is measured of.
TEST(SeveralLosses, AreWatchedByTheirMetrics) {
  const auto executor = make_reference_executor();
  TrainerOptions measured = options();
  measured.metrics = parse_metrics("boxes.mae,classes.accuracy");
  measured.epochs = 8;
  Trainer trainer(two_heads(), *executor, rows(), measured);
  const Dataset validation = rows();
  std::vector<double> errors;
  EarlyStopping stopping(trainer, {.watch = {.what = "boxes.mae"}, .patience = 8});
  trainer.fit(combined({stopping.callbacks(),
                        {.on_epoch_end = [&](const StepResult&,
                                             const Evaluation* e) { errors.push_back(e->metrics.at(0).second); }}}),
              &validation);
  EXPECT_DOUBLE_EQ(stopping.best(), *std::min_element(errors.begin(), errors.end()));
}

class Stream : public BatchStream {
 public:
  void begin(std::int64_t) override { at_ = 0; }
  NamedTensors next() override {
    if (at_ == 8) return {};
    at_ += 4;
    return {{"x", kX.rows(at_ - 4, at_)},
            {"true_boxes", kBoxes.rows(at_ - 4, at_)},
            {"kinds", kClasses.rows(at_ - 4, at_)}};
  }

 private:
  std::int64_t at_ = 0;
};

TEST(SeveralLosses, TakeLabelsOfAStreamByName) {
  const auto executor = make_reference_executor();
  std::vector<float> streamed, plain;
  Stream stream;
  Trainer(two_heads(), *executor, stream, options()).fit({.on_step = [&](const StepResult& r) {
    streamed.push_back(r.loss);
  }});
  Trainer(two_heads(), *executor, rows(), options()).fit({.on_step = [&](const StepResult& r) {
    plain.push_back(r.loss);
  }});
  EXPECT_EQ(streamed, plain);
}

TEST(SeveralLosses, SayWhatDoesNotFit) {
  const struct {
    void (*change)(TrainerOptions&);
    const char* says;
  } cases[] = {
      {[](TrainerOptions& o) { o.losses[0].output = "z"; }, "losses by outputs of the model: boxes, classes, got 'z'"},
      {[](TrainerOptions& o) { o.losses[1].output = "boxes"; }, "two for 'boxes'"},
      {[](TrainerOptions& o) { o.losses[0].labels = "z"; }, "labels 'z' in the data, got x, true_boxes, kinds"},
      {[](TrainerOptions& o) { o.losses[0].labels = ""; }, "rows for each of the model's inputs: x, got x, true_boxes"},
      {[](TrainerOptions& o) { o.losses[0].weight = -1; }, "a weight of at least 0 for the loss of 'boxes'"},
      {[](TrainerOptions& o) { o.losses[0].loss = "output"; }, "losses that are computed from labels"},
      {[](TrainerOptions& o) { o.losses[0].numbers["huber-delta"] = 1; }, "a loss that has --huber-delta"},
      {[](TrainerOptions& o) { o.metrics = parse_metrics("accuracy"); }, "boxes.accuracy"},
      {[](TrainerOptions& o) { o.metrics = parse_metrics("boxes.accuracy"); }, "accuracy"},
      {[](TrainerOptions& o) { std::swap(o.losses[0].labels, o.losses[1].labels); }, "labels"},
  };
  const auto executor = make_reference_executor();
  for (const auto& c : cases) {
    TrainerOptions changed = options();
    c.change(changed);
    try {
      Trainer trainer(two_heads(), *executor, rows(), changed);
      ADD_FAILURE() << "no error: " << c.says;
    } catch (const Error& error) {
      EXPECT_EQ(error.kind(), Error::Kind::input);
      EXPECT_THAT(error.what(), HasSubstr(c.says));
    }
  }
}

}  // namespace
}  // namespace halfstep
