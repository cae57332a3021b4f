// What to_inference_mode does with outputs that only training gives a meaning: masks and running statistics.
#include "tests/passes/pass_testing.h"
#include <halfstep/passes/pipelines.h>

namespace halfstep::testing {
namespace {

using ::testing::Each;
using ::testing::ElementsAre;
using ::testing::IsEmpty;

constexpr const char* kBatchNorm =
    "(float[2,1] x) => (float[2,1] y, float[1] mean, float[1] var) "
    "<float[1] scale = {2.0}, float[1] bias = {1.0}, float[1] m = {3.0}, float[1] v = {4.0}> "
    "{ y, mean, var = BatchNormalization<training_mode = 1, epsilon = 0.0>(x, scale, bias, m, v) }";
constexpr const char* kDropout =
    "(float[2,1] x) => (float[2,1] y, bool[2,1] mask) <float ratio = {0.5}, bool training = {1}> "
    "{ y, mask = Dropout(x, ratio, training) }";
constexpr const char* kReadMask =
    "(float[2,1] x) => (float[2,1] y, float[2,1] z) <float ratio = {0.5}, bool training = {1}> "
    "{ y, mask = Dropout(x, ratio, training) kept = Cast<to = 1>(mask) z = Add(kept, y) }";
constexpr const char* kReadStatistic =
    "(float[2,1] x) => (float[2,1] z) <float[1] scale = {2.0}, float[1] bias = {1.0}, float[1] m = {3.0}, "
    "float[1] v = {4.0}> { y, mean, var = BatchNormalization<training_mode = 1, epsilon = 0.0>(x, scale, bias, m, v) "
    "z = Mul(y, var) }";
constexpr const char* kInABody =
    "(float[2,1] x, bool c) => (float[2,1] y) { y = If (c) <then_branch = t () => (float[2,1] a) "
    "<float ratio = {0.5}, bool training = {1}> { d, mask = Dropout(x, ratio, training) a = Neg(d) }, "
    "else_branch = e () => (float[2,1] b) { b = Relu(x) }> }";

struct Case {
  const char* name;
  const char* text;
  std::vector<std::vector<double>> outputs;  // for x = {5, 1}
};

const Case kCases[] = {
    {"RunningStatisticsAsOutputs", kBatchNorm, {{3, -1}, {3}, {4}}},
    {"MaskAsOutput", kDropout, {{5, 1}, {1, 1}}},
    {"MaskReadByANode", kReadMask, {{5, 1}, {6, 2}}},
    {"RunningStatisticReadByANode", kReadStatistic, {{12, -4}}},
    {"InABody", kInABody, {{-5, -1}}},
};

TEST(InferencePipeline, GivesOutputsThatTrainingWrites) {
  const std::unique_ptr<Executor> executors[] = {make_reference_executor(), make_onednn_executor()};
  for (const Case& c : kCases) {
    SCOPED_TRACE(c.name);
    for (const auto& executor : executors) {
      Compiled compiled(run_passes(c.text, whole_pipeline(Purpose::inference, {}, executor->capabilities())));
      compiled.set("x", Tensor::of<float>({5, 1}, Shape{2, 1}));
      if (compiled.graph.inputs.size() > 1) compiled.set("c", Tensor::scalar(true));
      compiled.program->run();
      for (std::size_t i = 0; i < c.outputs.size(); ++i)
        EXPECT_EQ(to_doubles(compiled.program->output(i)), c.outputs[i]) << "output " << i;
    }
  }
}

TEST(ToInferenceMode, LeavesNoDropoutWhoseMaskNobodyReads) {
  EXPECT_THAT(ops_of(run_passes("(float[2] x) => (float[2] y) <float r = {0.5}, bool on = {1}> "
                                "{ a, mask = Dropout(x, r, on) b = Dropout(a, r, on) y = Neg(b) }",
                                {to_inference_mode()})),
              ElementsAre("Neg"));
}

// The training step moves the statistics; the evaluation beside it reads them and passes them on as they are.
TEST(EvaluationPipeline, GivesTheStatisticsThatTrainingMoved) {
  const std::string text =
      "(float[2,1] x) => (float[2,1] y, float[1] mean, float[1] var) <float[1] scale = {2.0}, float[1] bias = {1.0}, "
      "float[1] m = {3.0}, float[1] v = {4.0}> { y, mean, var = BatchNormalization<training_mode = 1>(x, scale, bias, "
      "m, v) }";
  StepOptions options;
  options.loss.terms = {
      {.loss = "mean_squared_error", .output = "y", .label_dtype = DType::f32, .label_shape = Shape{2, 1}}};
  const std::unique_ptr<Executor> executor = make_reference_executor();
  Compiled compiled(run_passes(text, whole_pipeline(Purpose::validation, options, executor->capabilities())));
  EXPECT_THAT(state_names(compiled.graph, StateRole::statistic), ElementsAre("m", "v"));
  compiled.store->write("m", Tensor::of<float>({7}));
  compiled.program->run();
  EXPECT_THAT(compiled.get("mean"), ElementsAre(7));
  EXPECT_THAT(compiled.get("var"), ElementsAre(4));
}

}  // namespace
}  // namespace halfstep::testing
