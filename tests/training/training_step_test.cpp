// Training step by step, through the public interface.
#include <cmath>
#include <memory>
#include <string>
#include <vector>

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/temporary_directory.h"
#include <halfstep/base/error.h>
#include <halfstep/executors/registry.h>
#include <halfstep/session/session.h>
#include <halfstep/training/training_step.h>

namespace halfstep {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

const char* const kClassifier =
    R"(<ir_version: 10, opset_import: ["": 24]> m (float[N, 3] x) => (float[N, 2] y)
       <float[3, 4] w1 = {0.5, -0.25, 0.75, 0.1, -0.5, 0.3, 0.2, -0.1, 0.9, 0.4, -0.6, 0.2}, float[4] b1 = {0, 0, 0, 0},
        float[4, 2] w2 = {0.3, -0.4, 0.8, 0.1, -0.7, 0.5, 0.2, 0.6}, float[2] b2 = {0, 0}>
       { h = Gemm(x, w1, b1) r = Tanh(h) y = Gemm(r, w2, b2) })";

/// With everything that draws or keeps statistics.
const char* const kNormalized =
    R"(<ir_version: 10, opset_import: ["": 24]> m (float[N, 3] x) => (float[N, 2] y)
       <float[3, 4] w1 = {0.5, -0.25, 0.75, 0.1, -0.5, 0.3, 0.2, -0.1, 0.9, 0.4, -0.6, 0.2},
        float[4] scale = {1, 1, 1, 1}, float[4] bias = {0, 0, 0, 0}, float[4] mean = {0, 0, 0, 0},
        float[4] var = {1, 1, 1, 1}, float[4, 2] w2 = {0.3, -0.4, 0.8, 0.1, -0.7, 0.5, 0.2, 0.6}>
       { h = MatMul(x, w1) n = BatchNormalization(h, scale, bias, mean, var) d = Dropout(n) y = MatMul(d, w2) })";

const char* const kTwoHeads =
    R"(<ir_version: 10, opset_import: ["": 24]> m (float[N, 3] x) => (float[N, 2] boxes, float[N, 3] classes)
       <float[3, 4] w = {0.5, -0.25, 0.75, 0.1, -0.5, 0.3, 0.2, -0.1, 0.9, 0.4, -0.6, 0.2},
        float[4, 2] v = {0.3, -0.4, 0.8, 0.1, -0.7, 0.5, 0.2, 0.6},
        float[4, 3] u = {0.3, -0.4, 0.8, 0.1, -0.7, 0.5, 0.2, 0.6, 0.1, -0.2, 0.4, 0.3}>
       { h = MatMul(x, w) r = Tanh(h) boxes = MatMul(r, v) classes = MatMul(r, u) })";

Tensor rows(std::int64_t count, std::int64_t columns, int seed = 0) {
  Tensor result(DType::f32, {count, columns});
  for (std::int64_t i = 0; i < result.count(); ++i)
    result.data<float>()[i] = static_cast<float>((i * 7 + 3 * seed) % 13 - 6) / 6;
  return result;
}
Tensor classes(std::int64_t count, std::int64_t of, int seed = 0) {
  Tensor result(DType::i64, {count});
  for (std::int64_t i = 0; i < count; ++i) result.data<std::int64_t>()[i] = (i * 5 + seed) % of;
  return result;
}
NamedTensors batch(int seed = 0, std::int64_t count = 4) {
  return {{"x", rows(count, 3, seed)}, {"labels", classes(count, 2, seed)}};
}

TrainingStepOptions fp32(const char* optimizer = "adam") {
  TrainingStepOptions options;
  options.precision = Precision::fp32;
  options.optimizer.name = optimizer;
  options.learning_rate = 0.05;
  return options;
}

void expect_same(const NamedTensors& a, const NamedTensors& b) {
  ASSERT_EQ(a.size(), b.size());
  for (const auto& [name, tensor] : a) EXPECT_TRUE(identical(tensor, b.at(name))) << name;
}

class Steps : public ::testing::TestWithParam<const char*> {
 protected:
  const std::unique_ptr<Executor> executor = make_executor(GetParam(), {});
};
INSTANTIATE_TEST_SUITE_P(Executors, Steps, ::testing::Values("reference", "onednn"),
                         [](const auto& of) { return std::string(of.param); });

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

TEST_P(Steps, InPartsAreTheWholeStep) {
  for (const char* text : {kClassifier, kNormalized}) {
    for (const Precision precision : {Precision::fp32, Precision::bf16, Precision::fp16}) {
      SCOPED_TRACE(name_of(precision));
      TrainingStepOptions options = fp32();
      options.precision = precision;
      TrainingStep whole(parse_model(text), *executor, options), parts(parse_model(text), *executor, options);
      for (int i = 0; i < 4; ++i) {
        const StepReport one = whole.run(batch(i));
        const StepReport forward = parts.forward_backward(batch(i));
        const StepReport update = parts.update();
        EXPECT_FLOAT_EQ(forward.loss, one.loss) << i;
        EXPECT_FLOAT_EQ(forward.gradient_norm, one.gradient_norm) << i;
        EXPECT_EQ(update.updated, one.updated);
      }
      const NamedTensors a = whole.parameters(), b = parts.parameters();
      for (const auto& [name, tensor] : a) {
        const std::vector<double> x = to_doubles(tensor), y = to_doubles(b.at(name));
        for (std::size_t i = 0; i < x.size(); ++i) EXPECT_NEAR(x[i], y[i], 1e-6) << name;
      }
      expect_same(whole.statistics(), parts.statistics());
    }
  }
}

TEST_P(Steps, AddUpGradientsByTheirWeights) {
  TrainingStep step(parse_model(kClassifier), *executor, fp32("sgd"));
  step.forward_backward(batch(1));
  const NamedTensors one = step.gradients();
  step.forget_gradients();
  step.forward_backward(batch(2));
  const NamedTensors other = step.gradients();
  step.forget_gradients();
  step.forward_backward(batch(1), 0.25);
  step.forward_backward(batch(2), 3);
  const NamedTensors sum = step.gradients();
  for (const auto& [name, tensor] : sum) {
    const std::vector<double> a = to_doubles(one.at(name)), b = to_doubles(other.at(name)), s = to_doubles(tensor);
    for (std::size_t i = 0; i < s.size(); ++i) EXPECT_NEAR(s[i], a[i] / 4 + 3 * b[i], 1e-6) << name;
  }
}

TEST_P(Steps, AreRefusedWithoutGradients) {
  TrainingStep step(parse_model(kClassifier), *executor, fp32());
  EXPECT_THAT(error_of([&] { step.update(); }), HasSubstr("forward_backward first"));
  EXPECT_THAT(error_of([&] { step.gradients(); }), HasSubstr("none since the last update"));
  step.forward_backward(batch());
  step.update();
  EXPECT_THAT(error_of([&] { step.update(); }), HasSubstr("forward_backward first"));
}

// Gradients that somebody else computes: those of the mean squared error of y.
TEST_P(Steps, GoBackFromGradientsOfOutputs) {
  const Tensor target = rows(4, 2, 9);
  TrainingStepOptions options = fp32();
  options.loss = LossOptions{.terms = {{.loss = "mean_squared_error", .labels = "t"}}};
  for (const char* text : {kClassifier, kNormalized}) {
    TrainingStep own(parse_model(text), *executor, options), given(parse_model(text), *executor, options);
    for (int i = 0; i < 3; ++i) {
      own.forward_backward({{"x", rows(4, 3, i)}, {"t", target}});
      const Tensor y = given.forward({{"x", rows(4, 3, i)}}).at("y");
      Tensor gradient(DType::f32, y.shape());
      for (std::int64_t k = 0; k < y.count(); ++k)
        gradient.data<float>()[k] = 2 * (y.data<float>()[k] - target.data<float>()[k]) / static_cast<float>(y.count());
      given.backward({{"x", rows(4, 3, i)}}, {{"y", gradient}});
      const NamedTensors a = own.gradients(), b = given.gradients();
      for (const auto& [name, tensor] : a) {
        const std::vector<double> x = to_doubles(tensor), z = to_doubles(b.at(name));
        for (std::size_t k = 0; k < x.size(); ++k) EXPECT_NEAR(x[k], z[k], 1e-6) << name << " " << i;
      }
      own.update();
      given.update();
    }
  }
}

// Gradients of several outputs may come one after the other: none of them is lost, and none of an earlier update is
// left.
TEST_P(Steps, AddUpGradientsOfOutputsThatComeApart) {
  const NamedTensors x{{"x", rows(4, 3)}};
  const Tensor boxes = rows(4, 2, 3), kinds = rows(4, 3, 4);
  TrainingStepOptions options = fp32();
  options.loss_scale = 16;
  TrainingStep apart(parse_model(kTwoHeads), *executor, options), both(parse_model(kTwoHeads), *executor, options);
  for (int i = 0; i < 3; ++i) {
    if (i == 1) apart.backward(x, {{"boxes", boxes}});
    apart.backward(x, {{"classes", kinds}});
    if (i != 1) apart.backward(x, {{"boxes", boxes}});
    both.backward(x, {{"boxes", boxes}, {"classes", kinds}});
    const Tensor a = apart.flat_gradients(), b = both.flat_gradients();
    for (std::int64_t k = 0; k < a.count(); ++k) EXPECT_NEAR(a.data<float>()[k], b.data<float>()[k], 1e-5) << i;
    EXPECT_TRUE(apart.update().updated);
    EXPECT_TRUE(both.update().updated);
  }
  const Tensor a = apart.flat_parameters(), b = both.flat_parameters();
  for (std::int64_t k = 0; k < a.count(); ++k) EXPECT_NEAR(a.data<float>()[k], b.data<float>()[k], 1e-4);
  // Of one output alone the other's parameters stay.
  const Tensor before = apart.parameters().at("u");
  apart.backward(x, {{"boxes", boxes}});
  EXPECT_FALSE(apart.gradients().contains("u"));
  apart.update();
  EXPECT_TRUE(identical(apart.parameters().at("u"), before));
}

TEST_P(Steps, TakeGradientsThatWereChanged) {
  TrainingStepOptions options = fp32("sgd");
  options.loss_scale = 1024;
  TrainingStep step(parse_model(kClassifier), *executor, options);
  const NamedTensors before = step.parameters();
  step.forward_backward(batch());
  Tensor ones(DType::f32, {2});
  for (float& x : ones.span<float>()) x = 1;
  step.set_flat_gradients(Tensor(DType::f32, {step.flat_parameters().count()}));
  step.set_gradients({{"b2", ones}});
  step.update();
  const NamedTensors after = step.parameters();
  EXPECT_TRUE(identical(before.at("w1"), after.at("w1")));
  EXPECT_NEAR(after.at("b2").data<float>()[0], before.at("b2").data<float>()[0] - 0.05, 1e-7);
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
      {{{"labels", classes(4, 2)}}, "the model's input x"},
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

TEST_P(Steps, ProfileNoStepWhileGradientsWait) {
  TrainingStepOptions options = fp32("sgd");
  options.optimizer.accumulate = 2;
  TrainingStep step(parse_model(kClassifier), *executor, options);
  step.run(batch(0));
  EXPECT_THAT(error_of([&] { step.profile(batch(1)); }), HasSubstr("no accumulated gradients"));
  EXPECT_TRUE(step.run(batch(1)).updated);
}

// What the first batch has says nothing about later ones.
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

TEST_P(Steps, UpdateWithEverySoManyBatches) {
  TrainingStepOptions options = fp32("sgd");
  options.optimizer.accumulate = 2;
  TrainingStep step(parse_model(kClassifier), *executor, options);
  EXPECT_FALSE(step.run(batch(0)).updated);
  EXPECT_TRUE(step.run(batch(1)).updated);
  EXPECT_EQ(step.updates(), 1);
  TrainingStep whole(parse_model(kClassifier), *executor, fp32("sgd"));
  Tensor x(DType::f32, {8, 3}), labels(DType::i64, {8});
  for (int half : {0, 1}) {
    const NamedTensors part = batch(half);
    std::ranges::copy(part.at("x").span<float>(), x.data<float>() + 12 * half);
    std::ranges::copy(part.at("labels").span<std::int64_t>(), labels.data<std::int64_t>() + 4 * half);
  }
  whole.run({{"x", x}, {"labels", labels}});
  for (const auto& [name, tensor] : whole.parameters()) {
    const std::vector<double> a = to_doubles(tensor), b = to_doubles(step.parameters().at(name));
    for (std::size_t i = 0; i < a.size(); ++i) EXPECT_NEAR(a[i], b[i], 1e-6) << name;
  }
}

}  // namespace
}  // namespace halfstep
