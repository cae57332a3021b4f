// Elementwise operators, reductions, softmax and data movement against the reference kernels, on row-major operands and
// behind a convolution, whose layouts they take over.
#include <array>
#include <functional>
#include <set>
#include <string>

#include "executors/onednn/kernels/zero_flow.h"
#include "tests/executors/onednn_testing.h"
#include <halfstep/executors/memory_use.h>

namespace halfstep::testing {
namespace {

constexpr DType kFloats[] = {DType::f32, DType::bf16, DType::f16};
using Ints = std::vector<std::int64_t>;

struct UnaryCase {
  const char* op;
  double low = -2, high = 2;
  Attributes attributes = {};
};

TEST(OneDnnElementwise, UnaryAgreesWithReference) {
  const std::vector<UnaryCase> cases = {{"Relu"},
                                        {"LeakyRelu"},
                                        {"LeakyRelu", -2, 2, {{"alpha", 0.3F}}},
                                        {"Elu"},
                                        {"Neg"},
                                        {"Abs"},
                                        {"Sign"},
                                        {"Reciprocal", 0.5, 2},
                                        {"Sqrt", 0, 4},
                                        {"Exp"},
                                        {"Log", 0.5, 4},
                                        {"Erf"},
                                        {"Sigmoid"},
                                        {"HardSigmoid"},
                                        {"Tanh"},
                                        {"Softplus"},
                                        {"HardSwish"},
                                        {"Swish"},
                                        {"Gelu"},
                                        {"Gelu", -2, 2, {{"approximate", std::string("tanh")}}},
                                        {"Identity"}};
  for (DType dtype : kFloats) {
    for (const UnaryCase& c : cases) {
      SCOPED_TRACE(std::string(c.op) + std::string(name_of(dtype)));
      TestGraph t;
      Expr x = t.input(dtype, {3, 5, 7});
      t.output(t.b.op(c.op, {x}, c.attributes));
      expect_like_reference(t.graph, epsilon_of(dtype), 1, c.low, c.high);
    }
  }
}

TEST(OneDnnElementwise, BinaryBroadcastsLikeReference) {
  const std::pair<Shape, Shape> shapes[] = {{{4, 5}, {4, 5}},
                                            {{4, 5}, {5}},
                                            {{4, 5}, {}},
                                            {{}, {4, 5}},
                                            {{4, 1}, {1, 5}},
                                            {{2, 3, 4, 5}, {3, 1, 1}},
                                            {{2, 3, 4, 5}, {2, 3, 4, 1}},
                                            {{3, 1, 5}, {2, 3, 4, 5}},
                                            {{1}, {1}}};
  for (DType dtype : kFloats) {
    for (const char* op : {"Add", "Sub", "Mul", "Div", "Min", "Max", "Pow"}) {
      for (const auto& [a, b] : shapes) {
        SCOPED_TRACE(std::string(op) + a.to_string() + b.to_string() + std::string(name_of(dtype)));
        TestGraph t;
        Expr x = t.input(dtype, a), y = t.input(dtype, b);
        t.output(t.b.op(op, {x, y}));
        expect_like_reference(t.graph, epsilon_of(dtype), 1, 0.5, 2);
      }
    }
  }
}

TEST(OneDnnElementwise, GradientsClipWhereAndCastAgreeWithReference) {
  for (DType dtype : kFloats) {
    SCOPED_TRACE(name_of(dtype));
    TestGraph t;
    Expr a = t.input(dtype, {6, 35}), b = t.input(dtype, {6, 35});
    Expr low = t.b.scalar(-0.5, dtype), high = t.b.scalar(0.25, dtype);
    t.output(t.b.own("ReluGrad", {a, b}));
    t.output(t.b.op("Clip", {a, low, high}));
    t.output(t.b.op("Clip", {a, Expr(), high}));
    t.output(t.b.own("ClipGrad", {a, b, low, high}));
    t.output(t.b.own("GeluGrad", {a, b}));
    t.output(t.b.own("GeluGrad", {a, b}, {{"approximate", std::string("tanh")}}));
    t.output(t.b.op("Where", {t.b.op("Less", {a, b}), a, b}));
    for (DType to : {DType::f32, DType::bf16, DType::f16, DType::f64}) t.output(t.b.cast(a, to));
    expect_like_reference(t.graph, epsilon_of(dtype));
  }
}

TEST(OneDnnElementwise, IntegersAndDoublesRunInTheReference) {
  TestGraph t;
  Expr n = t.input(DType::i64, {3, 4}), one = t.b.constant(Tensor::scalar<std::int64_t>(1));
  t.output(t.b.op("Add", {n, one}));
  t.output(t.b.op("Add", {t.input(DType::i64, {}), one}));
  t.output(t.b.op("Sigmoid", {t.input(DType::f64, {3})}));
  expect_like_reference(t.graph, 1e-12);
  Compiled compiled(make_onednn_executor(), t.graph);
  const PlanEntry entry = plan_entry(*compiled.program, "Sigmoid");
  EXPECT_EQ(entry.kernel, "reference");
  EXPECT_EQ(entry.reason, "no SIMD kernel for f64");
}

// Read twice, it could not be written over.
TEST(OneDnnElementwise, AValueThatIsBothOperandsIsReadOnce) {
  for (const DType dtype : {DType::f32, DType::i64}) {
    TestGraph t;
    const Expr x = t.b.op("Add", {t.input(dtype, {100, 100}), t.input(dtype, {100, 100})});
    t.output(t.b.op("Sub", {t.b.op("Mul", {x, x}), t.input(dtype, {100, 100})}));
    expect_like_reference(t.graph, 1e-5);
    const Compiled compiled(make_onednn_executor(), t.graph);
    const auto use = memory_of(*compiled.program);
    ASSERT_TRUE(use);
    EXPECT_LT(use->arena, 2 * bytes_of(dtype, 100 * 100)) << name_of(dtype);
  }
}

TEST(OneDnnReduction, AgreesWithReference) {
  const Ints axes[] = {{}, {0}, {1}, {-1}, {0, 2, 3}, {2, 3}, {0, 1}, {1, 3}, {0, 2}, {0, 1, 2, 3}};
  for (DType dtype : kFloats) {
    for (const char* op : {"ReduceSum", "ReduceMean", "ReduceMax", "ReduceMin", "ReduceSumSquare"}) {
      TestGraph t;
      Expr x = t.input(dtype, {5, 6, 7, 9});
      for (const Ints& a : axes)
        for (std::int64_t keep : {0, 1})
          t.output(a.empty() ? t.b.op(op, {x}, {{"keepdims", keep}})
                             : t.b.op(op, {x, t.b.ints(a)}, {{"keepdims", keep}}));
      SCOPED_TRACE(std::string(op) + std::string(name_of(dtype)));
      expect_like_reference(t.graph, epsilon_of(dtype));
    }
  }
}

TEST(OneDnnSoftmax, AgreesWithReference) {
  for (DType dtype : kFloats) {
    SCOPED_TRACE(name_of(dtype));
    TestGraph t;
    Expr x = t.input(dtype, {6, 10, 3}), dy = t.input(dtype, {6, 10, 3});
    for (std::int64_t axis : {-1, 1, 0}) {
      const Attributes attributes = {{"axis", axis}};
      t.output(t.b.op("Softmax", {x}, attributes));
      t.output(t.b.op("LogSoftmax", {x}, attributes));
      t.output(t.b.own("SoftmaxGrad", {dy, x}, attributes));
      t.output(t.b.own("LogSoftmaxGrad", {dy, x}, attributes));
    }
    expect_like_reference(t.graph, epsilon_of(dtype), 1, -3, 3);
  }
}

TEST(OneDnnMovement, AgreesWithReference) {
  for (DType dtype : {DType::f32, DType::bf16, DType::f16, DType::i64}) {
    SCOPED_TRACE(name_of(dtype));
    TestGraph t;
    Expr x = t.input(dtype, {4, 5, 6});
    t.output(t.b.transpose(x, {2, 0, 1}));
    t.output(t.b.reshape(t.b.transpose(x, {0, 2, 1}), {24, 5}));
    t.output(t.b.op("Concat", {x, t.input(dtype, {4, 2, 6}), x}, {{"axis", std::int64_t{1}}}));
    t.output(t.b.op("Slice", {x, t.b.ints({1, -3}), t.b.ints({3, 100}), t.b.ints({0, 2})}));
    t.output(t.b.op("Slice", {x, t.b.ints({0}), t.b.ints({6}), t.b.ints({2}), t.b.ints({2})}));
    t.output(t.b.op("Slice", {x, t.b.ints({5}), t.b.ints({-10}), t.b.ints({2}), t.b.ints({-1})}));
    t.output(t.b.op("Expand", {t.input(dtype, {5, 1}), t.b.ints({4, 5, 6})}));
    t.output(t.b.op("Flatten", {x}, {{"axis", std::int64_t{2}}}));
    t.output(t.b.op("Unsqueeze", {x, t.b.ints({0, 4})}));
    t.output(t.b.op("Squeeze", {t.input(dtype, {1, 4, 1})}));
    expect_like_reference(t.graph, epsilon_of(dtype));
  }
}

// What follows a convolution lies in the convolution's layout.
TEST(OneDnnLayouts, AreTakenOverByWhatFollows) {
  for (std::int64_t channels : {6, 16, 32}) {  // 6 is padded in blocked layouts
    SCOPED_TRACE(channels);
    TestGraph t;
    Expr x = t.input(DType::f32, {4, 3, 14, 14}), w = t.input(DType::f32, {channels, 3, 3, 3});
    Expr y = t.b.op("Conv", {x, w});
    Expr z = t.b.op("Conv", {x, t.input(DType::f32, {channels, 3, 3, 3})});
    Expr per_channel = t.input(DType::f32, {channels, 1, 1});
    t.output(t.b.op("Relu", {y}));
    t.output(t.b.op("Sigmoid", {y}));
    t.output(y + z);
    t.output(y / (z * z + 1.0));
    t.output(y * per_channel);
    t.output(per_channel - y);
    t.output(y * 3.0);
    t.output(y + 1.0);
    t.output(1.0 - y);
    t.output(t.b.own("ReluGrad", {y, z}));
    t.output(t.b.reduce_sum(y, {0, 2, 3}, false));
    t.output(t.b.reduce_sum(y, {1}, true));
    t.output(t.b.op("GlobalAveragePool", {y}));
    t.output(t.b.op("Softmax", {y}, {{"axis", std::int64_t{1}}}));
    t.output(t.b.op("Concat", {y, z}, {{"axis", std::int64_t{1}}}));
    t.output(t.b.transpose(y, {0, 2, 3, 1}));
    t.output(t.b.transpose(t.b.transpose(y, {0, 2, 3, 1}), {3, 0, 1, 2}) * 2.0);
    t.output(t.b.reshape(y, {4, channels * 144}));
    Expr pooled = t.b.op("MaxPool", {y}, {{"kernel_shape", Ints{2, 2}}, {"strides", Ints{2, 2}}});
    t.output(t.b.op("Conv", {t.b.op("Relu", {pooled}), t.input(DType::f32, {8, channels, 3, 3})}));
    expect_like_reference(t.graph, 1e-5);

    TestGraph rounded;
    Expr v = rounded.b.op("Conv",
                          {rounded.input(DType::f32, {4, 3, 14, 14}), rounded.input(DType::f32, {channels, 3, 3, 3})});
    rounded.output(rounded.b.cast(v, DType::bf16));
    rounded.output(rounded.b.cast(v, DType::f16));
    expect_like_reference(rounded.graph, epsilon_of(DType::bf16));
  }
}

// What is said of all scalars holds for those that are tried.
TEST(ZeroFlow, SaysOfAFormulaWhatItsValuesShow) {
  std::set<std::string> kept;
  for (const ops::FormulaDef& def : ops::all_formulas()) {
    if (!onednn::keeps_zero_beside_scalar(def)) continue;
    kept.insert(std::string(def.row.op));
    for (const double s : {1e-300, 1e-30, 0.3, 1.0, 2.0, 3.0, 17.5, 1e30, 1e300})
      for (const double sign : {1.0, -1.0}) {
        const std::array<double, 4> arguments{0, s * sign, 0.25, 0.75};
        EXPECT_EQ(def.on_floats(arguments.data()), 0) << def.row.op << " " << s * sign;
      }
  }
  EXPECT_EQ(kept, (std::set<std::string>{"ClipGrad", "Div", "Mod", "Mul", "PRelu", "ReluGrad"}));
}

}  // namespace
}  // namespace halfstep::testing
