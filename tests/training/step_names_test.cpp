// A model may call its values and parameters as the parts of a training step are called.
#include <array>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/temporary_directory.h"
#include "tests/training/small_rows.h"
#include <halfstep/onnx_io/save.h>
#include <halfstep/training/checkpoint.h>
#include <halfstep/training/trainer.h>

namespace halfstep {
namespace {

/// Losses of five steps of a model whose values are called so: two inputs, one between, the output.
std::vector<float> losses_with_names(std::array<std::string, 4> names, std::string loss, std::int64_t accumulate) {
  const auto& [first, second, inner, out] = names;
  const bool own = loss == "output";
  const std::string rest = own ? fmt::format("d = Sub({}, {}) {} = Mul(d, d)", inner, second, out)
                               : fmt::format("{} = Mul({}, {})", out, inner, second);
  const std::string text = fmt::format(
      R"(<ir_version: 10, opset_import: ["": 24]> m (float[N, 2] {0}, float[N, 1] {1}) => (float[N, 1] {3})
         <float[2, 1] w = {{1, -1}}> {{ {2} = MatMul({0}, w) {4} }})",
      first, second, inner, out, rest);
  Tensor a(DType::f32, {4, 2}), b(DType::f32, {4, 1}), y(DType::f32, {4, 1});
  for (std::size_t i = 0; i < 8; ++i) a.span<float>()[i] = static_cast<float>(i % 3);
  for (std::size_t i = 0; i < 4; ++i)
    b.span<float>()[i] = static_cast<float>(i + 1), y.span<float>()[i] = static_cast<float>(i % 2);
  std::vector<Dataset::Input> x{{"", DataArray::of(a, "a")}};
  if (!own) x.push_back({"", DataArray::of(b, "b")});
  TrainerOptions options{.precision = Precision::fp32, .loss_scale = 8, .steps = 6, .batch_size = 2, .shuffle = false};
  options.losses[0].loss = loss;
  options.optimizer.accumulate = accumulate;
  const std::unique_ptr<Executor> executor = make_reference_executor();
  Trainer trainer(parse_model(text), *executor, Dataset(x, DataArray::of(y, "y")), options);
  std::vector<float> losses;
  trainer.fit({.on_step = [&](const StepResult& result) { losses.push_back(result.loss); }});
  return losses;
}

TEST(StepNames, ValuesMayBeCalledAsAPartOfTheStepIs) {
  const std::array<std::string, 4> plain{"a", "b", "h", "o"};
  const char* reserved[] = {"labels", "learning_rate", "update", "loss", "grad_norm", "grads_finite", "loss_scale"};
  for (const std::string loss : {"mean_squared_error", "output"}) {
    for (const std::int64_t accumulate : {1, 2}) {
      const std::vector<float> expected = losses_with_names(plain, loss, accumulate);
      EXPECT_NE(expected[0], expected[4]) << "it does not learn";
      for (const char* name : reserved) {
        for (std::size_t i = 0; i < plain.size(); ++i) {
          std::array<std::string, 4> names = plain;
          names[i] = name;
          EXPECT_EQ(losses_with_names(names, loss, accumulate), expected) << name << " for " << plain[i];
        }
      }
    }
  }
}

/// A model whose weight is called so, and whose hidden value is called so.
LoadedModel model_with_names(const std::string& weight, const std::string& hidden) {
  return parse_model(fmt::format(R"(<ir_version: 10, opset_import: ["": 24]> test
    (float[N, 2] x) => (float[N, 1] y) <float[2, 1] "{0}" = {{-1, 0.5}}>
    {{ "{1}" = MatMul(x, "{0}") y = Tanh("{1}") }})",
                                 weight, hidden));
}

struct NamedRun {
  std::vector<float> losses;
  std::vector<double> norms, weight;
  std::vector<std::string> notices;
  std::map<std::string, Tensor> stored;  // in the checkpoint
};

/// Trains to `steps`, with everything in the step that has a name: a loss scale, an accumulator, moments, norms.
NamedRun train_named(const LoadedModel& model, const std::string& weight, const TemporaryDirectory& dir,
                     std::int64_t steps, bool resume) {
  TrainerOptions options{.precision = Precision::fp32,
                         .loss_scale = 8,
                         .steps = steps,
                         .batch_size = 4,
                         .checkpoint = dir.path(),
                         .log_grad_norms = true};
  options.losses[0].loss = "mean_squared_error";
  options.optimizer.accumulate = 2;
  options.parameters.trainable = {weight};
  if (resume) options.resume = dir.path();
  const std::unique_ptr<Executor> executor = make_reference_executor();
  Trainer trainer(model, *executor, small_rows(), options);
  NamedRun run;
  trainer.fit({.on_step =
                   [&](const StepResult& result) {
                     run.losses.push_back(result.loss);
                     EXPECT_EQ(result.grad_norms->size(), 1u);
                     for (const auto& [name, norm] : *result.grad_norms) {
                       EXPECT_EQ(name, weight);
                       run.norms.push_back(norm);
                     }
                   },
               .on_notice = [&](const std::string& notice) { run.notices.push_back(notice); }});
  run.weight = to_doubles(trainer.parameters().at(weight));
  run.stored = load_checkpoint(dir.path()).checkpoint.tensors;
  const Graph saved = load_model_from_bytes(trained_model_bytes(*model.source, trainer.parameters())).graph;
  EXPECT_EQ(to_doubles(saved[saved.find(weight)].constant), run.weight) << "saved under its own name";
  return run;
}

TEST(StepNames, ParametersMayBeCalledAsAPartOfTheStepIs) {
  TemporaryDirectory plain_dir;
  const NamedRun plain = train_named(model_with_names("v", "h"), "v", plain_dir, 8, false);
  EXPECT_NE(plain.losses[0], plain.losses[6]) << "it does not learn";
  for (const std::string name :
       {"loss", "labels", "learning_rate", "update", "grad_norm", "grads_finite", "loss_scale", "loss_scale.good_steps",
        "optimizer.step", "loss.gradient", "adam.m.v", "accumulator.v", "grad_norm.v"}) {
    SCOPED_TRACE(name);
    TemporaryDirectory dir;
    const LoadedModel model = model_with_names(name, "h");
    const NamedRun first = train_named(model, name, dir, 3, false);  // within an update
    const NamedRun rest = train_named(model, name, dir, 8, true);
    EXPECT_THAT(rest.notices, testing::IsEmpty());
    EXPECT_EQ(rest.weight, plain.weight);
    EXPECT_EQ(rest.stored.size(), plain.stored.size());
    EXPECT_EQ(to_doubles(rest.stored.at(name)), plain.weight);
    std::vector<float> losses = first.losses;
    losses.insert(losses.end(), rest.losses.begin(), rest.losses.end());
    EXPECT_EQ(losses, plain.losses);
    std::vector<double> norms = first.norms;
    norms.insert(norms.end(), rest.norms.begin(), rest.norms.end());
    EXPECT_EQ(norms, plain.norms);
  }
}

TEST(StepNames, StatesAreStoredUnderTheirUsualNames) {
  for (const char* hidden : {"h", "loss_scale"}) {  // a value that is no state takes nothing away
    TemporaryDirectory dir;
    const NamedRun run = train_named(model_with_names("v", hidden), "v", dir, 3, false);
    std::vector<std::string> names;
    for (const auto& [name, tensor] : run.stored) names.push_back(name);
    EXPECT_THAT(names, testing::ElementsAre("accumulator.v", "adam.m.v", "adam.v.v", "loss_scale",
                                            "loss_scale.good_steps", "optimizer.step", "v"));
    EXPECT_EQ(train_named(model_with_names("v", hidden), "v", dir, 5, true).losses.size(), 2u);
  }
}

// A weight of one number that no loss scale could be.
TEST(StepNames, ACheckpointIsNotJudgedByNames) {
  TemporaryDirectory dir;
  const LoadedModel model = parse_model(R"(<ir_version: 10, opset_import: ["": 24]> test
    (float[N, 2] x) => (float[N, 1] y) <float[2, 1] w = {1, 1}, float[1, 1] loss_scale = {-1}>
    { h = MatMul(x, w) y = MatMul(h, loss_scale) })");
  const std::unique_ptr<Executor> executor = make_reference_executor();
  TrainerOptions options{.precision = Precision::fp32, .steps = 1, .batch_size = 4, .checkpoint = dir.path()};
  options.parameters.trainable = {"w", "loss_scale"};
  Trainer(model, *executor, small_rows(), options).fit({});
  options.resume = dir.path();
  options.steps = 2;
  Trainer trainer(model, *executor, small_rows(), options);
  EXPECT_TRUE(trainer.fit({}));
  EXPECT_LT(to_doubles(trainer.parameters().at("loss_scale"))[0], 0);
}

}  // namespace
}  // namespace halfstep
