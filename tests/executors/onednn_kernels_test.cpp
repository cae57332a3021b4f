// Matrix products, convolutions, poolings and their gradients against the reference kernels.
#include <gmock/gmock.h>

#include "executors/onednn/kernels/product.h"
#include "tests/executors/onednn_testing.h"

namespace halfstep::testing {
namespace {

constexpr DType kFloats[] = {DType::f32, DType::bf16, DType::f16};
using Ints = std::vector<std::int64_t>;

struct ProductCase {
  const char* op;
  Shape a, b;
  Attributes attributes;
  Shape c{};  // Gemm's addend; a scalar stands for none
};

TEST(OneDnnMatmul, AgreesWithReference) {
  const std::vector<ProductCase> cases = {
      {"Gemm", {32, 784}, {784, 128}, {}, {128}},
      {"Gemm", {32, 784}, {128, 784}, {{"transB", std::int64_t{1}}}, {128}},
      {"Gemm", {17, 5}, {17, 33}, {{"transA", std::int64_t{1}}}, {1, 33}},
      {"Gemm", {5, 17}, {9, 5}, {{"transA", std::int64_t{1}}, {"transB", std::int64_t{1}}}},
      {"Gemm", {8, 16}, {16, 10}, {{"alpha", 0.5F}}, {8, 10}},
      {"Gemm", {8, 16}, {16, 10}, {{"alpha", 0.25F}}},
      {"Gemm", {8, 16}, {16, 10}, {{"beta", 0.5F}}, {10}},
      {"Gemm", {8, 16}, {16, 10}, {}, {8, 1}},
      {"Gemm", {1, 1}, {1, 1}, {}},
      {"MatMul", {2, 3, 4, 5}, {2, 3, 5, 6}, {}},
      {"MatMul", {2, 3, 4, 5}, {5, 6}, {}},
      {"MatMul", {4, 5}, {3, 5, 6}, {}},
      {"MatMul", {2, 1, 4, 5}, {3, 5, 6}, {}},
      {"MatMul", {5}, {5, 6}, {}},
      {"MatMul", {4, 5}, {5}, {}},
      {"MatMul", {5}, {5}, {}},
      {"MatMul", {7, 1}, {1, 9}, {}},
      {"MatMul", {70, 8, 8}, {70, 8, 8}, {}},
      {"MatMul", {5, 9, 32, 20}, {9, 20, 17}, {}},
  };
  for (DType dtype : kFloats) {
    for (const ProductCase& c : cases) {
      SCOPED_TRACE(std::string(c.op) + c.a.to_string() + c.b.to_string() + std::string(name_of(dtype)));
      TestGraph t;
      std::vector<Expr> in = {t.input(dtype, c.a), t.input(dtype, c.b)};
      if (c.c.rank() > 0) in.push_back(t.input(dtype, c.c));
      t.output(t.b.op(c.op, in, c.attributes));
      expect_like_reference(t.graph, epsilon_of(dtype));
    }
  }
}

// A call, or a matrix of a stack, costs oneDNN without AVX-512 more than the arithmetic of a small product.
TEST(OneDnnMatmul, SmallProductsAreSimdOnesWithoutAvx512) {
  struct Case {
    Shape a, b;
    bool small;
  };
  for (const Case& c :
       {Case{{70, 8, 8}, {70, 8, 8}, true}, Case{{32, 32}, {32, 32}, true}, Case{{6, 1, 64}, {6, 64, 64}, false},
        Case{{6, 64, 64}, {6, 64, 1}, false}, Case{{2, 100, 100}, {2, 100, 100}, false}}) {
    SCOPED_TRACE(c.a.to_string() + c.b.to_string());
    TestGraph t;
    Expr a = t.input(DType::f32, c.a), b = t.input(DType::f32, c.b);
    t.output(t.b.op("MatMul", {a, b}));
    const Compiled compiled(make_onednn_executor(), t.graph);
    EXPECT_EQ(plan_entry(*compiled.program, "MatMul").kernel == "simd", c.small && !onednn::has_avx512());
  }
}

TEST(OneDnnMatmul, FusedFormsAgreeWithReference) {
  for (DType dtype : kFloats) {
    for (std::int64_t to : {std::int64_t{0}, static_cast<std::int64_t>(DType::f32)}) {
      SCOPED_TRACE(std::string(name_of(dtype)) + " to " + std::to_string(to));
      TestGraph t;
      Expr a = t.input(dtype, {32, 50}), b = t.input(dtype, {20, 50}), c = t.input(dtype, {20});
      t.output(t.b.own("FusedGemm", {a, b, c},
                       {{"transB", std::int64_t{1}}, {"activation", std::string("Relu")}, {"to", to}}));
      Expr p = t.input(dtype, {3, 8, 5}), q = t.input(dtype, {3, 8, 7});
      t.output(t.b.own("FusedMatMul", {p, q}, {{"transA", std::int64_t{1}}, {"alpha", 2.F}, {"to", to}}));
      expect_like_reference(t.graph, to == 0 ? epsilon_of(dtype) : 1e-5);
    }
  }
}

struct ConvCase {
  Shape x, w;
  Attributes attributes;
};
const std::vector<ConvCase>& conv_cases() {
  static const std::vector<ConvCase> cases = {
      {{4, 1, 28, 28}, {6, 1, 5, 5}, {{"pads", Ints{2, 2, 2, 2}}}},
      {{4, 6, 14, 14}, {16, 6, 5, 5}, {}},
      {{2, 3, 15, 17}, {8, 3, 3, 3}, {{"strides", Ints{2, 2}}, {"pads", Ints{1, 1, 1, 1}}}},
      {{2, 16, 9, 9}, {32, 16, 1, 1}, {{"strides", Ints{2, 2}}}},
      {{2, 16, 9, 9}, {16, 1, 3, 3}, {{"group", std::int64_t{16}}, {"pads", Ints{1, 1, 1, 1}}}},
      {{2, 12, 9, 9}, {18, 4, 3, 3}, {{"group", std::int64_t{3}}}},
      {{2, 4, 11, 11}, {5, 4, 3, 3}, {{"dilations", Ints{2, 2}}, {"pads", Ints{2, 1, 0, 2}}}},
      {{2, 4, 20}, {5, 4, 3}, {{"pads", Ints{1, 1}}}},
      {{1, 2, 5, 6, 7}, {3, 2, 3, 3, 3}, {}},
      {{1, 32, 8, 8}, {32, 32, 3, 3}, {{"pads", Ints{1, 1, 1, 1}}}},
  };
  return cases;
}

TEST(OneDnnConvolution, AgreesWithReference) {
  for (DType dtype : kFloats) {
    for (const ConvCase& c : conv_cases()) {
      SCOPED_TRACE(c.x.to_string() + c.w.to_string() + std::string(name_of(dtype)));
      TestGraph t;
      Expr x = t.input(dtype, c.x), w = t.input(dtype, c.w), bias = t.input(dtype, {c.w[0]});
      t.output(t.b.op("Conv", {x, w, bias}, c.attributes));
      t.output(t.b.op("Conv", {x, w}, c.attributes));
      expect_like_reference(t.graph, epsilon_of(dtype));
    }
  }
}

TEST(OneDnnConvolution, TakesAutoPad) {
  for (const char* pad : {"SAME_UPPER", "SAME_LOWER", "VALID"}) {
    TestGraph t;
    t.output(t.b.op("Conv", {t.input(DType::f32, {2, 3, 10, 9}), t.input(DType::f32, {4, 3, 4, 3})},
                    {{"auto_pad", std::string(pad)}, {"strides", Ints{2, 2}}}));
    expect_like_reference(t.graph, 1e-5);
  }
}

TEST(OneDnnConvolution, AddsResidualAndRelu) {
  for (DType dtype : kFloats) {
    TestGraph t;
    Expr x = t.input(dtype, {2, 16, 8, 8}), w = t.input(dtype, {16, 16, 3, 3}), bias = t.input(dtype, {16});
    Expr residual = t.input(dtype, {2, 16, 8, 8});
    const Attributes attributes = {{"pads", Ints{1, 1, 1, 1}}, {"activation", std::string("Relu")}};
    Expr y = t.b.own("FusedConv", {x, w, bias, residual}, attributes);
    t.output(y);
    t.output(t.b.own("FusedConv", {x, w, bias}, attributes));
    // A residual that dies here is added to where it lies.
    Expr dying = t.b.op("Relu", {t.b.op("Conv", {x, w, bias}, {{"pads", Ints{1, 1, 1, 1}}})});
    t.output(t.b.own("FusedConv", {x, w, Expr(), dying}, attributes));
    expect_like_reference(t.graph, 2 * epsilon_of(dtype));
  }
}

Shape conv_output(const ConvCase& c) {
  TestGraph t;
  return t.b.op("Conv", {t.input(DType::f32, c.x), t.input(DType::f32, c.w)}, c.attributes).shape();
}

TEST(OneDnnConvolution, GradientsAgreeWithReference) {
  for (DType dtype : kFloats) {
    for (const ConvCase& c : conv_cases()) {
      SCOPED_TRACE(c.x.to_string() + c.w.to_string() + std::string(name_of(dtype)));
      TestGraph t;
      Expr dy = t.input(dtype, conv_output(c)), x = t.input(dtype, c.x), w = t.input(dtype, c.w);
      Attributes input = c.attributes, weight = c.attributes;
      input.set("kernel_shape", Ints(c.w.begin() + 2, c.w.end()));
      weight.set("kernel_shape", Ints(c.w.begin() + 2, c.w.end()));
      input.set("input_shape", c.x.dims());
      weight.set("weight_shape", c.w.dims());
      t.output(t.b.own("ConvGradInput", {dy, w}, input));
      Ints axes;
      for (std::size_t i = 0; i < c.x.rank(); ++i)
        if (i != 1) axes.push_back(static_cast<std::int64_t>(i));
      t.output(t.b.reduce_sum(dy, axes, false));
      t.output(t.b.own("ConvGradWeight", {dy, x}, weight));
      expect_like_reference(t.graph, epsilon_of(dtype));
      Compiled compiled(make_onednn_executor(), t.graph);
      EXPECT_EQ(plan_entry(*compiled.program, "ReduceSum").kernel, "fused");
    }
  }
}

struct PoolCase {
  Shape x;
  Attributes attributes;
};
const std::vector<PoolCase>& pool_cases() {
  static const std::vector<PoolCase> cases = {
      {{4, 6, 28, 28}, {{"kernel_shape", Ints{2, 2}}, {"strides", Ints{2, 2}}}},
      {{2, 16, 9, 9}, {{"kernel_shape", Ints{3, 3}}, {"strides", Ints{2, 2}}, {"pads", Ints{1, 1, 1, 1}}}},
      {{2, 3, 10, 7}, {{"kernel_shape", Ints{3, 2}}, {"strides", Ints{2, 2}}, {"ceil_mode", std::int64_t{1}}}},
      {{2, 5, 12}, {{"kernel_shape", Ints{3}}}},
  };
  return cases;
}

TEST(OneDnnPooling, AgreesWithReference) {
  for (DType dtype : kFloats) {
    for (const PoolCase& c : pool_cases()) {
      SCOPED_TRACE(c.x.to_string() + std::string(name_of(dtype)));
      TestGraph t;
      Expr x = t.input(dtype, c.x);
      t.output(t.b.op("MaxPool", {x}, c.attributes));
      t.output(t.b.op("AveragePool", {x}, c.attributes));
      Attributes with_pads = c.attributes;
      with_pads.set("count_include_pad", std::int64_t{1});
      t.output(t.b.op("AveragePool", {x}, with_pads));
      t.output(t.b.op("GlobalAveragePool", {x}));
      expect_like_reference(t.graph, epsilon_of(dtype));
    }
  }
}

TEST(OneDnnPooling, GradientsAgreeWithReference) {
  for (DType dtype : kFloats) {
    for (const PoolCase& c : pool_cases()) {
      SCOPED_TRACE(c.x.to_string() + std::string(name_of(dtype)));
      TestGraph t;
      Expr x = t.input(dtype, c.x);
      Expr y = t.b.op("MaxPool", {x}, c.attributes);
      Expr dy = t.input(dtype, y.shape());
      t.output(y);
      t.output(t.b.own("MaxPoolGrad", {dy, x}, c.attributes));  // without a forward node
      t.b.set_context("grad", t.graph.nodes.front().id);
      t.output(t.b.own("MaxPoolGrad", {dy, x}, c.attributes));
      Attributes average = c.attributes;
      average.set("input_shape", c.x.dims());
      t.output(t.b.own("AveragePoolGrad", {dy}, average));
      expect_like_reference(t.graph, epsilon_of(dtype));
    }
  }
}

// Channels in planes, in blocks and all together; windows that overlap and that do not.
TEST(OneDnnPooling, NaNIsAMaximum) {
  for (const std::int64_t channels : {1, 5, 8, 20, 33}) {
    for (const std::int64_t stride : {1, 3}) {
      for (DType dtype : kFloats) {
        SCOPED_TRACE(std::to_string(channels) + " channels, stride " + std::to_string(stride));
        const Attributes window = {{"kernel_shape", Ints{3, 2}}, {"strides", Ints{stride, stride}}};
        TestGraph t;
        Expr x = t.input(dtype, {2, channels, 7, 8}), y = t.b.op("MaxPool", {x}, window);
        Expr dy = t.input(dtype, y.shape());
        t.output(y);
        t.b.set_context("grad", t.graph.nodes.front().id);
        t.output(t.b.own("MaxPoolGrad", {dy, x}, window));
        Compiled reference(make_reference_executor(), t.graph), onednn(make_onednn_executor(), t.graph);
        Tensor values = random_tensor(DType::f32, x.shape(), 1);
        for (std::size_t i = 0; i < values.span<float>().size(); i += 5)
          values.span<float>()[i] = i % 2 ? NAN : -INFINITY;
        for (Compiled* side : {&reference, &onednn}) {
          set_input(*side->program, 0, convert(values, dtype));
          set_input(*side->program, 1, random_tensor(dtype, dy.shape(), 2));
          side->program->run();
        }
        for (std::size_t i : {0, 1})
          expect_close(onednn.program->output(i), reference.program->output(i), epsilon_of(dtype), i ? "dx" : "y");
        EXPECT_EQ(plan_entry(*onednn.program, "MaxPool").kernel, "simd");
      }
    }
  }
}

// ONNX Runtime and PyTorch give NaN. oneDNN's own Relu gives 0.
TEST(OneDnnFusion, NaNPassesRelu) {
  const std::vector<float> specials = {NAN, INFINITY, -INFINITY, -1, 2, -0.0F};
  for (DType dtype : kFloats) {
    for (const bool convolution : {false, true}) {
      TestGraph t;
      const Shape shape = convolution ? Shape{1, 1, 1, 6} : Shape{6, 1},
                  one = convolution ? Shape{1, 1, 1, 1} : Shape{1, 1};
      t.output(t.b.own(convolution ? "FusedConv" : "FusedGemm", {t.input(dtype, shape), t.input(dtype, one)},
                       {{"activation", std::string("Relu")}}));
      Compiled onednn(make_onednn_executor(), t.graph);
      set_input(*onednn.program, 0, convert(Tensor::of(specials, shape), dtype));
      set_input(*onednn.program, 1, convert(Tensor::of<float>({1}, one), dtype));
      onednn.program->run();
      EXPECT_THAT(to_doubles(onednn.program->output(0)),
                  ::testing::ElementsAre(::testing::IsNan(), INFINITY, 0, 0, 2, 0))
          << name_of(dtype) << (convolution ? " convolution" : " product");
    }
  }
}

TEST(OneDnnPooling, TheFirstOfEqualMaximaTakesTheGradient) {
  for (DType dtype : kFloats) {
    TestGraph t;
    Expr x = t.b.op("Relu", {t.input(dtype, {2, 16, 8, 8}) - 0.9});  // mostly zeros
    Expr y = t.b.op("MaxPool", {x}, {{"kernel_shape", Ints{2, 2}}, {"strides", Ints{2, 2}}});
    Expr dy = t.input(dtype, y.shape());
    t.b.set_context("grad", t.graph.nodes.back().id);
    t.output(t.b.own("MaxPoolGrad", {dy, x}, {{"kernel_shape", Ints{2, 2}}, {"strides", Ints{2, 2}}}));
    expect_like_reference(t.graph, epsilon_of(dtype));
  }
}

}  // namespace
}  // namespace halfstep::testing
