// Integers at the ends of their types, extents of 0, and windows larger than what they slide over, on the reference
// executor. Where no comment says otherwise the values are ONNX Runtime's.
#include <string>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/ops/run_op.h"
#include <halfstep/base/error.h>
#include <halfstep/onnx_io/load.h>
#include <halfstep/ops/infer.h>

namespace halfstep {
namespace {

/// A graph whose input, if it has one, is 1, 2, 3, …: the first result.
Tensor result(const std::string& text, int opset = 28) {
  Graph graph = parse_model("<ir_version: 8, opset_import: [\"\": " + std::to_string(opset) + "]> g " + text).graph;
  infer_graph(graph);
  std::vector<Tensor> inputs;
  for (const ValueId in : graph.inputs) {
    Tensor& x = inputs.emplace_back(graph[in].dtype, graph[in].shape);
    for (std::int64_t i = 0; i < x.count(); ++i) x.data<float>()[i] = static_cast<float>(i + 1);
  }
  return run_graph(graph, inputs)[0];
}

struct Integers {
  const char* text;
  std::vector<std::int64_t> wanted;
};

TEST(Extremes, IntegersWrap) {
  const Integers rows[] = {
      {"() => (int32[1,1] y) <int32[1,2] a = {65536, 1}, int32[2,1] b = {65536, 0}, int32[1] c = {1}> "
       "{ y = Gemm(a, b, c) }",
       {1}},
      {"() => (int32[1,1] y) <int32[1,2] a = {65536, 1}, int32[2,1] b = {65536, 7}, int32[1] c = {5}> "
       "{ y = Gemm<alpha = -3.0, beta = 2.0>(a, b, c) }",
       {-11}},  // computed by hand
      {"() => (int64[1,1] y) <int64[1,1] a = {9007199254740993}, int64[1,1] b = {1}, int64[1] c = {2}> "
       "{ y = Gemm(a, b, c) }",
       {9007199254740995}},
      {"() => (int64[1,1] y) <int64[1,1] a = {3}, int64[1,1] b = {5}> { y = Gemm<alpha = 0.5>(a, b) }",
       {7}},  // of 7.5, as of every f64 that becomes an integer
      {"() => (int64[1] y) <int64[1] a = {9223372036854775807}, int64[1] b = {3}> "
       "{ y = Einsum<equation = \"i,i->i\">(a, b) }",
       {9223372036854775805}},
      {"() => (int64 y) <int64[2] a = {9223372036854775807, 2}> { y = Einsum<equation = \"i->\">(a) }",
       {-9223372036854775807}},
  };
  for (const Integers& row : rows) EXPECT_EQ(to_int64s(result(row.text)), row.wanted) << row.text;
}

TEST(Extremes, RangesHaveTheLengthOfTheirType) {
  const Integers rows[] = {
      {"() => (int64[n] y) <int64 a = {9007199254740992}, int64 b = {9007199254740995}, int64 d = {1}> "
       "{ y = Range(a, b, d) }",
       {9007199254740992, 9007199254740993, 9007199254740994}},
      {"() => (int64[n] y) <int64 a = {9007199254740995}, int64 b = {9007199254740992}, int64 d = {-2}> "
       "{ y = Range(a, b, d) }",
       {9007199254740995, 9007199254740993}},
      {"() => (int64[n] y) <int64 a = {4}, int64 b = {9}, int64 d = {-2}> { y = Range(a, b, d) }", {}},
  };
  for (const Integers& row : rows) EXPECT_EQ(to_int64s(result(row.text)), row.wanted) << row.text;
}

// From end to end of the type, which ONNX's shape inference cannot count.
TEST(Extremes, RangesMayCrossTheWholeType) {
  const auto number = [](std::int64_t value) { return Tensor::scalar(value); };
  const Tensor y =
      run_op("Range", kOnnxDomain, {number(INT64_MIN), number(INT64_MAX), number(std::int64_t{1} << 62)}, 1)[0];
  EXPECT_EQ(to_int64s(y), (std::vector<std::int64_t>{INT64_MIN, INT64_MIN / 2, 0, INT64_MAX / 2 + 1}));
}

TEST(Extremes, DiagonalsBesideTheMatrixAreEmpty) {
  const std::pair<const char*, std::vector<double>> rows[] = {
      {"-9223372036854775807", {0, 0, 0, 0, 0, 0}},
      {"9223372036854775807", {0, 0, 0, 0, 0, 0}},
      {"-2", {0, 0, 0, 0, 0, 0}},
      {"-1", {0, 0, 0, 1, 0, 0}},
      {"2", {0, 0, 1, 0, 0, 0}},
      {"3", {0, 0, 0, 0, 0, 0}},
  };
  for (const auto& [k, wanted] : rows)
    EXPECT_EQ(to_doubles(result("(float[2,3] x) => (float[2,3] y) { y = EyeLike<k = " + std::string(k) + ">(x) }")),
              wanted)
        << k;
}

TEST(Extremes, OldSoftmaxKeepsExtentsOf0) {
  const std::pair<const char*, Shape> rows[] = {
      {"(float[0,0,1] x) => (float[a,b,c] y) { y = Hardmax<axis = 0>(x) }", {0, 0, 1}},
      {"(float[2,1,0,2] x) => (float[a,b,c,d] y) { y = LogSoftmax<axis = 1>(x) }", {2, 1, 0, 2}},
      {"(float[2,2,3,0] x) => (float[a,b,c,d] y) { y = Softmax<axis = 2>(x) }", {2, 2, 3, 0}},
  };
  for (const auto& [text, shape] : rows) EXPECT_EQ(result(text, 11).shape(), shape) << text;
}

struct Windows {
  const char* text;
  Shape shape;
  std::vector<double> wanted;
};

TEST(Extremes, CeilModeCutsAWindowThatIsLargerThanTheInput) {
  const Windows rows[] = {
      {"(float[1,1,2] x) => (float[a,b,c] y) { y = MaxPool<kernel_shape = [4], strides = [3], ceil_mode = 1>(x) }",
       {1, 1, 1},
       {2}},
      {"(float[2,1,5,1] x) => (float[a,b,c,d] y) "
       "{ y = MaxPool<kernel_shape = [1, 3], strides = [1, 4], ceil_mode = 1>(x) }",
       {2, 1, 5, 1},
       {1, 2, 3, 4, 5, 6, 7, 8, 9, 10}},
      {"(float[2,2,1] x) => (float[a,b,c] y) { y = AveragePool<kernel_shape = [2], strides = [2], ceil_mode = 1>(x) }",
       {2, 2, 1},
       {1, 2, 3, 4}},
      {"(float[1,1,3,2] x) => (float[a,b,c,d] y) "
       "{ y = AveragePool<kernel_shape = [2, 3], strides = [2, 2], ceil_mode = 1>(x) }",
       {1, 1, 2, 1},
       {2.5, 5.5}},
      {"(float[1,1,2] x) => (float[a,b,c] y) { y = AveragePool"
       "<kernel_shape = [4], strides = [2], pads = [1, 0], ceil_mode = 1, count_include_pad = 1>(x) }",
       {1, 1, 1},
       {1}},
      {"(float[1,1,2] x) => (float[a,b,c] y) { y = LpPool<kernel_shape = [3], strides = [2], ceil_mode = 1>(x) }",
       {1, 1, 1},
       {2.236068}},
  };
  for (const Windows& row : rows) {
    const Tensor y = result(row.text);
    EXPECT_EQ(y.shape(), row.shape) << row.text;
    EXPECT_THAT(to_doubles(y), ::testing::Pointwise(::testing::DoubleNear(1e-5), row.wanted)) << row.text;
  }
}

// By a stride or more: ONNX Runtime gives no window at all.
TEST(Extremes, AKernelThatIsMuchLargerIsRefused) {
  for (const char* text :
       {"(float[1,1,2] x) => (float[a,b,c] y) { y = MaxPool<kernel_shape = [4], strides = [2], ceil_mode = 1>(x) }",
        "(float[1,1,2] x) => (float[a,b,c] y) { y = MaxPool<kernel_shape = [3], strides = [2]>(x) }"})
    EXPECT_THROW(result(text), Error) << text;
}

TEST(Extremes, TransposedConvolutionsOfTheSameExtents) {
  const Windows rows[] = {
      {"(float[1,1,2] x, float[1,1,3] w) => (float[a,b,c] y) "
       "{ y = ConvTranspose<strides = [2], output_padding = [1], auto_pad = \"SAME_UPPER\">(x, w) }",
       {1, 1, 4},
       {2, 5, 4, 6}},
      {"(float[1,1,2] x, float[1,1,3] w) => (float[a,b,c] y) "
       "{ y = ConvTranspose<strides = [2], output_padding = [1], auto_pad = \"SAME_LOWER\">(x, w) }",
       {1, 1, 4},
       {2, 5, 4, 6}},
      {"(float[1,1,2] x, float[1,1,2] w) => (float[a,b,c] y) "
       "{ y = ConvTranspose<strides = [3], auto_pad = \"SAME_UPPER\">(x, w) }",
       {1, 1, 5},
       {1, 2, 0, 2, 4}},
      {"(float[1,1,2] x, float[1,1,2] w) => (float[a,b,c] y) "
       "{ y = ConvTranspose<strides = [3], output_padding = [2], auto_pad = \"SAME_UPPER\">(x, w) }",
       {1, 1, 6},
       {1, 2, 0, 2, 4, 0}},
      {"(float[1,1,2] x, float[1,1,2] w) => (float[a,b,c] y) "
       "{ y = ConvTranspose<strides = [3], output_padding = [2], auto_pad = \"SAME_LOWER\">(x, w) }",
       {1, 1, 6},
       {2, 0, 2, 4, 0, 0}},
  };
  for (const Windows& row : rows) {
    const Tensor y = result(row.text);
    EXPECT_EQ(y.shape(), row.shape) << row.text;
    EXPECT_EQ(to_doubles(y), row.wanted) << row.text;
  }
}

}  // namespace
}  // namespace halfstep
