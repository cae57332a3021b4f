// What passes hand over to each other: found by what it is, through every later pass, whatever the model calls its own.
#include "passes/step/step_values.h"

#include <array>
#include <string>
#include <vector>

#include <fmt/format.h>

#include "tests/passes/pass_testing.h"
#include <halfstep/passes/pipelines.h>

namespace halfstep::testing {
namespace {

using ::testing::Contains;
using ::testing::ElementsAre;
using ::testing::IsEmpty;
using ::testing::Not;

constexpr std::array kTaken{
    "loss",       "labels",          "learning_rate", "update",         "grad_norm", "grads_finite",
    "loss_scale", "optimizer.step",  "loss.gradient", "grad_norm.w",    "adam.m.w",  "accumulator.w",
    "loss_1",     "dropout.counter", "adam.m.loss",   "grad_norm.loss", "w"};

struct Names {
  std::string x = "x", w = "w", h = "h", y = "y";
};

Graph step_with(const Names& names, DType precision = DType::f32) {
  const std::string text = fmt::format(
      R"((float[2,3] "{0}") => (float[2,1] "{3}") <float[3,1] "{1}" = {{1, -1, 2}}>
         {{ "{2}" = MatMul("{0}", "{1}") "{3}" = Tanh("{2}") }})",
      names.x, names.w, names.h, names.y);
  StepOptions options;
  options.precision = precision;
  options.loss.terms = {{.loss = "mean_squared_error", .output = {}, .label_dtype = DType::f32, .label_shape = {2, 1}}};
  options.optimizer = {.name = "adam", .accumulate = 2, .output_gradient_norms = true};
  options.optimizer.loss_scale.enabled = true;
  Capabilities capabilities;
  capabilities.fusions = {{.op = "Gemm", .fused = "FusedGemm", .activations = {"Relu"}, .widens = true},
                          {.op = "MatMul", .fused = "FusedMatMul", .widens = true}};
  return run_passes(text, whole_pipeline(Purpose::training, options, capabilities, {.trainable = {names.w}}));
}

void expect_whole(const Graph& graph) {
  const StepValues step(graph);
  EXPECT_THAT(step.data, ElementsAre(graph.inputs.front()));
  for (const ValueId input : {step.labels.at(0), step.learning_rate, step.update})
    EXPECT_THAT(graph.inputs, Contains(input));
  for (const ValueId output :
       {step.loss, step.prediction(), step.gradient_norm, step.gradients_finite, step.loss_scale})
    EXPECT_THAT(graph.outputs, Contains(output));
  for (const ValueId state : {step.loss_scale, step.updates}) EXPECT_GE(graph.state_of(state), 0);
  ASSERT_EQ(step.parameters.size(), 1u);
  EXPECT_GE(graph.state_of(step.parameters[0].value), 0);
  EXPECT_EQ(step.parameters[0].gradient, kNoValue) << "the optimizer has used it";
  EXPECT_THAT(graph.outputs, Contains(step.parameters[0].gradient_norm));
  EXPECT_EQ(step.parameters[0].slots.size(), 3u) << "an accumulator and two moments";
  for (const ValueId slot : step.parameters[0].slots) EXPECT_GE(graph.state_of(slot), 0);
  EXPECT_EQ(graph.find(StepRole::loss_gradient), step.loss_scale) << "1 times the scale";
}

TEST(StepValues, SurvivesEveryPassOfThePipeline) {
  for (const DType precision : {DType::f32, DType::bf16, DType::f16}) {
    SCOPED_TRACE(name_of(precision));
    const Graph graph = step_with({}, precision);
    expect_whole(graph);
    const StepValues step(graph);
    EXPECT_EQ(graph[step.loss].dtype, DType::f32);
    EXPECT_EQ(graph[step.prediction()].name, "y");
    EXPECT_EQ(graph[step.prediction()].dtype, DType::f32);
  }
}

TEST(StepValues, IsFoundWhateverTheModelCallsItsOwn) {
  for (const char* name : kTaken) {
    for (std::string Names::*place : {&Names::x, &Names::w, &Names::h, &Names::y}) {
      Names names;
      if (std::string(name) == "w" && place != &Names::w) names.w = "v";
      names.*place = name;
      SCOPED_TRACE(fmt::format("{} {} {} {}", names.x, names.w, names.h, names.y));
      const Graph graph = step_with(names, DType::bf16);
      expect_whole(graph);
      const StepValues step(graph);
      EXPECT_EQ(graph[step.data[0]].name, names.x);
      EXPECT_EQ(graph[step.parameters[0].value].name, names.w);
      EXPECT_EQ(graph[step.prediction()].name, names.y);
    }
  }
}

TEST(StepValues, HasOnlyWhatThePassesMade) {
  const StepValues model(parse("(float[2] x) => (float[2] y) { y = Neg(x) }"));
  EXPECT_THAT(model.data, Not(IsEmpty()));
  EXPECT_THAT(model.parameters, IsEmpty());
  for (const ValueId id : {model.learning_rate, model.update, model.loss, model.prediction(), model.gradient_norm,
                           model.gradients_finite, model.loss_scale, model.updates})
    EXPECT_EQ(id, kNoValue);

  // A model that computes its loss itself, from labels that are an input.
  const Graph own = run_passes(
      "(float[2] x, float[2] t) => (float l) <float[2] w = {1, 2}> { a = Mul(x, w) d = Sub(a, t) l = "
      "ReduceSum<keepdims=0>(d) }",
      {select_parameters(), attach_loss({.loss = "output", .output = {}, .labels_input = "t"}), differentiate()});
  const StepValues step(own);
  EXPECT_THAT(step.data, ElementsAre(own.find("x")));
  EXPECT_THAT(step.labels, ElementsAre(own.find("t")));
  EXPECT_EQ(step.loss, own.find("l"));
  EXPECT_EQ(step.prediction(), kNoValue);
  ASSERT_EQ(step.parameters.size(), 1u);
  EXPECT_NE(step.parameters[0].gradient, kNoValue);
  EXPECT_NE(own.find(StepRole::loss_gradient), kNoValue);
}

}  // namespace
}  // namespace halfstep::testing
