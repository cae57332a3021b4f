// Half copies of parameters are always the Casts of these, whoever changed them, and are seen nowhere else.
#include "tests/support/half_copies.h"

#include <functional>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include <fmt/format.h>
#include <fmt/ranges.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/temporary_directory.h"
#include "tests/training/deep_model.h"
#include "tests/training/step_testing.h"
#include <halfstep/training/callbacks.h>
#include <halfstep/training/checkpoint.h>
#include <halfstep/training/trainer.h>

namespace halfstep {
namespace {

using namespace test;
using ::testing::ElementsAre;
using ::testing::IsEmpty;

/// With a weight that two products read, one of them transposed, and Exp in f32.
LoadedModel tied_model() {
  return parse_model(fmt::format(R"(<ir_version: 10, opset_import: ["": 24]> m (float[N, 8] x) => (float[N, 3] y)
      <{}, {}, {}, {}, {}> {{
        h = Gemm(x, w1, b1) r = Relu(h) a = MatMul(r, t) c = Gemm<transB = 1>(a, t, b1)
        e = Exp(t) s = ReduceMean<keepdims = 0>(e) d = Add(c, s) y = Gemm(d, w2, b2)
      }})",
                                 initializer("w1", {8, 16}), initializer("b1", {16}), initializer("t", {16, 16}),
                                 initializer("w2", {16, 3}), initializer("b2", {3})));
}

/// Images, whose filters the kernels want in layouts of their own.
LoadedModel image_model() { return deep_model(8); }

Tensor numbers(Shape shape, int seed) {
  Tensor result(DType::f32, std::move(shape));
  for (std::int64_t i = 0; i < result.count(); ++i)
    result.data<float>()[i] = static_cast<float>((i * 7 + 3 * seed) % 13 - 6) / 6;
  return result;
}

constexpr std::int64_t kRows = 14;  // in batches of 4: the last one has 2

struct Rows {
  LoadedModel (*model)();
  Shape x;
  std::int64_t classes;
};
const Rows kTied{tied_model, {kRows, 8}, 3}, kImages{image_model, {kRows, 3, 8, 8}, 8};

Dataset data_of(const Rows& rows) {
  return {DataArray::of(numbers(rows.x, 1), "x"), DataArray::of(classes(kRows, rows.classes), "y")};
}

TrainerOptions options_of(const char* optimizer, Precision precision) {
  TrainerOptions options{.precision = precision, .epochs = 3, .batch_size = 4};
  options.optimizer.name = optimizer;
  options.schedule.base_lr = 0.01;
  options.max_skipped_in_a_row = 100;
  return options;
}

/// What is to be the same with and without copies.
struct Course {
  std::vector<double> numbers;
  NamedTensors parameters;
  std::int64_t parameter_count = 0;
};

void expect_same(const Course& copies, const Course& casts) {
  EXPECT_EQ(fmt::format("{}", fmt::join(copies.numbers, " ")), fmt::format("{}", fmt::join(casts.numbers, " ")));
  EXPECT_GT(copies.numbers.size(), 0U);
  EXPECT_EQ(copies.parameter_count, casts.parameter_count);
  test::expect_same(copies.parameters, casts.parameters);
}

using Callbacks = std::function<TrainerCallbacks(Trainer&)>;

Course train(Executor& executor, const Rows& rows, const TrainerOptions& options, const Callbacks& callbacks = {}) {
  const Dataset data = data_of(rows);
  Trainer trainer(rows.model(), executor, data, options);
  Course course;
  TrainerCallbacks all{
      .on_step =
          [&](const StepResult& r) {
            course.numbers.push_back(r.loss);
            course.numbers.push_back(r.grad_norm);
            course.numbers.push_back(static_cast<double>(r.update));
          },
      .on_epoch_end = [&](const StepResult&,
                          const Evaluation* validation) { course.numbers.push_back(validation->loss); }};
  if (callbacks) all = combined({all, callbacks(trainer)});
  trainer.fit(all, &data);
  course.parameters = trainer.parameters();
  course.parameter_count = trainer.parameter_count();
  return course;
}

class HalfCopies : public ::testing::TestWithParam<std::pair<const char*, Precision>> {
 protected:
  std::unique_ptr<Executor> executor(bool half_copies) const {
    return std::make_unique<HalfCopiesExecutor>(make_executor(GetParam().first, {}), half_copies);
  }
  Precision precision() const { return GetParam().second; }
  /// `run`, with copies and without.
  template <class F>
  void expect_same_courses(const F& run) const {
    expect_same(run(*executor(true)), run(*executor(false)));
  }
  TrainingStepOptions step_options() const {
    TrainingStepOptions options = fp32("adam");
    options.precision = precision();
    return options;
  }
};
INSTANTIATE_TEST_SUITE_P(, HalfCopies,
                         ::testing::Values(std::pair("reference", Precision::bf16),
                                           std::pair("reference", Precision::fp16),
                                           std::pair("onednn", Precision::bf16), std::pair("onednn", Precision::fp16)),
                         [](const auto& p) {
                           return std::string(p.param.first) + (p.param.second == Precision::bf16 ? "Bf16" : "Fp16");
                         });

TEST_P(HalfCopies, GiveTheSameBitsForEveryOptimizer) {
  for (const OptimizerDef& row : optimizers())
    for (const Rows* rows : {&kTied, &kImages}) {
      SCOPED_TRACE(row.name);
      expect_same_courses(
          [&](Executor& e) { return train(e, *rows, options_of(std::string(row.name).c_str(), precision())); });
    }
}

TEST_P(HalfCopies, GiveTheSameBitsWhateverTheOptionsOfAnUpdate) {
  const struct {
    const char* what;
    std::function<void(TrainerOptions&)> set;
  } cases[] = {
      {"clipping", [](TrainerOptions& o) { o.optimizer.clip_norm = 0.05; }},
      {"groups",
       [](TrainerOptions& o) {
         o.optimizer.groups = {{.pattern = "w*", .lr_factor = 0.5, .frozen_updates = 2},
                               {.pattern = "b*", .numbers = {{"weight_decay", 0.0}}}};
       }},
      {"accumulation", [](TrainerOptions& o) { o.optimizer.accumulate = 2; }},
      {"frozen parameters",
       [](TrainerOptions& o) {
         o.parameters.freeze = {"t", "b1"};
       }},
      {"norms of gradients", [](TrainerOptions& o) { o.log_grad_norms = true; }},
      {"skipped updates", [](TrainerOptions& o) { o.loss_scale = 0x1p24; }},
  };
  for (const auto& each : cases) {
    SCOPED_TRACE(each.what);
    TrainerOptions options = options_of("adamw", precision());
    each.set(options);
    expect_same_courses([&](Executor& e) { return train(e, kTied, options); });
  }
}

TEST_P(HalfCopies, FollowParametersThatAreSetInARun) {
  const std::pair<const char*, Callbacks> cases[] = {
      {"set",
       [](Trainer& trainer) {
         return TrainerCallbacks{.on_step = [&trainer](const StepResult& r) {
           if (r.step % 3 == 2) trainer.set_parameters({{"t", numbers({16, 16}, static_cast<int>(r.step))}});
         }};
       }},
      {"the moving average",
       [](Trainer& trainer) {
         const auto average = std::make_shared<MovingAverage>(trainer, 0.5);
         return combined({average->callbacks(), {.on_step = [average, &trainer](const StepResult& r) {
                            if (r.step == 7) trainer.set_parameters(average->parameters());
                          }}});
       }},
  };
  for (const auto& [what, callbacks] : cases) {
    SCOPED_TRACE(what);
    expect_same_courses([&](Executor& e) { return train(e, kTied, options_of("adam", precision()), callbacks); });
  }
}

TEST_P(HalfCopies, AreNotInCheckpointsAndAreMadeAnewFromThem) {
  std::vector<std::vector<std::string>> names;
  for (const bool half_copies : {true, false}) {
    const TemporaryDirectory directory;
    const auto e = executor(half_copies);
    TrainerOptions options = options_of("adam", precision());
    const Course whole = train(*e, kTied, options);
    options.epochs = 1;
    options.checkpoint = directory.path();
    train(*e, kTied, options);
    names.emplace_back();
    for (const auto& [name, tensor] : load_checkpoint(directory.path()).checkpoint.tensors)
      names.back().push_back(name);
    options.epochs = 3;
    options.resume = directory.path();
    test::expect_same(train(*executor(!half_copies), kTied, options).parameters, whole.parameters);
  }
  EXPECT_EQ(names[0], names[1]);
}

TEST_P(HalfCopies, AreThereAfterAnotherPrecision) {
  if (precision() == Precision::fp16) return;  // whose checkpoints have a loss scale
  expect_same_courses([&](Executor& e) {
    const TemporaryDirectory directory;
    TrainerOptions options = options_of("adam", Precision::fp32);
    options.checkpoint = directory.path();
    options.epochs = 1;
    train(e, kTied, options);
    options.resume = directory.path();
    for (const Precision next : {precision(), Precision::fp32, precision()}) {
      options.precision = next;
      options.epochs += 1;
      if (options.epochs < 4) train(e, kTied, options);
    }
    return train(e, kTied, options);
  });
}

/// Steps of all kinds on one store.
TEST_P(HalfCopies, AreOfTheParametersInStepsOfAllKinds) {
  expect_same_courses([&](Executor& e) {
    TrainingStep step(parse_model(kClassifier), e, step_options());
    Course course;
    const auto note = [&](const StepReport& report) { course.numbers.push_back(report.loss); };
    const auto look = [&](int seed) {
      note(step.evaluate(batch(seed)));
      for (const double y : to_doubles(step.predict({{"x", rows(3, 3, seed)}}).at("y"))) course.numbers.push_back(y);
      for (const double y : to_doubles(step.forward({{"x", rows(3, 3, seed)}}).at("y"))) course.numbers.push_back(y);
    };
    look(0);
    note(step.run(batch(0)));
    look(1);
    for (int i = 0; i < 2; ++i) {
      note(step.forward_backward(batch(1)));
      note(step.forward_backward(batch(2)));
      look(2);
      note(step.update());
      look(3);
      note(step.run(batch(3, 6)));
    }
    const NamedTensors state = step.state();
    note(step.run(batch(4)));
    note(step.run(batch(5)));
    step.load_state(state);
    look(6);
    note(step.run(batch(4)));
    NamedTensors parameters = step.parameters();
    parameters["w1"] = numbers({3, 4}, 5);
    step.set_parameters(parameters);
    look(7);
    note(step.run(batch(5)));
    course.parameters = step.state();
    return course;
  });
}

/// An update by gradients alone reads no parameter in half: it keeps the copies of programs that do, of which there may
/// be none yet.
TEST_P(HalfCopies, AreWrittenByAnUpdateOnItsOwn) {
  const auto e = executor(true);
  std::vector<std::string> copies;  // of the latest program, with their next values
  TrainingStepOptions options = step_options();
  options.observer = [&](std::size_t, const std::string&, const Graph& graph) {
    copies.clear();
    for (const State& state : graph.states)
      if (state.role == StateRole::copy && state.next != kNoValue) copies.push_back(graph[state.source].name);
  };
  TrainingStep step(parse_model(kClassifier), *e, options), fresh(parse_model(kClassifier), *e, options);
  step.forward_backward(batch());
  fresh.load_state(step.state());
  step.update();
  EXPECT_THAT(copies, ElementsAre("w1", "b1", "w2", "b2"));
  fresh.update();
  EXPECT_THAT(copies, IsEmpty());
  for (TrainingStep* one : {&step, &fresh}) {
    copies.clear();
    one->forward_backward(batch(1));
    one->update();
    if (one == &fresh) {
      EXPECT_THAT(copies, ElementsAre("w1", "b1", "w2", "b2"));
    }
  }
  test::expect_same(fresh.state(), step.state());
}

}  // namespace
}  // namespace halfstep
