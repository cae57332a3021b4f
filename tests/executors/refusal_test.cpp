// Operands that do not fit an operator: every executor refuses what the reference executor refuses, and computes what
// it computes.
#include <optional>
#include <string>

#include <fmt/format.h>
#include <gtest/gtest.h>

#include "conformance/cases.h"
#include "conformance/executor_check.h"
#include "conformance/onnx_case.h"
#include "conformance/run_graph.h"
#include <halfstep/base/error.h>
#include <halfstep/executors/executor.h>
#include <halfstep/onnx_io/load.h>

namespace halfstep {
namespace {

struct Loaded {
  Graph graph;
  std::vector<Tensor> inputs;
};

// A model of these nodes as a program would be compiled from it, with random inputs.
Loaded load(const std::string& text, const Capabilities& capabilities) {
  const Graph graph = parse_model(fmt::format("<ir_version: 10, opset_import: [\"\": {}, \"{}\": {}]> g {}", kOnnxOpset,
                                              kOwnDomain, kOwnOpset, text))
                          .graph;
  std::vector<Tensor> inputs;
  for (ValueId in : graph.inputs)
    inputs.push_back(draw_uniform(graph[in].dtype, graph[in].shape, -1, 1, inputs.size() + 1));
  return {prepare_graph(graph, inputs, capabilities), inputs};
}

// What the executor requires and does not find; nothing when it runs.
std::optional<std::string> refusal(const std::string& text, Executor& executor) {
  try {
    const Loaded loaded = load(text, executor.capabilities());
    run_graph(executor, loaded.graph, loaded.inputs);
  } catch (const Error& e) {
    return e.required();
  }
  return {};
}

class Refused : public ::testing::TestWithParam<const char*> {};

TEST_P(Refused, ByEveryExecutorForTheSameReason) {
  const std::optional<std::string> reference = refusal(GetParam(), *make_reference_executor());
  const std::optional<std::string> onednn = refusal(GetParam(), *make_onednn_executor());
  ASSERT_TRUE(reference);
  EXPECT_EQ(onednn.value_or("nothing"), *reference);
}

constexpr const char* kRefused[] = {
    "(float[2,3] a) => (float[n,3] y) { y = Concat<axis = 0>(a, , a) }",
    "(float[2,3] x) => (float[2,3] y) { y = Cast<to = 0>(x) }",
    "(float[2,3] x, float[2] c) => (float[2,5] y) <int64[4] p = {0, 1, 0, 1}> { y = Pad(x, p, c) }",
    "(float[4] x) => (float[3] y) <bool[4] c = {1, 0, 1, 0}> { y = Compress(x, c) }",
    "(float[2,3] a, float[3,4] b, float[3] c) => (float[2,4] y) { y = Gemm(a, b, c) }",
    "(float[2,3] a, float[3,4] b, float[1,2,4] c) => (float[2,4] y) { y = Gemm(a, b, c) }",
    "(float[1,2,5,5] x, float[4,2,3,3] w, float[3] b) => (float[1,4,3,3] y) { y = Conv(x, w, b) }",
    "(float[1,2,5,5] x, float[4,2,3,3] w) => (float[1,4,4,3] y) { y = Conv<kernel_shape = [2, 3]>(x, w) }",
    "(float[1,2,5,5] x, float[4,2,3,3] w) => (float[1,4,4,3] y) { y = Conv<dilations = [9223372036854775807, 1]>(x, w) "
    "}",
    "(float[2,3,9] x, float[4,3,3] w) => (float[2,4,7] y) { y = Conv<group = 0>(x, w) }",
    "(float[2,3,9] x, float[4,3,3] w) => (float[2,4,7] y) { y = Conv<group = -9>(x, w) }",
    "(float[2,3,9] x, float[4,3,3] w) => (float[2,4,7] y) { y = Conv<group = 9223372036854775807>(x, w) }",
    "(float[2,3,9] x, float[4] w, float[4,3,3] b) => (float[2,4,n] y) { y = Conv<kernel_shape = [3]>(x, w, b) }",
    "(float[2,3,2,5,5] x, float[4,3,3,3,3] w) => (float[2,4,0,3,3] y) { y = Conv(x, w) }",
    "(float[2,8,5,5] x, float[8,1,3,3] w) => (float[2,8,n,m] y) "
    "{ y = ConvTranspose<group = 8, strides = [1, 2], pads = [64, 0, 0, 0]>(x, w) }",
    "(float[2,3,3] x, float[3,2,3] w) => (float[2,2,5] y) { y = ConvTranspose<strides = [0]>(x, w) }",
    "(float[2,3,3] x, float[3,2,3] w) => (float[2,2,5] y) { y = ConvTranspose<group = 2>(x, w) }",
    "(float[2,3] a, float[3,4] b) => (float[2,4] y) { y = ai.halfstep.FusedGemm<activation = \"relu\">(a, b) }",
    "(float[2,3] a, float[3,4] b) => (float[2,4] y) { y = ai.halfstep.FusedGemm<activation = \"Tanh\">(a, b) }",
    "(float[1,2,5,5] x, float[4,2,3,3] w) => (float[1,4,3,3] y) "
    "{ y = ai.halfstep.FusedConv<activation = \"Selu\">(x, w) }",
    "(float[2,3,4] x, float[3] s) => (float[2,3,4] y) "
    "{ y = ai.halfstep.FusedBatchNormalization<activation = \"Tanh\">(x, s, s, s, s) }",
    "(float[2,3,4] dy, float[2,3,4] x, float[3] s) => (float[2,3,4] dx, float[3] ds, float[3] db) "
    "{ dx, ds, db = ai.halfstep.BatchNormalizationGrad<training_mode = 1, activation = \"Tanh\">(dy, x, s, , , s) }",
    "(float[6] x) => (float[2] a, float[2] b, float[2] c) { a, b, c = Split<num_outputs = 4>(x) }",
    "(float[1] x) => (float[1] a, float[1] b, float[n] c) { a, b, c = Split<num_outputs = 3>(x) }",
    "(float[2,3] x) => (float[1] y) { y = Split<num_outputs = 2147483647>(x) }",
    "(float[2,3] x) => (float[n,3] y) <int64[2,1] i = {0, 1}> { y = GatherND<batch_dims = -2147483648>(x, i) }",
    "(float16[3] c, float[3] x) => (float[3] y) { y = Where(c, x, x) }",
    "(float[3] x) => (float[n] y) <uint8[3] c = {7, 0, 60}> { y = Compress(x, c) }",
    "(float[1,4] x) => (float[1,1099511627776] y) <int64[2] z = {1, 1099511627776}> "
    "{ y = Resize<mode = \"linear\">(x, , , z) }",
    "(float[2,4,9,1] dy, float[4,3,3,3] w) => (float[2,3,5,5] dx) "
    "{ dx = ai.halfstep.ConvGradInput<input_shape = [2, 3, 5, 5]>(dy, w) }",
    "(float[2,36,1,1] dy, float[4,3,3,3] w) => (float[2,3,5,5] dx) "
    "{ dx = ai.halfstep.ConvGradInput<input_shape = [2, 3, 5, 5]>(dy, w) }",
    "(float[2,4,3,3] dy, float[4,3,3,3] w) => (float[6] dx) { dx = ai.halfstep.ConvGradInput<input_shape = [6]>(dy, w) "
    "}",
    "(float[2,4,1,9] dy, float[2,3,5,5] x) => (float[4,3,3,3] dw) "
    "{ dw = ai.halfstep.ConvGradWeight<weight_shape = [4, 3, 3, 3]>(dy, x) }",
    "(float[4,2,3,3] dy, float[2,3,5,5] x) => (float[4,3,3,3] dw) "
    "{ dw = ai.halfstep.ConvGradWeight<weight_shape = [4, 3, 3, 3]>(dy, x) }",
    "(float[2,1,3] x, float[1,8,3] w, float[1,8,2] r, float[1,5] b) => (float[2,1,1,2] y) "
    "{ y = LSTM<hidden_size = 2>(x, w, r, b) }",
    "(float[2,3,3] x, float[1,2,3] w, float[1,2,2] r, float[1,2,2] h) => (float[2,1,3,2] y) "
    "{ y = RNN<hidden_size = 2>(x, w, r, , , h) }",
    "(float[1,1,5,5] x) => (float[1,1,2,2] y) { y = MaxPool<kernel_shape = [2, 2], ceil_mode = 7>(x) }",
    "(float[1,1,1,4] x) => (float[1,1,n,m] y) { y = AveragePool<kernel_shape = [3, 3], strides = [3, 1]>(x) }",
    "(float[1,1,1,4] x) => (float[1,1,n,m] y) { y = MaxPool<kernel_shape = [3, 3], strides = [3, 1]>(x) }",
    "(float[5] x) => (float[2] y, float[2] z) { y, z = Split<num_outputs = 7>(x) }",
    "(float[2,3] x) => (float[2] y) <int64[3] a = {1, -1, 1}> { y = ReduceMin<keepdims = 0>(x, a) }",
    "(float[4,3] x) => (float[2,3] y) <int64[2] b = {0, 1}, int64[2] e = {2, 3}, int64[2] a = {0, 0}> "
    "{ y = Slice(x, b, e, a) }",
    "(float[2,3] x) => (float[n,m] y) <int64[4] p = {1, 1, 0, 0}, int64[2] a = {1, -1}> { y = Pad(x, p, , a) }",
    "(float[1,3,1] x) => (float[3] y) <int64[3] a = {0, 2, -3}> { y = Squeeze(x, a) }",
    "(float[2] x) => (float[1,2] y) <int64[2] a = {0, 0}> { y = Unsqueeze(x, a) }",
    "(float[4] x) => (float[4] y) <float r = {2.0}> { y = Dropout(x, r) }",
    "(float[2,3,4] x) => (float[6,4] y) { y = Flatten<axis = 9223372036854775807>(x) }",
    "(float[2,3] x, float[3] s) => (float[2,3] y) { y = LayerNormalization<axis = 9223372036854775807>(x, s) }",
    "(float[1,2,5,5] x, float[2,4,3,3] w, float[3] b) => (float[1,4,7,7] y) { y = ConvTranspose(x, w, b) }",
    "(float[1,2,0,3] x, float[2,4,3,3] w) => (float[1,4,n,5] y) { y = ConvTranspose(x, w) }",
    "(float[2,3,4] x, float[2] s, float[3] b, float[3] m, float[3] v) => (float[2,3,4] y) "
    "{ y = BatchNormalization(x, s, b, m, v) }",
    "(float[2,3,4] x, float[3,1] s, float[3] b) => (float[2,3,4] y) { y = InstanceNormalization(x, s, b) }",
    "(float[2,3,4] x, float[2] s, float[3] b) => (float[2,3,4] y) { y = InstanceNormalization(x, s, b) }",
    "(float[3,4] x, float[3] s) => (float[3,4] y) { y = LayerNormalization(x, s) }",
    "(float[2,3] dy, float[3,3] y) => (float[2,3] dx) { dx = ai.halfstep.ReluGrad(dy, y) }",
    "(float[2,4] x) => (float loss) <int64[2] t = {1, 4}> { loss = SoftmaxCrossEntropyLoss(x, t) }",
    "(float[2,4] x) => (float loss) <int32[2] t = {1, -1}> { loss = SoftmaxCrossEntropyLoss(x, t) }",
    "(float[2,4] x, float[3] w) => (float loss) <int64[2] t = {1, 3}> { loss = SoftmaxCrossEntropyLoss(x, t, w) }",
    "(float d, float[2,4] p) => (float[2,4] dx) <int64[2] t = {1, 9}> "
    "{ dx = ai.halfstep.SoftmaxCrossEntropyGrad(d, p, t) }",
    // Gradients of other shapes than the forward result's.
    "(float[300,2000] dy) => (float[2,2] dx) <int64[2] s = {0, 0}, int64[2] e = {2, 2}> "
    "{ dx = ai.halfstep.SliceGrad<input_shape = [2, 2]>(dy, s, e) }",
    "(float[300,2000] dy, int64[2] e) => (float[2,2] dx) <int64[2] s = {0, 0}> "
    "{ dx = ai.halfstep.SliceGrad<input_shape = [2, 2]>(dy, s, e) }",
    "(float[4] dy, int64[2] e) => (float[4] dx) <int64[2] s = {0, 0}> "
    "{ dx = ai.halfstep.SliceGrad<input_shape = [4]>(dy, s, e) }",
    "(float[2,3] dy) => (float[4,8000000] dx) <int64[2] i = {0, 1}> "
    "{ dx = ai.halfstep.GatherGrad<input_shape = [4, 8000000]>(dy, i) }",
    "(float[1,1,2,2] dy) => (float[1,1,3000,3000] dx) <float[4] s = {1.0, 1.0, 2.0, 2.0}> "
    "{ dx = ai.halfstep.ResizeGrad<mode = \"linear\", input_shape = [1, 1, 3000, 3000]>(dy, , s) }",
    "(float[1] d, float[3,2] p) => (float[3,2] dx) <int64[3] t = {0, 1, 1}> "
    "{ dx = ai.halfstep.SoftmaxCrossEntropyGrad<reduction = \"none\">(d, p, t) }",
    "(float[1,1,300,300] dy, float[1,1,4,4] x) => (float[1,1,4,4] dx) "
    "{ dx = ai.halfstep.MaxPoolGrad<kernel_shape = [2, 2]>(dy, x) }",
    "(float[4,4] dy, float[4,4] x, float[4,1] s) => (float[4,4] dx) "
    "{ dx = ai.halfstep.LayerNormalizationGrad(dy, x, s) }",
    "(float lr, float f, float[3] p, float[3] g, float[2] m, float[3] v) => (float[3] np, float[2] nm, float[3] nv) "
    "<int64 t = {1}, bool a = {1}> { np, nm, nv = ai.halfstep.AdamStep(lr, t, a, f, p, g, m, v) }",
    "(float lr, float f, float[300000] p, float[3] g) => (float[300000] np) "
    "<int64 t = {1}, bool a = {1}> { np = ai.halfstep.SgdStep(lr, t, a, f, p, g) }",
};

INSTANTIATE_TEST_SUITE_P(Operands, Refused, ::testing::ValuesIn(kRefused));

// The next value is written where the state lies.
TEST(States, WithNextValuesOfASizeThatDependsOnDataAreRefused) {
  const Graph graph = parse_model(R"(<ir_version: 10, opset_import: ["": 20], metadata_props: [
      "ai.halfstep.state.w": "parameter", "ai.halfstep.next.w": "n", "ai.halfstep.outputs": "1"]>
      g (float[4] x) => (int64[1,3] y, int64[1,K] n) <int64[1,3] w = {1, 2, 3}> { y = Abs(w) n = NonZero(x) })")
                          .graph;
  ASSERT_EQ(graph.states.size(), 1u);
  const std::vector<Tensor> inputs{Tensor::of<float>({1, 1, 1, 1})};
  const auto executor = make_onednn_executor();
  std::string found;
  try {
    run_graph(*executor, prepare_graph(graph, inputs, executor->capabilities()), inputs);
  } catch (const Error& e) {
    found = e.found();
  }
  EXPECT_EQ(found, "'n', whose shape depends on data");
}

class Taken : public ::testing::TestWithParam<const char*> {};

TEST_P(Taken, WithTheSameResultsOnEveryExecutor) {
  const std::unique_ptr<Executor> onednn = make_onednn_executor();
  const Loaded loaded = load(GetParam(), onednn->capabilities());
  EXPECT_EQ(execution_difference(loaded.graph, loaded.inputs, *onednn), "");
}

constexpr const char* kTaken[] = {
    "(float[2,0] x, float[0] s) => (float[2,0] y) { y = LayerNormalization(x, s) }",
    "(float[0,3] x, float[3] s) => (float[0,3] y, float[0,1] m) { y, m = LayerNormalization(x, s) }",
    "(float[2,3] x, float[3] s, float[3] b) => (float[2,3] y) { y = InstanceNormalization(x, s, b) }",
    "(float[2,0,2] x) => (float[2,0,2] y) { y = LRN<size = 3>(x) }",
    "(float[2,4] x) => (float loss) <int64[2] t = {1, 9}> "
    "{ loss = SoftmaxCrossEntropyLoss<ignore_index = 9>(x, t) }",
    "(float[1,2,8] x) => (float[1,2,8] y) { y = MaxPool<kernel_shape = [2147483647], auto_pad = \"SAME_UPPER\">(x) }",
    "(float[1,2,8] x) => (float[1,2,8] y) "
    "{ y = AveragePool<kernel_shape = [2147483647], auto_pad = \"SAME_LOWER\">(x) }",
    "(float[1,1,17,3] x, float[1,2,3,3] w) => (float[1,2,10,8] y) "
    "{ y = ConvTranspose<strides = [4, 2], output_shape = [10, 8]>(x, w) }",
    "(float16[3,4] x, float[4] s) => (float[3,4] y) { y = RMSNormalization(x, s) }",
    "(float[1,2,3,7,2] x) => (float[1,2,3,6,2] y) <int64[2] z = {5, 6}> "
    "{ y = Resize<mode = \"linear\", axes = [2, 3], keep_aspect_ratio_policy = \"not_larger\">(x, , , z) }",
    "(float[0,4] x) => (float[0,9007199254740992] y) <int64[1] z = {9007199254740992}> "
    "{ y = Resize<axes = [1]>(x, , , z) }",
    "(float[2] x) => (string[2] s) { s = Constant<value_strings = [\"a\", \"b\"]>() }",
    // Scale and bias that are not one row, though they have as many elements.
    "(float[4,3,4] x, float[4,1,1] s) => (float[4,3,4] y) { y = LayerNormalization(x, s) }",
    "(float[4,4] x, float[4,1] s) => (float[4,4] y) { y = LayerNormalization(x, s) }",
    "(float[4,4] x, float[4] s, float[4,1] b) => (float[4,4] y) { y = LayerNormalization(x, s, b) }",
    "(float[4,3,4] x, float[1,1,4] s, float[1,4] b) => (float[4,3,4] y) { y = LayerNormalization(x, s, b) }",
    "(float[4,4] x, float[4,1] s) => (float[4,4] y) { y = RMSNormalization(x, s) }",
    "(float[5] x) => (float[1] y) <int64[1] s = {-100}, int64[1] e = {-1000}, int64[1] a = {0}, int64[1] t = {-1}> "
    "{ y = Slice(x, s, e, a, t) }",
    // A residual that is what is convolved.
    "(float[2,16,9,7] x, float[16,16,3,3] w, float[16] b) => (float[2,16,9,7] y) "
    "{ r = Softmax(x) c = ai.halfstep.FusedConv<pads = [1, 1, 1, 1]>(r, w, b, r) y = Softmax(c) }",
    // An activation of padding, which has to stay 0.
    "(float[2,10,6,6] x, float[10,1,3,3] w, float[10] b) => (float[2,10,6,6] y) "
    "{ y = ai.halfstep.FusedConv<pads = [2, 2, 2, 2], dilations = [2, 2], group = 10, activation = \"Clip\", "
    "min = 1.0, max = 6.0>(x, w, b) }",
    "(float[2,10,6] x, float[10,1,31] w, float[10] b) => (float[2,10,6] y) "
    "{ y = ai.halfstep.FusedConv<pads = [15, 15], group = 10, activation = \"Clip\", min = 1.0, max = 6.0>(x, w, b) }",
    "(float[2,16,6,6] x, float[10,16,3,3] w, float[10] b) => (float[2,10,4,4] y) "
    "{ y = ai.halfstep.FusedConv<activation = \"Clip\", min = 1.0, max = 6.0>(x, w, b) }",
    "(float[2] x) => (string[2] s) <string[2] c = {\"a\", \"b\"}> { s = Identity(c) }",
};

INSTANTIATE_TEST_SUITE_P(Operands, Taken, ::testing::ValuesIn(kTaken));

}  // namespace
}  // namespace halfstep
