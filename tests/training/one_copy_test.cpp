// A run holds one copy of a large parameter, the one that it trains; whatever reads it sees no other.
#include <cmath>
#include <memory>
#include <vector>

#include <gtest/gtest.h>

#include "tests/temporary_directory.h"
#include <halfstep/executors/executor.h>
#include <halfstep/onnx_io/load.h>
#include <halfstep/ops/op_def.h>
#include <halfstep/training/trainer.h>
#include <halfstep/training/training_step.h>

namespace halfstep {
namespace {

constexpr std::int64_t kWide = 512;  // a square of f32 of 1 MiB, and v has 4 KiB: see graph/placeholder.h

Tensor waves(const Shape& shape, float size, float pitch) {
  Tensor tensor(DType::f32, shape);
  float* element = tensor.data<float>();
  for (std::int64_t i = 0; i < tensor.count(); ++i) element[i] = size * std::sin(pitch * static_cast<float>(i));
  return tensor;
}

/// y = relu(x w) v
LoadedModel wide_model() {
  Graph graph;
  graph.opsets[""] = kOnnxOpset;
  const auto weight = [&](const char* name, const Shape& shape, float pitch) {
    const ValueId id = graph.add_constant(name, waves(shape, 0.05f, pitch));
    graph[id].is_initializer = true;
    return id;
  };
  const auto apply = [&](const char* op, std::vector<ValueId> inputs) {
    return graph.nodes[graph.add_node(op, "", std::move(inputs), 1)].outputs[0];
  };
  const ValueId x = graph.add_input("x", DType::f32, Shape{Shape::kUnknown, kWide});
  const ValueId h = apply("Relu", {apply("MatMul", {x, weight("w", Shape{kWide, kWide}, 0.37f)})});
  graph.outputs.push_back(apply("MatMul", {h, weight("v", Shape{kWide, 2}, 0.11f)}));
  return {graph, nullptr};
}

Dataset rows() {
  return Dataset(DataArray::of(waves(Shape{6, kWide}, 1, 0.7f), "x"), DataArray::of(waves(Shape{6, 2}, 1, 0.3f), "y"));
}

struct Course {
  std::vector<float> losses;
  NamedTensors parameters;
  double validated = 0;
};

Course run_of(const LoadedModel& model, Executor& executor, const TrainerOptions& options) {
  Course run;
  const Dataset data = rows();
  Trainer trainer(model, executor, data, options);
  trainer.fit({.on_step = [&](const StepResult& r) { run.losses.push_back(r.loss); }}, &data);
  run.parameters = trainer.parameters();
  run.validated = trainer.evaluate(data).loss;
  const LazyTensors lazy = trainer.lazy_parameters();
  EXPECT_EQ(lazy.types.size(), run.parameters.size());
  for (const TensorInfo& type : lazy.types) {
    EXPECT_EQ(type.shape, run.parameters.at(type.name).shape());
    EXPECT_TRUE(identical(lazy.read(type.name), run.parameters.at(type.name))) << type.name;
  }
  return run;
}

TrainerOptions options() {
  // Batches of 4 and of 2 rows: the program of the second is compiled when the parameters are in the store alone.
  TrainerOptions result{.losses = {{.loss = "mean_squared_error"}},
                        .precision = Precision::fp32,
                        .epochs = 3,
                        .batch_size = 4,
                        .shuffle = false};
  result.schedule.base_lr = 1e-3;
  return result;
}

TEST(OneCopy, ATrainerLeavesItsCallersModelAsItIs) {
  const auto executor = make_onednn_executor();
  const LoadedModel model = wide_model();
  const Course first = run_of(model, *executor, options()), second = run_of(model, *executor, options());
  EXPECT_EQ(first.losses.size(), 6u);
  EXPECT_LT(first.losses.back(), first.losses.front());
  EXPECT_EQ(first.losses, second.losses);
  EXPECT_EQ(first.validated, second.validated);
  for (const auto& [name, tensor] : first.parameters) {
    EXPECT_TRUE(identical(tensor, second.parameters.at(name))) << name;
    EXPECT_FALSE(identical(tensor, model.graph[model.graph.find(name)].constant)) << name;
  }
}

TEST(OneCopy, GoesOnFromACheckpointAsWithoutOne) {
  const auto executor = make_onednn_executor();
  const TemporaryDirectory folder;
  const Course whole = run_of(wide_model(), *executor, options());
  TrainerOptions cut = options();
  cut.checkpoint = folder.path();
  cut.epochs = 2;
  run_of(wide_model(), *executor, cut);
  cut.resume = folder.path();
  cut.epochs = 3;
  const Course resumed = run_of(wide_model(), *executor, cut);
  EXPECT_EQ(resumed.losses, std::vector<float>(whole.losses.end() - 2, whole.losses.end()));
  for (const auto& [name, tensor] : whole.parameters)
    EXPECT_TRUE(identical(tensor, resumed.parameters.at(name))) << name;
}

TEST(OneCopy, AStepCompiledLaterStartsWhereTheOthersAre) {
  const auto executor = make_onednn_executor();
  TrainingStepOptions step_options;
  step_options.loss = LossOptions{.terms = {{.loss = "mean_squared_error", .output = {}, .labels = "y"}}};
  step_options.precision = Precision::fp32;
  const auto batch = [](std::int64_t first, std::int64_t last) {
    return NamedTensors{{"x", waves(Shape{6, kWide}, 1, 0.7f).rows(first, last).clone()},
                        {"y", waves(Shape{6, 2}, 1, 0.3f).rows(first, last).clone()}};
  };
  TrainingStep step(wide_model(), *executor, step_options), other(wide_model(), *executor, step_options);
  step.run(batch(0, 4));
  other.load_state(step.state());
  const StepReport report = step.run(batch(4, 6)), expected = other.run(batch(4, 6));
  EXPECT_GT(report.loss, 0);
  EXPECT_EQ(report.loss, expected.loss);
  const NamedTensors parameters = other.parameters();
  for (const auto& [name, tensor] : step.parameters()) EXPECT_TRUE(identical(tensor, parameters.at(name))) << name;
}

/// The model with a second output, x u, whose weight no loss changes.
LoadedModel two_headed_model() {
  LoadedModel model = wide_model();
  Graph& graph = model.graph;
  const ValueId u = graph.add_constant("u", waves(Shape{kWide, kWide}, 0.05f, 0.23f));
  graph[u].is_initializer = true;
  graph.outputs.push_back(graph.nodes[graph.add_node("MatMul", "", {graph.inputs[0], u}, 1)].outputs[0]);
  return model;
}

TEST(OneCopy, AParameterThatTheLossDoesNotReachStaysAsItIs) {
  const auto executor = make_onednn_executor();
  const LoadedModel model = two_headed_model();
  const Course course = run_of(model, *executor, options());
  ASSERT_TRUE(course.parameters.contains("u"));
  EXPECT_TRUE(identical(course.parameters.at("u"), model.graph[model.graph.find("u")].constant));
  EXPECT_FALSE(identical(course.parameters.at("w"), model.graph[model.graph.find("w")].constant));
}

TEST(OneCopy, AStepThatFirstPredictsTrainsFromTheModelsParameters) {
  const auto executor = make_onednn_executor();
  const LoadedModel model = two_headed_model();
  TrainingStepOptions step_options;
  step_options.loss = LossOptions{.terms = {{.loss = "mean_squared_error", .output = {}, .labels = "y"}}};
  step_options.precision = Precision::fp32;
  const NamedTensors x{{"x", waves(Shape{4, kWide}, 1, 0.7f)}};
  NamedTensors batch = x;
  batch["y"] = waves(Shape{4, 2}, 1, 0.3f);
  TrainingStep step(model, *executor, step_options), other(model, *executor, step_options);
  step.predict(x);
  const NamedTensors parameters = step.parameters();
  EXPECT_EQ(parameters.size(), 3u);
  for (const auto& [name, tensor] : parameters)
    EXPECT_TRUE(identical(tensor, model.graph[model.graph.find(name)].constant)) << name;
  EXPECT_FLOAT_EQ(step.run(batch).loss, other.run(batch).loss);
}

}  // namespace
}  // namespace halfstep
