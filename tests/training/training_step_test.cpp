// Training step by step, through the public interface.
#include <cmath>
#include <memory>
#include <string>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/support/error_of.h"
#include "tests/temporary_directory.h"
#include "tests/training/step_testing.h"
#include <halfstep/base/error.h>
#include <halfstep/session/session.h>
#include <halfstep/training/training_step.h>

namespace halfstep {
namespace {

using namespace test;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

INSTANTIATE_TEST_SUITE_P(Executors, Steps, all_executors, [](const auto& of) { return std::string(of.param); });

TEST_P(Steps, LearnAndTellTheirLoss) {
  TrainingStep step(parse_model(kClassifier), *executor, fp32());
  const float first = step.run(batch()).loss;
  StepReport last;
  for (int i = 0; i < 30; ++i) last = step.run(batch());
  EXPECT_NEAR(first, 0.69, 0.3);
  EXPECT_LT(last.loss, first / 2);
  EXPECT_TRUE(last.updated);
  EXPECT_GT(last.gradient_norm, 0);
  EXPECT_EQ(step.updates(), 31);
  EXPECT_EQ(step.outputs().at("y").shape(), (Shape{4, 2}));
}

TEST_P(Steps, GoOnFromAState) {
  for (const char* text : {kClassifier, kNormalized}) {
    for (const bool waiting : {false, true}) {
      TrainingStepOptions options = fp32();
      options.loss_scale = 256;
      TrainingStep step(parse_model(text), *executor, options), fresh(parse_model(text), *executor, options);
      step.run(batch(0));
      step.run(batch(1));
      if (waiting) step.forward_backward(batch(2));
      const NamedTensors state = step.state();
      fresh.load_state(state);
      EXPECT_EQ(fresh.updates(), 2);
      expect_same(fresh.state(), state);
      for (TrainingStep* one : {&step, &fresh}) {
        one->forward_backward(batch(3));
        one->update();
        one->run(batch(4));
      }
      expect_same(fresh.state(), step.state());
    }
  }
}

// What is kept of a step before its first batch is the parameters alone.
TEST_P(Steps, StartAnewFromTheStateBeforeTheFirstBatch) {
  for (const char* text : {kClassifier, kNormalized}) {
    TrainingStepOptions options = fp32();
    options.loss_scale = 256;
    TrainingStep step(parse_model(text), *executor, options), fresh(parse_model(text), *executor, options);
    const NamedTensors first = step.state();
    for (int i = 0; i < 3; ++i) step.run(batch(i));
    step.load_state(first);
    EXPECT_EQ(step.updates(), 0);
    for (TrainingStep* one : {&step, &fresh})
      for (int i = 5; i < 8; ++i) one->run(batch(i));
    expect_same(step.state(), fresh.state());
    NamedTensors less = first;
    less.erase(less.begin());
    EXPECT_THAT(error_of([&] { step.load_state(less); }), HasSubstr("a state with all that the step has"));
  }
}

TEST_P(Steps, AreWholeOnceAStateIsLoaded) {
  TrainingStep step(parse_model(kNormalized), *executor, fp32());
  step.run(batch(0));
  step.forward_backward(batch(1));
  TrainingStep fresh(parse_model(kNormalized), *executor, fp32());
  fresh.load_state(step.state());
  expect_same(fresh.statistics(), step.statistics());
  expect_same(fresh.gradients(), step.gradients());
  step.update();
  EXPECT_TRUE(fresh.update().updated) << "no batch was needed";
  expect_same(fresh.parameters(), step.parameters());
  const TemporaryDirectory directory;
  fresh.save(directory / "fresh.onnx");
  step.save(directory / "step.onnx");
  std::vector<NamedTensors> y;
  for (const char* file : {"fresh.onnx", "step.onnx"})
    y.push_back(Session(load_model(directory / file).graph, *executor).run({{"x", rows(4, 3)}}));
  expect_same(y[0], y[1]);
}

TEST_P(Steps, RefuseNumbersThatNoStepHas) {
  TrainingStepOptions options = fp32();
  for (const double scale : {-1.0, static_cast<double>(NAN), static_cast<double>(INFINITY)}) {
    options.loss_scale = scale;
    EXPECT_THAT(error_of([&] { TrainingStep(parse_model(kClassifier), *executor, options); }),
                HasSubstr("a loss scale"));
  }
  options.loss_scale = 8;
  options.loss = LossOptions{.terms = {{.weight = NAN}}};
  TrainingStep weighted(parse_model(kClassifier), *executor, options);
  EXPECT_THAT(error_of([&] { weighted.run(batch()); }), HasSubstr("a finite weight"));
  options.loss = {};
  TrainingStep step(parse_model(kClassifier), *executor, options);
  EXPECT_THAT(error_of([&] { step.forward_backward(batch(), INFINITY); }), HasSubstr("a finite weight"));
  step.run(batch());
  const NamedTensors good = step.state();
  const struct {
    const char* name;
    Tensor value;
    const char* says;
  } cases[] = {
      {"loss_scale", Tensor::scalar(0.0f), "a loss scale above 0"},
      {"loss_scale", Tensor::scalar(-5.0f), "a loss scale above 0"},
      {"loss_scale", Tensor::scalar(NAN), "a loss scale above 0"},
      {"optimizer.step", Tensor::scalar(std::int64_t{-1}), "a number of updates"},
      {"gradients.count", Tensor::scalar(std::int64_t{2}), "2 batches and 0 gradients"},
      {"accumulator.w1", Tensor(DType::f32, {3, 4}), "0 batches and 1 gradients"},
  };
  for (const auto& c : cases) {
    NamedTensors bad = good;
    bad[c.name] = c.value;
    EXPECT_THAT(error_of([&] { step.load_state(bad); }), HasSubstr(c.says));
    expect_same(step.state(), good);
  }
  NamedTensors more = good;
  more["zzz"] = Tensor::scalar(1.0f);
  TrainingStep fresh(parse_model(kClassifier), *executor, options);
  EXPECT_THAT(error_of([&] {
                fresh.load_state(more);
                fresh.run(batch());
              }),
              HasSubstr("'zzz'"));
  EXPECT_THAT(error_of([&] { step.load_state(more); }), HasSubstr("'zzz'"));
}

TEST_P(Steps, RefuseStatesOfOthers) {
  TrainingStep step(parse_model(kClassifier), *executor, fp32()), other(parse_model(kTwoHeads), *executor, fp32());
  step.run(batch());
  EXPECT_THAT(error_of([&] { step.load_state(other.state()); }),
              HasSubstr("load the state of the same model and options"));
  NamedTensors state = step.state();
  state["w1"] = Tensor(DType::f32, {2, 2});
  EXPECT_THAT(error_of([&] { step.load_state(state); }), HasSubstr("'w1' as f32[3, 4]"));
}

TEST_P(Steps, HaveParametersAsOneBuffer) {
  TrainingStep step(parse_model(kClassifier), *executor, fp32());
  const Tensor flat = step.flat_parameters();
  ASSERT_EQ(flat.count(), 12 + 4 + 8 + 2);
  Tensor changed = flat.clone();
  for (float& x : changed.span<float>()) x = -x;
  step.set_flat_parameters(changed);
  EXPECT_TRUE(identical(step.flat_parameters(), changed)) << "before there is a program";
  step.run(batch());
  step.set_flat_parameters(flat);
  EXPECT_TRUE(identical(step.flat_parameters(), flat));
  EXPECT_THAT(error_of([&] { step.set_flat_parameters(Tensor(DType::f32, {3})); }), HasSubstr("f32[26]"));
}

TEST_P(Steps, TellWhatABatchWithLabelsWeighs) {
  TrainingStep step(parse_model(kClassifier), *executor, fp32());
  EXPECT_THROW(step.loss_weights(), Error);
  step.run(batch());
  EXPECT_THAT(step.loss_weights(), ElementsAre(4));
  step.predict({{"x", rows(2, 3)}});
  EXPECT_THROW(step.loss_weights(), Error);
}

TEST_P(Steps, TrainSeveralOutputs) {
  TrainingStepOptions options = fp32("sgd");
  options.loss = LossOptions{.terms = {{.loss = "l1", .output = "boxes", .labels = "boxes_t", .weight = 5},
                                       {.loss = "softmax_cross_entropy", .output = "classes", .labels = "classes_t"}}};
  TrainingStep step(parse_model(kTwoHeads), *executor, options);
  const NamedTensors given{{"x", rows(4, 3)}, {"boxes_t", rows(4, 2, 5)}, {"classes_t", classes(4, 3)}};
  const StepReport first = step.run(given);
  ASSERT_EQ(first.terms.size(), 2U);
  EXPECT_NEAR(first.loss, 5 * first.terms[0] + first.terms[1], 1e-5);
  Metrics accuracy = step.metrics(parse_metrics("accuracy"), 1);
  step.measure(accuracy, given, 1);
  EXPECT_GE(accuracy.value(0), 0);
  StepReport last;
  for (int i = 0; i < 40; ++i) last = step.run(given);
  EXPECT_LT(last.terms[0], first.terms[0]);
  EXPECT_LT(last.terms[1], first.terms[1]);
  EXPECT_THAT(error_of([&] { step.run({{"x", rows(4, 3)}, {"boxes_t", rows(4, 2)}}); }), HasSubstr("'classes_t'"));
}

TEST_P(Steps, TrainGroupsOfTheirOwn) {
  TrainingStepOptions options = fp32("sgd");
  options.optimizer.groups = {{.pattern = "w1", .lr_factor = 0.5}, {.pattern = "b*", .frozen_updates = 1}};
  TrainingStep grouped(parse_model(kClassifier), *executor, options);
  TrainingStep plain(parse_model(kClassifier), *executor, fp32("sgd"));
  const NamedTensors before = plain.parameters();
  grouped.run(batch());
  plain.run(batch());
  const NamedTensors a = grouped.parameters(), b = plain.parameters();
  for (std::int64_t i = 0; i < 12; ++i) {
    const float start = before.at("w1").data<float>()[i];
    EXPECT_NEAR(a.at("w1").data<float>()[i] - start, (b.at("w1").data<float>()[i] - start) / 2, 1e-7);
  }
  EXPECT_TRUE(identical(a.at("w2"), b.at("w2")));
  EXPECT_TRUE(identical(a.at("b1"), before.at("b1"))) << "frozen";
  grouped.run(batch());
  EXPECT_FALSE(identical(grouped.parameters().at("b1"), before.at("b1"))) << "no longer frozen";
  options.optimizer.groups = {{.pattern = "nothing"}};
  EXPECT_THAT(error_of([&] { TrainingStep(parse_model(kClassifier), *executor, options); }), HasSubstr("'nothing'"));
}

TEST_P(Steps, SkipWhatIsNotFinite) {
  TrainingStepOptions options = fp32();
  options.loss_scale = 256;
  TrainingStep step(parse_model(kNormalized), *executor, options);
  step.run(batch());
  const NamedTensors before = step.parameters(), statistics = step.statistics();
  NamedTensors bad = batch(1);
  bad["x"] = bad["x"].clone();
  bad["x"].data<float>()[0] = INFINITY;
  const StepReport report = step.run(bad);
  EXPECT_FALSE(report.updated);
  EXPECT_FALSE(report.gradients_finite);
  EXPECT_EQ(step.updates(), 1);
  EXPECT_EQ(step.loss_scale(), 128);
  expect_same(step.parameters(), before);
  expect_same(step.statistics(), statistics);
  step.forward_backward(bad);
  EXPECT_FALSE(step.update().updated);
  expect_same(step.parameters(), before);
  EXPECT_TRUE(step.run(batch(2)).updated) << "nothing of the bad batch is left";
}

TEST_P(Steps, EvaluateAndPredictWithoutChange) {
  TrainingStep step(parse_model(kNormalized), *executor, fp32());
  step.run(batch());
  const NamedTensors before = step.state();
  const StepReport evaluation = step.evaluate(batch(1));
  const NamedTensors y = step.predict({{"x", rows(4, 3, 1)}});
  step.forward({{"x", rows(4, 3, 1)}});
  EXPECT_GT(evaluation.loss, 0);
  expect_same(step.state(), before);
  // What it saves gives what it predicts.
  const TemporaryDirectory directory;
  step.save(directory.path() / "m.onnx");
  Session session(load_model(directory.path() / "m.onnx").graph, *executor);
  const Tensor saved = session.run({{"x", rows(4, 3, 1)}}).at("y");
  for (std::int64_t i = 0; i < saved.count(); ++i)
    EXPECT_NEAR(saved.data<float>()[i], y.at("y").data<float>()[i], 1e-5);
}

TEST_P(Steps, TakeEachShapeAndTypesThatFit) {
  TrainingStep step(parse_model(kClassifier), *executor, fp32());
  for (const std::int64_t count : {4, 1, 7, 4}) EXPECT_TRUE(step.run(batch(0, count)).updated) << count;
  NamedTensors wide = batch();
  wide["x"] = convert(wide["x"], DType::f64);
  wide["labels"] = convert(wide["labels"], DType::i32);
  TrainingStep other(parse_model(kClassifier), *executor, fp32()), same(parse_model(kClassifier), *executor, fp32());
  EXPECT_EQ(other.run(wide).loss, same.run(batch()).loss);
}

TEST_P(Steps, TellWhatIsWrongWithABatchAndChangeNothing) {
  TrainingStep step(parse_model(kClassifier), *executor, fp32());
  step.run(batch());
  const NamedTensors before = step.state();
  const struct {
    NamedTensors batch;
    const char* says;
  } cases[] = {
      {{{"labels", classes(4, 2)}}, "the model's input 'x', f32"},
      {{{"x", rows(4, 3)}}, "labels 'labels' in the batch"},
      {{{"x", rows(4, 3)}, {"labels", classes(4, 2)}, {"z", rows(1, 1)}}, "'z'"},
      {{{"x", rows(4, 2)}, {"labels", classes(4, 2)}}, "f32[4, 2]"},
      {{{"x", classes(4, 2)}, {"labels", classes(4, 2)}}, "i64"},
      {{{"x", rows(4, 3)}, {"labels", classes(3, 2)}}, "[3]"},
      {{{"x", rows(4, 3)}, {"labels", Tensor::of<std::int64_t>({0, 1, 4, 1})}}, "labels from 0 to 1"},
      {{{"x", Tensor()}, {"labels", classes(4, 2)}}, "x"},
  };
  for (const auto& c : cases) {
    EXPECT_THAT(error_of([&] { step.run(c.batch); }), HasSubstr(c.says));
    expect_same(step.state(), before);
  }
}

TEST_P(Steps, HaveNumbersThatCanBeSet) {
  TrainingStepOptions options = fp32("sgd");
  options.loss_scale = 8;
  TrainingStep step(parse_model(kClassifier), *executor, options);
  step.set_learning_rate(0);
  step.set_loss_scale(16);
  EXPECT_EQ(step.loss_scale(), 16);
  const NamedTensors before = step.parameters();
  EXPECT_EQ(step.run(batch()).loss_scale, 16);
  expect_same(step.parameters(), before);
  step.set_loss_scale(4);
  EXPECT_EQ(step.run(batch()).loss_scale, 4);
  EXPECT_THAT(error_of([&] { step.set_learning_rate(-1); }), HasSubstr("from 0 on"));
  EXPECT_THAT(error_of([&] { step.set_loss_scale(1e30); }), HasSubstr("a loss scale from"));
  step.forward_backward(batch());
  EXPECT_THAT(error_of([&] { step.set_loss_scale(2); }), HasSubstr("no accumulated gradients"));
}

TEST_P(Steps, LeaveOutBinaryLabelsThatAreIgnoredWhereverTheyCome) {
  const char* const model = R"(<ir_version: 10, opset_import: ["": 24]> m (float[N, 3] x) => (float[N, 1] y)
                               <float[3, 1] w = {0.5, -0.25, 0.75}> { p = MatMul(x, w) y = Sigmoid(p) })";
  const auto labels = [](std::vector<float> values) {
    return Tensor::of<float>(values, Shape{static_cast<std::int64_t>(values.size()), 1});
  };
  TrainingStep step(parse_model(model), *executor, fp32("sgd"));
  step.set_learning_rate(0);
  const Tensor x = rows(4, 3), head = rows(3, 3);
  const float three = step.run({{"x", head}, {"labels", labels({1, 0, 1})}}).loss;
  EXPECT_FLOAT_EQ(step.run({{"x", x}, {"labels", labels({1, 0, 1, -100})}}).loss, three);
  Metrics metrics = step.metrics();
  step.measure(metrics, {{"x", x}, {"labels", labels({1, 0, 1, -100})}});
  TrainingStep other(parse_model(model), *executor, fp32("sgd"));
  other.set_learning_rate(0);
  EXPECT_NO_THROW(other.run({{"x", head}, {"labels", labels({0, 1, -100})}}));
  EXPECT_FLOAT_EQ(other.run({{"x", x}, {"labels", labels({1, 0, 1, -100})}}).loss, three);
}

}  // namespace
}  // namespace halfstep
