// Made-up data that models take.
#include <memory>
#include <string>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <halfstep/base/error.h>
#include <halfstep/executors/registry.h>
#include <halfstep/onnx_io/load.h>
#include <halfstep/training/example_data.h>
#include <halfstep/training/training_step.h>

namespace halfstep {
namespace {

LoadedModel model(const std::string& text) {
  return parse_model(R"(<ir_version: 10, opset_import: ["": 24]> m )" + text);
}
const char* const kClassifier =
    "(float[N, 3] x) => (float[N, 2] y) <float[3, 2] w = {1, 2, 3, 4, 5, 6}> { y = MatMul(x, w) }";
const char* const kRegression = "(float[N, 2] x) => (float[N, 1] y) <float[2, 1] w = {1, 2}> { y = MatMul(x, w) }";
const char* const kEmbedding =
    "(int64[N, T] ids) => (float[N, T, 2] y) <float[5, 2] w = {1, 2, 3, 4, 5, 6, 7, 8, 9, 10}> { y = Gather(w, ids) }";

TEST(ExampleInputs, HaveTheShapesThatAreAskedFor) {
  const NamedTensors inputs = example_inputs(model(kEmbedding).graph, {.by_name = {{"ids", {4, 6}}}});
  EXPECT_EQ(inputs.at("ids").shape(), (Shape{4, 6}));
  EXPECT_THAT(to_int64s(inputs.at("ids")), ::testing::Each(::testing::AllOf(::testing::Ge(0), ::testing::Lt(5))));
  EXPECT_THAT(to_int64s(inputs.at("ids")), ::testing::Contains(::testing::Gt(1)));
  EXPECT_THROW(example_inputs(model(kEmbedding).graph, {.by_name = {}, .batch = 4}), Error);  // T is open
}

TEST(ExampleLabels, AreWhatTheLossTakes) {
  const InputShapes shapes{.by_name = {}, .batch = 4};
  const Graph classifier = model(kClassifier).graph, regression = model(kRegression).graph;
  EXPECT_EQ(example_labels(classifier, shapes)->dtype(), DType::i64);
  EXPECT_EQ(example_labels(classifier, shapes)->shape(), (Shape{4}));
  EXPECT_EQ(example_labels(regression, shapes)->shape(), (Shape{4, 1}));
  EXPECT_EQ(example_labels(classifier, shapes, "y", "mean_squared_error")->shape(), (Shape{4, 2}));
  EXPECT_FALSE(example_labels(classifier, shapes, "y", "output"));
  EXPECT_THROW(example_labels(classifier, shapes, "z"), Error);
}

TEST(TrainingStepProfiles, CountTheUpdatesThatTheyMade) {
  const auto executor = make_executor("onednn", {});
  TrainingStep step(model(kClassifier), *executor, {.precision = Precision::fp32});
  const InputShapes shapes{.by_name = {}, .batch = 4};
  NamedTensors batch = example_inputs(model(kClassifier).graph, shapes);
  batch["labels"] = *example_labels(model(kClassifier).graph, shapes);
  const Profile profile = step.profile(batch, {.steps = 2});
  EXPECT_GE(step.updates(), 4);
  bool backward = false, reads = false;
  for (const ProfileEntry& entry : profile.entries) {
    backward = backward || entry.backward;
    reads = reads || entry.facts.cost.bytes > 0;
  }
  EXPECT_TRUE(backward);
  EXPECT_TRUE(reads);
  step.run(batch);
  EXPECT_GE(step.updates(), 5);
}

}  // namespace
}  // namespace halfstep
