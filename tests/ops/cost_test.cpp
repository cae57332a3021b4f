// FLOPs and bytes of nodes, against formulas by hand.
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include <halfstep/onnx_io/load.h>
#include <halfstep/ops/cost.h>

namespace halfstep {
namespace {

Graph graph_of(const std::string& text) {
  return parse_model(R"(<ir_version: 10, opset_import: ["": 24, "ai.halfstep": 1]> m )" + text).graph;
}

struct CostCase {
  const char* name;
  const char* text;  ///< one node
  double flops, bytes;
};

constexpr CostCase kCases[] = {
    // Conv 3x3: 2 * N*M*H*W * C*3*3, and the bias once for each element of the result.
    {"Conv",
     "(float[2,3,8,8] x, float[4,3,3,3] w, float[4] b) => (float[2,4,8,8] y) { y = Conv<pads=[1,1,1,1]>(x, w, b) }",
     2.0 * 2 * 4 * 8 * 8 * 3 * 3 * 3 + 2 * 4 * 8 * 8, 4.0 * (2 * 3 * 64 + 4 * 27 + 4 + 2 * 4 * 64)},
    {"ConvWithStride", "(float[1,8,9,9] x, float[16,8,1,1] w) => (float[1,16,5,5] y) { y = Conv<strides=[2,2]>(x, w) }",
     2.0 * 16 * 25 * 8, 4.0 * (8 * 81 + 16 * 8 + 16 * 25)},
    // One filter for each channel.
    {"DepthwiseConv",
     "(float[2,6,7,7] x, float[6,1,3,3] w) => (float[2,6,7,7] y) { y = Conv<group=6, pads=[1,1,1,1]>(x, w) }",
     2.0 * 2 * 6 * 49 * 9, 4.0 * (2 * 2 * 6 * 49 + 6 * 9)},
    // Each element of X meets M*K*K taps.
    {"ConvTranspose", "(float[1,4,5,5] x, float[4,3,2,2] w) => (float[1,3,6,6] y) { y = ConvTranspose(x, w) }",
     2.0 * 4 * 25 * 3 * 4, 4.0 * (4 * 25 + 4 * 3 * 4 + 3 * 36)},
    {"ConvGradInput",
     "(float[2,4,6,6] dy, float[4,3,3,3] w) => (float[2,3,8,8] dx) "
     "{ dx = ai.halfstep.ConvGradInput<input_shape=[2,3,8,8]>(dy, w) }",
     2.0 * 2 * 4 * 36 * 27, 4.0 * (2 * 4 * 36 + 4 * 27 + 2 * 3 * 64)},
    {"ConvGradWeight",
     "(float[2,4,6,6] dy, float[2,3,8,8] x) => (float[4,3,3,3] dw) "
     "{ dw = ai.halfstep.ConvGradWeight<weight_shape=[4,3,3,3]>(dy, x) }",
     2.0 * 2 * 4 * 36 * 27, 4.0 * (2 * 4 * 36 + 2 * 3 * 64 + 4 * 27)},
    {"FusedConv",
     "(float[1,3,4,4] x, float[2,3,3,3] w, float[2] b, float[1,2,4,4] r) => (float[1,2,4,4] y) "
     "{ y = ai.halfstep.FusedConv<pads=[1,1,1,1], activation=\"Relu\">(x, w, b, r) }",
     2.0 * 2 * 16 * 27 + 3 * 2 * 16, 4.0 * (3 * 16 + 2 * 27 + 2 + 2 * 2 * 16)},
    // 2*M*N*K, and the bias.
    {"Gemm", "(float[5,7] a, float[7,3] b, float[3] c) => (float[5,3] y) { y = Gemm(a, b, c) }",
     2.0 * 5 * 3 * 7 + 5 * 3, 4.0 * (35 + 21 + 3 + 15)},
    {"GemmTransposed", "(float[7,5] a, float[3,7] b) => (float[5,3] y) { y = Gemm<transA=1, transB=1>(a, b) }",
     2.0 * 5 * 3 * 7, 4.0 * (35 + 21 + 15)},
    {"MatMulOfHalf", "(float16[2,4,8] a, float16[8,6] b) => (float16[2,4,6] y) { y = MatMul(a, b) }",
     2.0 * 2 * 4 * 6 * 8, 2.0 * (64 + 48 + 48)},
    {"Einsum", "(float[2,3,4] a, float[2,5,4] b) => (float[2,3,5] y) { y = Einsum<equation = \"bik,bjk->bij\">(a, b) }",
     2.0 * 2 * 3 * 5 * 4, 4.0 * (24 + 40 + 30)},
    // One for each element of each node; what lies between them is not memory.
    {"ElementwiseChain",
     "(float[4,3] a, float[3] b) => (float[4,3] y) { y = ai.halfstep.ElementwiseChain<body = c (float[4,3] p, float[3] "
     "q) => (float[4,3] r) { s = Add(p, q) e = Exp(s) r = Mul(e, p) }>(a, b) }",
     3.0 * 12, 4.0 * (12 + 3 + 12)},
    // For each of T*N steps 4*H*(I + H) products and sums: 4 gates of H rows.
    {"Lstm",
     "(float[6,2,5] x, float[1,12,5] w, float[1,12,3] r) => (float[6,1,2,3] y) { y = LSTM<hidden_size=3>(x, w, r) }",
     2.0 * 6 * 2 * 4 * 3 * (5 + 3), 4.0 * (60 + 60 + 36 + 36)},
    // The same again for dX and the state, and once more for dW and dR.
    {"LstmGrad",
     "(float[6,2,5] x, float[1,12,5] w, float[1,12,3] r, float[6,1,2,3] dy) => (float[6,2,5] dx, float[1,12,5] dw, "
     "float[1,12,3] dr) { dx, dw, dr = ai.halfstep.LstmGrad<hidden_size=3>(x, w, r, , , , , , dy) }",
     2.0 * 2 * 6 * 2 * 4 * 3 * (5 + 3), 4.0 * (60 + 60 + 36 + 36 + 60 + 60 + 36)},
    {"Gru",
     "(float[4,2,5] x, float[2,9,5] w, float[2,9,3] r) => (float[4,2,2,3] y) "
     "{ y = GRU<hidden_size=3, direction=\"bidirectional\">(x, w, r) }",
     2.0 * 2 * 4 * 2 * 3 * 3 * (5 + 3), 4.0 * (40 + 90 + 54 + 48)},
    // Scores 2*d, Softmax 5 and values 2*d for each pair of a query and a key.
    {"Attention",
     "(float[2,4,6,8] q, float[2,4,10,8] k, float[2,4,10,8] v) => (float[2,4,6,8] y) { y = Attention(q, k, v) }",
     2.0 * 4 * 6 * 10 * (2 * 8 + 5 + 2 * 8), 4.0 * (384 + 640 + 640 + 384)},
    {"MaxPool", "(float[1,2,8,8] x) => (float[1,2,4,4] y) { y = MaxPool<kernel_shape=[2,2], strides=[2,2]>(x) }",
     2.0 * 16 * 4, 4.0 * (128 + 32)},
    // One for each element, of the result where operands are broadcast, of the operand where it is reduced.
    {"Relu", "(float[3,5] x) => (float[3,5] y) { y = Relu(x) }", 15, 4.0 * 30},
    {"AddBroadcast", "(float[4,5] x, float[5] b) => (float[4,5] y) { y = Add(x, b) }", 20, 4.0 * (20 + 5 + 20)},
    {"ReduceSum", "(float[4,5] x) => (float[4,1] y) <int64[1] axes = {1}> { y = ReduceSum(x, axes) }", 20,
     4.0 * (20 + 4) + 8},
    {"SquareReadsItsOperandOnce", "(float[4,5] x) => (float[4,5] y) { y = Mul(x, x) }", 20, 4.0 * 40},
    {"Softmax", "(float[4,5] x) => (float[4,5] y) { y = Softmax(x) }", 5 * 20, 4.0 * 40},
    // A factor, a summand, what is added, and the activation.
    {"FusedBatchNormalization",
     "(float[2,3,4] x, float[3] s, float[3] b, float[3] m, float[3] v, float[2,3,4] r) => (float[2,3,4] y) "
     "{ y = ai.halfstep.FusedBatchNormalization<activation = \"Relu\">(x, s, b, m, v, r) }",
     4.0 * 24, 4.0 * (3 * 24 + 4 * 3)},
    // What only moves elements computes nothing; a view moves none.
    {"Transpose", "(float[4,5] x) => (float[5,4] y) { y = Transpose<perm=[1,0]>(x) }", 0, 4.0 * 40},
    {"Reshape", "(float[4,5] x) => (float[20] y) <int64[1] s = {20}> { y = Reshape(x, s) }", 0, 0},
    // Of a table the rows that are taken.
    {"Gather", "(float[1000,16] t, int64[3] i) => (float[3,16] y) { y = Gather(t, i) }", 0, 4.0 * (48 + 48) + 24},
    {"Slice", "(float[100,4] x) => (float[10,4] y) <int64[1] s = {0}, int64[1] e = {10}> { y = Slice(x, s, e) }", 0,
     4.0 * (40 + 40) + 16},
    // SGD without momentum: the gradient's factor, the rate, and the difference.
    {"Sgd",
     "(float[10] p, float[10] g, float lr, int64 step, bool apply, float factor) => (float[10] q) "
     "{ q = ai.halfstep.SgdStep(lr, step, apply, factor, p, g) }",
     3 * 10, 4.0 * 30 + 4 + 8 + 1 + 4},
};

class Costs : public ::testing::TestWithParam<CostCase> {};
INSTANTIATE_TEST_SUITE_P(All, Costs, ::testing::ValuesIn(kCases),
                         [](const auto& of) { return std::string(of.param.name); });

TEST_P(Costs, AreThoseOfTheFormula) {
  const Graph graph = graph_of(GetParam().text);
  ASSERT_EQ(graph.nodes.size(), 1U);
  const Cost cost = cost_of(graph, graph.nodes[0]);
  EXPECT_EQ(cost.flops, GetParam().flops);
  EXPECT_EQ(cost.bytes, GetParam().bytes);
}

TEST(FusedCosts, LeaveOutWhatStaysInside) {
  const Graph graph =
      graph_of("(float[4,5] x, float[4,5] z) => (float[4,5] y) { a = Relu(x) b = Neg(a) y = Add(b, z) }");
  const std::vector<std::size_t> both{0, 1}, all{0, 1, 2};
  EXPECT_EQ(cost_of(graph, both).flops, 40);
  EXPECT_EQ(cost_of(graph, both).bytes, 4 * 40);  // x and b
  EXPECT_EQ(cost_of(graph, all).flops, 60);
  EXPECT_EQ(cost_of(graph, all).bytes, 4 * 60);  // x, z and y
}

TEST(ComputedTypes, AreThoseOfTheFirstFloat) {
  EXPECT_EQ(computed_type(graph_of("(int64[3] i, float16[9,2] t) => (float16[3,2] y) { y = Gather(t, i) }"),
                          graph_of("(int64[3] i, float16[9,2] t) => (float16[3,2] y) { y = Gather(t, i) }").nodes[0]),
            DType::f16);
  const Graph shape = graph_of("(int64[3] x) => (int64[3] y) { y = Neg(x) }");
  EXPECT_EQ(computed_type(shape, shape.nodes[0]), DType::undefined);
}

}  // namespace
}  // namespace halfstep
