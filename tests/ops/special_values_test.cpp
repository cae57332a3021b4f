// What operators make of NaN, infinities and -0 on the reference executor. The values are PyTorch 2.15's, but where a
// comment says otherwise.
#include <cmath>
#include <string>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/ops/run_op.h"
#include <halfstep/onnx_io/load.h>
#include <halfstep/ops/infer.h>
#include <halfstep/ops/op_def.h>

namespace halfstep {
namespace {

constexpr float kInf = INFINITY, kNaN = NAN;
using Floats = std::vector<float>;

/// `what`: the node, and the types of its operands.
struct Row {
  const char* text;
  std::vector<Floats> inputs;
  Floats wanted;
};

Floats result(const Row& row) {
  Graph graph =
      parse_model("<ir_version: 10, opset_import: [\"\": 28, \"ai.halfstep\": 1]> g " + std::string(row.text)).graph;
  infer_graph(graph);
  std::vector<Tensor> inputs;
  for (std::size_t i = 0; i < row.inputs.size(); ++i)
    inputs.push_back(Tensor::of(row.inputs[i], graph[graph.inputs[i]].shape));
  const std::vector<double> values = to_doubles(run_graph(graph, inputs)[0]);
  return {values.begin(), values.end()};
}

void expect_rows(const std::vector<Row>& rows) {
  for (const Row& row : rows) {
    std::vector<::testing::Matcher<float>> wanted;
    for (const float value : row.wanted) wanted.push_back(::testing::NanSensitiveFloatNear(value, 1e-5F));
    EXPECT_THAT(result(row), ::testing::ElementsAreArray(wanted)) << row.text;
  }
}

const Floats kX = {kNaN, kInf, -kInf, -2, 2};

TEST(SpecialValues, ActivationsPassNaN) {
  const auto node = [](const std::string& text) { return "(float[5] x) => (float[5] y) " + text; };
  const std::pair<std::string, Floats> rows[] = {
      {"{ y = Relu(x) }", {kNaN, kInf, 0, 0, 2}},
      {"<float lo = {0}, float hi = {6}> { y = Clip(x, lo, hi) }", {kNaN, 6, 0, 0, 2}},
      {"{ y = LeakyRelu(x) }", {kNaN, kInf, -kInf, -0.02F, 2}},
      {"{ y = Elu(x) }", {kNaN, kInf, -1, -0.864665F, 2}},
      {"{ y = Selu(x) }", {kNaN, kInf, -1.758099F, -1.520167F, 2.101402F}},
      {"{ y = Celu(x) }", {kNaN, kInf, -1, -0.864665F, 2}},
      {"{ y = Gelu(x) }", {kNaN, kInf, kNaN, -0.0455F, 1.9545F}},
      {"{ y = Gelu<approximate = \"tanh\">(x) }", {kNaN, kInf, kNaN, -0.045402F, 1.954598F}},
      {"{ y = Swish(x) }", {kNaN, kInf, kNaN, -0.238406F, 1.761594F}},
      {"<float a = {0.25}> { y = PRelu(x, a) }", {kNaN, kInf, -kInf, -0.5F, 2}},
      {"{ y = HardSigmoid<alpha = 0.16666667, beta = 0.5>(x) }", {kNaN, 1, 0, 0.166667F, 0.833333F}},
      {"{ y = HardSwish(x) }", {kNaN, kInf, kNaN, -0.333333F, 1.666667F}},
      {"{ y = Softplus(x) }", {kNaN, kInf, 0, 0.126928F, 2.126928F}},
      {"{ y = Softsign(x) }", {kNaN, kNaN, kNaN, -0.666667F, 0.666667F}},
      {"{ y = Mish(x) }", {kNaN, kInf, kNaN, -0.252501F, 1.943959F}},
      {"{ y = Shrink(x) }", {kNaN, kInf, -kInf, -2, 2}},
      {"{ y = ThresholdedRelu(x) }", {kNaN, kInf, 0, 0, 2}},
      {"{ y = Sign(x) }", {kNaN, 1, -1, -1, 1}},  // NumPy's; PyTorch gives 0 for NaN
  };
  std::vector<std::string> texts;
  for (const auto& [text, wanted] : rows) texts.push_back(node(text));
  for (std::size_t i = 0; i < texts.size(); ++i) expect_rows({{texts[i].c_str(), {kX}, rows[i].second}});
}

// relu's and hardtanh's; clamp's is 0 at NaN.
TEST(SpecialValues, ClampsLetTheGradientOfNaNPass) {
  const Floats dy = {3, 3, 3, 3, 3};
  expect_rows({
      {"(float[5] d, float[5] y) => (float[5] x) { x = ai.halfstep.ReluGrad(d, y) }",
       {dy, {kNaN, kInf, 0, -2, 2}},
       {3, 3, 0, 0, 3}},
      {"(float[5] d, float[5] x) => (float[5] y) <float lo = {0}, float hi = {6}> "
       "{ y = ai.halfstep.ClipGrad(d, x, lo, hi) }",
       {dy, kX},
       {3, 0, 0, 0, 3}},
      {"(float[5,1] d, float[5,1] x) => (float[5,1] y, float[1] s, float[1] b) <float[1] one = {1}, float[1] zero = "
       "{0}> "
       "{ y, s, b = ai.halfstep.BatchNormalizationGrad<activation = \"Relu\", epsilon = 0.0>(d, x, one, zero, one, "
       "zero) }",
       {dy, kX},
       {3, 3, 0, 0, 3}},
  });
}

TEST(SpecialValues, NaNWinsAmongMaximaAndMinima) {
  const Floats x = {1, kNaN, kInf, -kInf};
  expect_rows({
      {"(float[4] x) => (float[1] y) { y = ReduceMax(x) }", {x}, {kNaN}},
      {"(float[4] x) => (float[1] y) { y = ReduceMin(x) }", {x}, {kNaN}},
      {"(float[4] x) => (int64[1] y) { y = ArgMax(x) }", {x}, {1}},
      {"(float[4] x) => (int64[1] y) { y = ArgMin(x) }", {x}, {1}},
      {"(float[3] x) => (int64[1] y) { y = ArgMax<select_last_index = 1>(x) }", {{kNaN, kNaN, 1}}, {1}},
      {"(float[4] x) => (float[3] y, int64[3] i) <int64[1] k = {3}> { y, i = TopK(x, k) }", {x}, {kNaN, kInf, 1}},
      {"(float[4] x) => (float[3] y, int64[3] i) <int64[1] k = {3}> { y, i = TopK<largest = 0>(x, k) }",
       {x},
       {-kInf, 1, kInf}},
      {"(float[2] a, float[2] b) => (float[2] y) { y = Max(a, b) }", {{kNaN, 1}, {1, kNaN}}, {kNaN, kNaN}},
      {"(float[2] a, float[2] b) => (float[2] y) { y = Min(a, b) }", {{kNaN, 1}, {1, kNaN}}, {kNaN, kNaN}},
      // ONNX Runtime's MaxPool skips NaN.
      {"(float[1,1,6] x) => (float[1,1,3] y) { y = MaxPool<kernel_shape = [2], strides = [2]>(x) }",
       {{1, kNaN, -kInf, -kInf, kInf, 2}},
       {kNaN, -kInf, kInf}},
      {"(float[1,1,4] x) => (float[1,1,1] y) { y = GlobalMaxPool(x) }", {x}, {kNaN}},
      {"(float[1,1,3] d, float[1,1,6] x) => (float[1,1,6] y) "
       "{ y = ai.halfstep.MaxPoolGrad<kernel_shape = [2], strides = [2]>(d, x) }",
       {{1, 2, 3}, {1, kNaN, -kInf, -kInf, kInf, 2}},
       {0, 1, 2, 0, 3, 0}},
  });
}

TEST(SpecialValues, SumsOfExponentials) {
  const Floats masked = {-kInf, -kInf, 1}, infinite = {kInf, 1, 2}, hidden = {-kInf, -kInf, -kInf};
  const Floats unknown = {kNaN, kNaN, kNaN};
  for (const char* text :
       {"(float[3] x) => (float[3] y) { y = Softmax(x) }", "(float[3] x) => (float[3] y) { y = LogSoftmax(x) }"})
    expect_rows({{text, {infinite}, unknown}, {text, {hidden}, unknown}, {text, {{1, kNaN, kInf}}, unknown}});
  expect_rows({
      {"(float[3] x) => (float[3] y) { y = Softmax(x) }", {masked}, {0, 0, 1}},
      {"(float[3] x) => (float[3] y) { y = LogSoftmax(x) }", {masked}, {-kInf, -kInf, 0}},
      {"(float[3] x) => (float[1] y) { y = ReduceLogSumExp(x) }", {masked}, {1}},
      {"(float[3] x) => (float[1] y) { y = ReduceLogSumExp(x) }", {infinite}, {kInf}},
      {"(float[3] x) => (float[1] y) { y = ReduceLogSumExp(x) }", {hidden}, {-kInf}},
      {"(float[3] x) => (float[1] y) { y = ReduceLogSumExp(x) }", {{kInf, 1, kNaN}}, {kNaN}},
      {"(float[3] x) => (float[1] y) { y = ReduceLogSumExp(x) }", {{-kInf, kNaN, -kInf}}, {kNaN}},
  });
}

}  // namespace
}  // namespace halfstep
