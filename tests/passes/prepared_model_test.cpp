// What is done once for a model, and what for each batch size.
#include <algorithm>
#include <map>
#include <string>
#include <vector>

#include "tests/passes/pass_testing.h"
#include <halfstep/passes/prepared_model.h>

namespace halfstep::testing {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

constexpr const char* kModel =
    "(float[N,2] x) => (float[N,1] y) <float[2,1] w = {1, -1}, float[1] m = {0}, float[1] v = {1}, float[1] one = {1}, "
    "float[1] zero = {0}> { h = MatMul(x, w) y = BatchNormalization(h, one, zero, m, v) }";

StepOptions rows(std::int64_t count) {
  return {.shapes = {.by_name = {{"x", Shape{count, 2}}}},
          .loss = {.terms = {{.loss = "mean_squared_error", .label_dtype = DType::f32, .label_shape = {count, 1}}}}};
}

std::vector<std::string> states_of(const Graph& graph) {
  std::vector<std::string> names;
  for (const State& state : graph.states) names.push_back(graph[state.value].name);
  return names;
}

TEST(PreparedModel, IsBoundToAnyBatchForAnyPurpose) {
  const Capabilities none;
  const PreparedModel trained(parse(kModel), {.parameters = ParameterSelection{.trainable = {"w"}}});
  const PreparedModel as_it_is(parse(kModel));
  for (const std::int64_t batch : {3, 1, 2}) {
    for (const Purpose purpose : {Purpose::inference, Purpose::scoring, Purpose::validation, Purpose::training}) {
      const PreparedModel& model = has_parameters(purpose) ? trained : as_it_is;
      const Graph graph = model.lower(purpose, rows(batch), none);
      EXPECT_EQ(graph[graph.inputs[0]].shape, (Shape{batch, 2}));
      EXPECT_EQ(graph.find(StepRole::loss) == kNoValue, purpose == Purpose::inference);
      EXPECT_EQ(graph.find(StepRole::learning_rate) == kNoValue, purpose != Purpose::training);
      const std::vector<std::string> states = states_of(graph);
      switch (purpose) {
        case Purpose::training:
          EXPECT_THAT(states, ElementsAre("w", "m", "v", "optimizer.step", "adam.m.w", "adam.v.w"));
          break;
        case Purpose::validation:
          EXPECT_THAT(states, ElementsAre("w", "m", "v")) << "as in training";
          break;
        default:
          EXPECT_THAT(states, ElementsAre());
      }
      // The same as from the model itself.
      EXPECT_EQ(to_text(graph),
                to_text(run_passes(kModel, whole_pipeline(purpose, rows(batch), none, {.trainable = {"w"}}))));
    }
  }
}

TEST(PreparedModel, KeepsTheModelAndWhatWasGuessed) {
  const std::string text =
      "(float[2,N] x) => (float[N,1] y) <float[2,1] w = {1, -1}, float s = {2}> { t = Transpose(x) h = MatMul(t, w) y "
      "= "
      "Mul(h, s) }";
  const PreparedModel model(parse(text), {.batch_axes = {{"x", 1}}, .parameters = ParameterSelection{}});
  EXPECT_EQ(model.graph()[model.graph().inputs[0]].shape[1], 2) << "its batch is first";
  EXPECT_TRUE(model.graph()[model.graph().find("w")].is_constant());
  EXPECT_THAT(model.guesses(), HasSubstr("'s' (scalar constant) is not trained"));
  EXPECT_EQ(PreparedModel(parse(kModel)).guesses(), "");
}

TEST(PreparedModel, RefusesWhatCannotBeTrainedAndOtherPurposes) {
  EXPECT_THROW(
      PreparedModel(parse("(float[2] x) => (float[2] y) { y = Neg(x) }"), {.parameters = ParameterSelection{}}), Error);
  EXPECT_THROW(PreparedModel(parse(kModel)).lower(Purpose::training, rows(1), {}), Error);
  EXPECT_THROW(PreparedModel(parse(kModel), {.parameters = ParameterSelection{}}).lower(Purpose::scoring, rows(1), {}),
               Error);
}

TEST(PreparedModel, ReleasesVectorsThatAreNoRunningStatistics) {
  constexpr std::int64_t kWide = 1024;  // 4 KiB
  Graph graph = parse(
      "(float[N,2] x, float[2,1024] w, float[1024] b, float[1024] s, float[1024] z, float[1024] m, float[1024] v) => "
      "(float[N,1024] y) { h = MatMul(x, w) a = Add(h, b) y = BatchNormalization(a, s, z, m, v) }");
  for (const ValueId id :
       {graph.find("w"), graph.find("b"), graph.find("s"), graph.find("z"), graph.find("m"), graph.find("v")}) {
    Tensor values(DType::f32, graph[id].shape);
    std::ranges::fill(values.span<float>(), 1.5f);
    graph[id].constant = values;
    graph[id].is_initializer = true;
    std::erase(graph.inputs, id);
  }
  StepOptions options = rows(3);
  options.loss.terms[0].label_shape = {3, kWide};
  PreparedModel model(graph, {.parameters = ParameterSelection{.trainable = {"w", "b", "s", "z"}}});
  model.release_parameters([](const std::string&) { return true; });
  std::map<std::string, float> first;
  const Graph step = model.lower(Purpose::training, options, {});
  for (const State& state : step.states)
    if (state.role == StateRole::parameter || state.role == StateRole::statistic)
      first[step[state.value].name] = state.initial.data<float>()[0];
  const std::map<std::string, float> expected = {{"w", 0}, {"b", 0}, {"s", 0}, {"z", 0}, {"m", 1.5f}, {"v", 1.5f}};
  EXPECT_EQ(first, expected);
}

TEST(PreparedModel, ShowsItsStagesAsOnePipeline) {
  std::vector<std::string> seen, whole;
  const auto into = [](std::vector<std::string>& list) {
    return [&list](std::size_t stage, const std::string& pass, const Graph&) {
      list.push_back(std::to_string(stage) + " " + pass);
    };
  };
  const PreparedModel model(parse(kModel), {.parameters = ParameterSelection{}, .observer = into(seen)});
  model.lower(Purpose::training, rows(2), {}, into(seen));
  run_pipeline(parse(kModel), whole_pipeline(Purpose::training, rows(2), {}), into(whole));
  EXPECT_EQ(seen, whole);
}

TEST(PreparedModel, TellsWhatFixesTheBatchAndLeavesParametersAlone) {
  const char* const fixed =
      "(float[4,2] x) => (float[4,2] y) <float[2,2] w = {1, 2, 3, 4}> { t = Transpose(w) y = MatMul(x, t) }";
  const PreparedModel model(parse(fixed), {.parameters = ParameterSelection{.trainable = {"w"}}});
  EXPECT_EQ(model.batch_obstacle(), "");
  const Graph bound = model.bound({.by_name = {{"x", Shape{3, 2}}}});
  EXPECT_EQ(bound[bound.outputs[0]].shape, (Shape{3, 2}));
  EXPECT_EQ(bound.nodes.size(), 2u) << "the transposition of a parameter is not computed";
  const PreparedModel held(parse("(float[2,2] x) => (float[2,2] y) <float[2,2] b = {1,2,3,4}> { y = Add(x, b) }"));
  EXPECT_THAT(held.batch_obstacle(), HasSubstr("2"));
}

TEST(PreparedModel, TransposesConstantsOnceForAllBatches) {
  const PreparedModel model(
      parse("(float[N,3] x) => (float[N,2] y) <float[2,3] w = {1,2,3,4,5,6}> { t = Transpose(w) u = Identity(t) y = "
            "MatMul(x, u) }"));
  const auto weights = [&](std::int64_t batch) {
    const Graph graph =
        model.lower(Purpose::inference, {.shapes = {.by_name = {{"x", Shape{batch, 3}}}}}, Capabilities());
    EXPECT_EQ(graph.nodes.size(), 1u) << to_text(graph);
    return graph[graph.nodes.at(0).input(1)].constant;
  };
  const Tensor first = weights(3);
  EXPECT_TRUE(identical(first, Tensor::of<float>({1, 4, 2, 5, 3, 6}, {3, 2})));
  EXPECT_EQ(weights(5).raw(), first.raw());
}

}  // namespace
}  // namespace halfstep::testing
