// Whole pipelines: the graph after each stage that changes it, for two small models. The wanted texts are the files in
// pipelines/; where one differs, the test prints what it got, and a person decides which of the two is right.
#include <fstream>
#include <iterator>
#include <string>
#include <vector>

#include <fmt/format.h>

#include "tests/passes/pass_testing.h"
#include "tests/paths.h"
#include <halfstep/passes/pipelines.h>

namespace halfstep::testing {
namespace {

struct PipelineCase {
  const char* file;
  const char* model;
  Purpose purpose;
  StepOptions options;
};
void PrintTo(const PipelineCase& c, std::ostream* out) { *out << c.file; }

/// A classifier whose exporter wrote MatMul, Add and Gelu.
constexpr const char* kClassifier =
    "(float[N,2] x) => (float[N,3] y) <float[2,3] w = {1, 2, 3, 4, 5, 6}, float[3] b = {0, 0, 1}, "
    "float root = {1.41421356}, float one = {1}, float half = {0.5}> "
    "{ h = MatMul(x, w) s = Add(h, b) t = Div(s, root) e = Erf(t) p = Add(e, one) q = Mul(s, p) y = Mul(q, half) }";

StepOptions classifier_options() {
  StepOptions options;
  options.shapes.by_name = {{"x", Shape{4, 2}}};
  options.loss.terms = {{.loss = "softmax_cross_entropy", .label_shape = {4}}};
  options.optimizer = {.name = "sgd"};
  return options;
}

/// A regression in bf16 with what has states: dropout, running statistics, a loss scale.
constexpr const char* kRegression =
    "(float[N,2] x) => (float[N,1] y) <float[2,1] w = {1, -1}, float[2] g = {1, 1}, float[2] o = {0, 0}, "
    "float[2] m = {0, 0}, float[2] v = {1, 1}, float r = {0.5}, bool on = {1}> "
    "{ n = BatchNormalization(x, g, o, m, v) c = Relu(n) d = Dropout(c, r, on) y = MatMul(d, w) }";

StepOptions regression_options() {
  StepOptions options;
  options.shapes.by_name = {{"x", Shape{4, 2}}};
  options.precision = DType::bf16;
  options.mode.seed = 7;
  options.loss.terms = {{.loss = "mean_squared_error", .label_dtype = DType::f32, .label_shape = {4, 1}}};
  options.optimizer = {.name = "sgd"};
  options.optimizer.loss_scale.enabled = true;
  return options;
}

Capabilities capabilities() {
  Capabilities result;
  result.fusions = {
      {.op = "Gemm", .fused = "FusedGemm", .activations = {"Relu", "Gelu"}, .widens = true},
      {.op = "MatMul", .fused = "FusedMatMul", .widens = true},
      {.op = "BatchNormalization", .fused = "FusedBatchNormalization", .activations = {"Relu", "Clip"}},
  };
  result.updates = {"SgdStep"};
  result.half_copies = true;
  return result;
}

/// Every stage, with the graph that it leaves where that is another one.
std::string stages_of(const PipelineCase& c) {
  std::string result, last;
  run_pipeline(parse(c.model), whole_pipeline(c.purpose, c.options, capabilities(), {.trainable = {"w"}}),
               [&](std::size_t, const std::string& pass, const Graph& graph) {
                 const std::string now = to_text(graph);
                 result += fmt::format("-- {}\n{}", pass, now == last ? "" : now);
                 last = now;
               });
  return result;
}

class Pipelines : public ::testing::TestWithParam<PipelineCase> {};

TEST_P(Pipelines, LeaveTheseGraphs) {
  std::ifstream file(test::source_dir() / "tests" / "passes" / "pipelines" / GetParam().file);
  const std::string wanted{std::istreambuf_iterator<char>(file), {}}, found = stages_of(GetParam());
  EXPECT_EQ(found, wanted) << "All of it:\n" << found;
}

INSTANTIATE_TEST_SUITE_P(
    , Pipelines,
    ::testing::Values(PipelineCase{"classifier_inference.txt", kClassifier, Purpose::inference, classifier_options()},
                      PipelineCase{"classifier_training.txt", kClassifier, Purpose::training, classifier_options()},
                      PipelineCase{"regression_inference.txt", kRegression, Purpose::inference, regression_options()},
                      PipelineCase{"regression_training.txt", kRegression, Purpose::training, regression_options()}));

}  // namespace
}  // namespace halfstep::testing
