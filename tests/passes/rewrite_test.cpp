// Patterns: what matches, and what rules make of it. Each rule has a graph before and after it, and graphs that it must
// leave alone.
#include "passes/matcher.h"
#include "tests/onnx_io/node_lines.h"
#include "tests/passes/pass_testing.h"

namespace halfstep::testing {
namespace {

// Nodes, with inputs and outputs of the graph under their names.
std::string lines_of(const Graph& graph) {
  std::set<std::string> kept;
  for (const auto* ids : {&graph.inputs, &graph.outputs})
    for (const ValueId id : *ids) kept.insert(graph[id].name);
  return test::nodes_of(graph, kept);
}

TEST(Matcher, FindsPatterns) {
  const Pattern x = any("x");
  const Pattern two{.value = [](const Graph& graph, ValueId id) {
    return graph[id].is_constant() && to_doubles(graph[id].constant) == std::vector<double>{2};
  }};
  const Pattern exp{.ops = {"Exp"}, .operands = {x}}, exp_once{.ops = {"Exp"}, .once = true, .operands = {x}};
  const Pattern saturated{.ops = {"LeakyRelu"}, .operands = {x}, .node = [](const Graph&, const Node& node) {
                            return node.attributes.get_float("alpha", 0) == 0.5F;
                          }};
  struct Case {
    const char* what;
    Pattern pattern;
    const char* nodes;
    bool matches;
  };
  const Case cases[] = {
      {"an operator", {.ops = {"Mul"}, .operands = {exp, any("b")}}, "e = Exp(a) y = Mul(e, b)", true},
      {"another operator", {.ops = {"Mul"}, .operands = {exp, any("b")}}, "e = Abs(a) y = Mul(e, b)", false},
      {"one of two", {.ops = {"Add", "Mul"}, .operands = {exp}}, "e = Exp(a) y = Mul(e, b)", true},
      {"an own operator", {.ops = {"ai.halfstep.GeluGrad"}}, "y = ai.halfstep.GeluGrad(a, b)", true},
      {"the other domain", {.ops = {"GeluGrad"}}, "y = ai.halfstep.GeluGrad(a, b)", false},
      {"operands in order", {.ops = {"Mul"}, .operands = {exp, any("b")}}, "e = Exp(a) y = Mul(b, e)", false},
      {"in any order",
       {.ops = {"Mul"}, .commutes = true, .operands = {exp, any("b")}},
       "e = Exp(a) y = Mul(b, e)",
       true},
      {"one value twice", {.ops = {"Mul"}, .operands = {x, x}}, "y = Mul(a, a)", true},
      {"two for one", {.ops = {"Mul"}, .operands = {x, x}}, "y = Mul(a, b)", false},
      {"one value twice, behind the other order",
       {.ops = {"Mul"}, .commutes = true, .operands = {x, exp}},
       "e = Exp(a) y = Mul(e, a)",
       true},
      {"a use", {.ops = {"Mul"}, .operands = {exp_once, any("b")}}, "e = Exp(a) y = Mul(e, b)", true},
      {"more uses", {.ops = {"Mul"}, .operands = {exp_once, any("b")}}, "e = Exp(a) y = Mul(e, e)", false},
      {"a constant", {.ops = {"Pow"}, .operands = {x, two}}, "y = Pow(a, two)", true},
      {"another constant", {.ops = {"Pow"}, .operands = {x, two}}, "y = Pow(a, three)", false},
      {"no constant", {.ops = {"Pow"}, .operands = {x, two}}, "y = Pow(a, b)", false},
      {"an attribute", saturated, "y = LeakyRelu<alpha = 0.5>(a)", true},
      {"another attribute", saturated, "y = LeakyRelu<alpha = 0.25>(a)", false},
      {"an absent operand", {.ops = {"Clip"}, .operands = {x, any("low")}}, "y = Clip(a)", false},
  };
  for (const Case& c : cases) {
    const Graph graph = parse("(float[2] a, float[2] b) => (float[2] y) <float two = {2}, float three = {3}> { " +
                              std::string(c.nodes) + " }");
    EXPECT_EQ(match(graph, c.pattern, graph.nodes.size() - 1, [](const Match&) { return true; }), c.matches) << c.what;
  }
}

TEST(Matcher, KnowsValuesByTheirNames) {
  const Graph graph = parse("(float[2] a, float[2] b) => (float[2] y) { e = Exp(a) y = Sub(e, b) }");
  const Pattern pattern{.name = "all",
                        .ops = {"Sub"},
                        .operands = {{.name = "power", .ops = {"Exp"}, .operands = {any("x")}}, any("other")}};
  ASSERT_TRUE(match(graph, pattern, 1, [&](const Match& found) {
    EXPECT_EQ(found.root(), 1u);
    EXPECT_EQ(found["all"], graph.find("y"));
    EXPECT_EQ(found["power"], graph.find("e"));
    EXPECT_EQ(found["x"], graph.find("a"));
    EXPECT_EQ(found["other"], graph.find("b"));
    EXPECT_EQ(found["unknown"], kNoValue);
    return true;
  }));
}

TEST(Matcher, OffersEveryWayUntilOneIsTaken) {
  const Graph graph = parse("(float[2] a, float[2] b) => (float[2] y) { y = Add(a, b) }");
  const Pattern sum{.ops = {"Add"}, .commutes = true, .operands = {any("left"), any("right")}};
  std::vector<std::string> lefts;
  EXPECT_FALSE(match(graph, sum, 0, [&](const Match& found) {
    lefts.push_back(graph[found["left"]].name);
    return false;
  }));
  EXPECT_THAT(lefts, ::testing::ElementsAre("a", "b"));
}

const Fusion kGemm{.op = "Gemm", .fused = "FusedGemm", .activations = {"Relu", "Gelu"}, .widens = true};
const Fusion kMatMul{.op = "MatMul", .fused = "FusedMatMul", .widens = true};
const Fusion kConv{.op = "Conv", .fused = "FusedConv", .activations = {"Relu"}};
const Fusion kAddingConv{.op = "Conv", .fused = "FusedConv", .activations = {"Relu"}, .adds = true};
const Fusion kWeight{.op = "", .fused = "ConvGradWeight", .widens = true};

struct RewriteCase {
  Pass pass;
  const char* signature;
  const char* before;
  const char* after;  ///< nullptr: as before
};

TEST(Rewrite, MakesOfTheOneGraphTheOther) {
  const char* const product = "(float[2,3] x, float[3,4] w, float[4] b) => (float[2,4] y)";
  const char* const half = "(float16[2,3] x, float16[3,4] w) => (float[2,4] y)";
  const char* const image = "(float[1,2,4,4] x, float[2,2,1,1] w) => (float[1,2,n,m] y)";
  const char* const residual =
      "(float[1,2,4,4] x, float[2,2,1,1] w, float[1,2,4,4] z, float[1,2,1,1] c) => (float[1,2,n,m] y)";
  const char* const vector = "(float[2] x) => (float[2] y)";
  const char* const parameter = "(float[2] x) => (float[2] y) <float[2] w = {1, 2}>";
  const char* const draw = "(float[2] x) => (float[2] y) <float half = {0.5}, bool on = {1}, int64 counter = {3}>";
  const RewriteCase cases[] = {
      // Identities
      {separate_merged_parameters(), vector, "a = Identity(x) b = Identity(a) y = Relu(b)", "y = Relu(x)"},
      {separate_merged_parameters(), vector, "y = Identity(x)", nullptr},
      {separate_merged_parameters(), parameter, "v = Identity(w) u = Identity(v) a = Mul(x, v) y = Mul(a, u)",
       "a = Mul(x, w) y = Mul(a, w)"},
      // Equal nodes
      {eliminate_common_subexpressions(), vector, "a = Tanh(x) b = Tanh(x) y = Add(a, b)", "a = Tanh(x) y = Add(a, a)"},
      {eliminate_common_subexpressions(), vector, "a = Tanh(x) b = Tanh(x) c = Exp(a) d = Exp(b) y = Add(c, d)",
       "a = Tanh(x) c = Exp(a) y = Add(c, c)"},
      {eliminate_common_subexpressions(), vector, "a = Elu<alpha = 1.0>(x) b = Elu<alpha = 2.0>(x) y = Add(a, b)",
       nullptr},
      {eliminate_common_subexpressions(), draw, "a = Dropout(x, half, on) b = Dropout(x, half, on) y = Add(a, b)",
       nullptr},
      {eliminate_common_subexpressions(), draw, "a = Bernoulli(x) b = Bernoulli(x) y = Add(a, b)", nullptr},
      {eliminate_common_subexpressions(), draw,
       "a = ai.halfstep.PhiloxDropout(x, half, counter) b = ai.halfstep.PhiloxDropout(x, half, counter) y = Add(a, b)",
       nullptr},
      // MatMul and Add
      {canonicalize(), product, "p = MatMul(x, w) y = Add(p, b)", "y = Gemm(x, w, b)"},
      {canonicalize(), product, "p = MatMul(x, w) y = Add(b, p)", "y = Gemm(x, w, b)"},
      {canonicalize(), product, "p = MatMul(x, w) y = Add(p, p)", nullptr},
      {canonicalize(), "(float[1,3] x, float[3,4] w, float[2,3] z) => (float[2,4] y)",
       "p = MatMul(x, w) q = MatMul(z, w) y = Add(p, q)", "p = MatMul(x, w) y = Gemm(z, w, p)"},
      {canonicalize(), "(float[2,3] x, float[3,4] w, float[2,4] b) => (float[2,4] y)", "p = MatMul(x, w) y = Add(p, b)",
       nullptr},
      {canonicalize(),
       "(float[2,5,3] x, float[3,4] w, float[4] b) => (float[2,5,4] y) <int64[2] flat = {10, 3}, "
       "int64[3] whole = {2, 5, 4}>",
       "p = MatMul(x, w) y = Add(b, p)", "r = Reshape<allowzero = 1>(x, flat) g = Gemm(r, w, b) y = Reshape(g, whole)"},
      // A product with transposed weights
      {canonicalize(), "(float[2,3] x, float[4,3] w, float[4] b) => (float[2,4] y)",
       "t = Transpose<perm = [1, 0]>(w) p = MatMul(x, t) y = Add(p, b)", "y = Gemm<transB = 1>(x, w, b)"},
      {canonicalize(),
       "(float[2,5,3] x, float[4,3] w, float[4] b) => (float[2,5,4] y) <int64[2] flat = {10, 3}, "
       "int64[3] whole = {2, 5, 4}>",
       "t = Transpose(w) p = MatMul(x, t) y = Add(p, b)",
       "r = Reshape<allowzero = 1>(x, flat) g = Gemm<transB = 1>(r, w, b) y = Reshape(g, whole)"},
      {canonicalize(),
       "(float[1,2,3] x, float[1,2,1] z) => (float[1,2,1] y) <float[1,3] w = {1, 2, 3}, int64[2] flat = {2, 3}, "
       "int64[3] whole = {1, 2, 1}>",
       "t = Transpose(w) p = MatMul(x, t) y = Add(p, z)",
       "r = Reshape<allowzero = 1>(x, flat) g = Gemm<transB = 1>(r, w) p = Reshape(g, whole) y = Add(p, z)"},
      {canonicalize(), "(float[2,3] x) => (float[2,1] y) <float[1,3] w = {1, 2, 3}>",
       "t = Transpose(w) y = MatMul(x, t)", "y = Gemm<transB = 1>(x, w)"},
      {canonicalize(), "(float[2,3] x, float[4,3] k) => (float[2,4] y)", "t = Transpose(k) y = MatMul(x, t)", nullptr},
      // Gathers of every index
      {canonicalize(),
       "(float[2,3] x) => (float[3] y, float[3] z) <int64 zero = {0}, int64 one = {1}, "
       "int64[1] axes = {0}>",
       "y = Gather(x, one) z = Gather(x, zero)",
       "a, b = Split<axis = 0, num_outputs = 2>(x) y = Squeeze(b, axes) z = Squeeze(a, axes)"},
      // Slices that are all of it
      {canonicalize(),
       "(float[6,2] x) => (float[3,2] y, float[1,2] z, float[2,2] a) <int64[1] zero = {0}, int64[1] one = {1}, "
       "int64[1] three = {3}, int64[1] back = {-3}, int64[1] end = {99}, int64[3] sizes = {1, 2, 3}>",
       "y = Slice(x, back, end, zero) z = Slice(x, zero, one) a = Slice(x, one, three)",
       "z, a, y = Split<axis = 0>(x, sizes)"},
      {canonicalize(),
       "(float[2,6] x) => (float[2,2] y, float[2,4] z, float[2,6] e) <int64[2] zeros = {0, 0}, int64[2] left = {2, 2}, "
       "int64[1] two = {2}, int64[1] last = {-1}, int64[1] end = {6}, int64[2] sizes = {2, 4}>",
       "y = Slice(x, zeros, left) z = Slice(x, two, end, last) e = Exp(x)",
       "y, z = Split<axis = 1>(x, sizes) e = Exp(x)"},
      // Along one axis all of it, along another a part
      {canonicalize(),
       "(float[4,6] x) => (float[2,6] y, float[2,6] z, float[4,3] a) <int64[1] zero = {0}, int64[1] one = {1}, "
       "int64[1] two = {2}, int64[1] three = {3}, int64[1] four = {4}, int64[2] sizes = {2, 2}>",
       "y = Slice(x, zero, two) z = Slice(x, two, four) a = Slice(x, zero, three, one)",
       "y, z = Split<axis = 0>(x, sizes) a = Slice(x, zero, three, one)"},
      {canonicalize(),
       "(float[6] x) => (float[3] y, float[2] z) <int64[1] zero = {0}, int64[1] three = {3}, "
       "int64[1] five = {5}>",
       "y = Slice(x, zero, three) z = Slice(x, three, five)", nullptr},
      {canonicalize(),
       "(float[6] x) => (float[3] y, float[4] z) <int64[1] zero = {0}, int64[1] two = {2}, "
       "int64[1] three = {3}, int64[1] six = {6}>",
       "y = Slice(x, zero, three) z = Slice(x, two, six)", nullptr},
      {canonicalize(),
       "(float[6] x) => (float[3] y, float[3] z) <int64[1] zero = {0}, int64[1] one = {1}, "
       "int64[1] two = {2}, int64[1] six = {6}>",
       "y = Slice(x, zero, six, zero, two) z = Slice(x, one, six, zero, two)", nullptr},
      // Relu and MaxPool
      {canonicalize(), image, "r = Relu(x) y = MaxPool<kernel_shape = [2, 2]>(r)",
       "p = MaxPool<kernel_shape = [2, 2]>(x) y = Relu(p)"},
      {canonicalize(), image, "r = Relu(x) y = MaxPool<kernel_shape = [2, 2], pads = [1, 1, 1, 1]>(r)", nullptr},
      {canonicalize(), image, "r = Relu(x) p = MaxPool<kernel_shape = [1, 1]>(r) y = Add(p, r)", nullptr},
      // Two transpositions
      {fold_constants(), "(float[2,3,4] x) => (float[4,2,3] y)",
       "t = Transpose<perm = [1, 0, 2]>(x) y = Transpose<perm = [2, 1, 0]>(t)", "y = Transpose<perm = [2, 0, 1]>(x)"},
      // Activations
      {fuse({kGemm}), product, "a = Gemm(x, w, b) y = Relu(a)",
       "y = ai.halfstep.FusedGemm<activation = \"Relu\">(x, w, b)"},
      {fuse({kGemm}), product, "a = Gemm<alpha = 2.0>(x, w) y = Gelu(a)",
       "y = ai.halfstep.FusedGemm<activation = \"Gelu\", alpha = 2.0>(x, w)"},
      {fuse({kGemm}), product, "a = Gemm(x, w, b) y = Gelu<approximate = \"tanh\">(a)",
       "y = ai.halfstep.FusedGemm<activation = \"Gelu\", approximate = \"tanh\">(x, w, b)"},
      {fuse({kGemm}), product, "a = Gemm(x, w, b) r = Relu(a) y = Gelu(r)",
       "r = ai.halfstep.FusedGemm<activation = \"Relu\">(x, w, b) y = Gelu(r)"},
      {fuse({kGemm}), product, "a = Gemm(x, w, b) y = Tanh(a)", nullptr},
      {fuse({kGemm}), product, "a = Gemm(x, w, b) r = Relu(a) y = Add(a, r)", nullptr},
      // A convolution and what is added to it
      {fuse({kAddingConv}), residual, "a = Conv(x, w) s = Add(z, a) y = Relu(s)",
       "y = ai.halfstep.FusedConv<activation = \"Relu\">(x, w, , z)"},
      {fuse({kAddingConv}), residual, "a = Conv(x, w) p = Tanh(z) y = Add(a, p)",
       "p = Tanh(z) y = ai.halfstep.FusedConv(x, w, , p)"},
      {fuse({kAddingConv}), residual, "a = Conv(x, w) b = Conv(z, w) s = Add(a, b) y = Relu(s)",
       "b = Conv(z, w) y = ai.halfstep.FusedConv<activation = \"Relu\">(x, w, , b)"},
      {fuse({kAddingConv}), residual, "a = Conv(x, w) r = Relu(a) y = Add(r, z)",
       "r = ai.halfstep.FusedConv<activation = \"Relu\">(x, w) y = Add(r, z)"},
      {fuse({kAddingConv}), residual, "a = Conv(x, w) y = Add(a, c)", nullptr},
      {fuse({kAddingConv}), residual, "a = Conv(x, w) r = Tanh(a) y = Add(a, r)", nullptr},
      {fuse({kConv}), residual, "a = Conv(x, w) y = Add(a, z)", nullptr},
      {fuse({kConv}), product, "a = Gemm(x, w, b) y = Relu(a)", nullptr},
      {fuse({kConv}), image, "a = Conv(x, w) y = Gelu(a)", nullptr},
      {fuse({}), product, "a = Gemm(x, w, b) y = Relu(a)", nullptr},
      // Casts
      {fuse({kMatMul}), half, "a = MatMul(x, w) y = Cast<to = 1>(a)", "y = ai.halfstep.FusedMatMul<to = 1>(x, w)"},
      {fuse({kGemm}), half, "a = Gemm(x, w) r = Relu(a) y = Cast<to = 1>(r)",
       "y = ai.halfstep.FusedGemm<activation = \"Relu\", to = 1>(x, w)"},
      {fuse({kGemm}), "(float16[2,3] x, float16[3,4] w) => (float[1,2,4] y) <int64[3] s = {1, 2, 4}>",
       "a = Gemm(x, w) r = Reshape(a, s) y = Cast<to = 1>(r)",
       "a = ai.halfstep.FusedGemm<to = 1>(x, w) y = Reshape(a, s)"},
      {fuse({kGemm}), "(float16[2,3] x, float16[3,4] w) => (float[1,2,4] y, float16[1,2,4] r) <int64[3] s = {1, 2, 4}>",
       "a = Gemm(x, w) r = Reshape(a, s) y = Cast<to = 1>(r)", nullptr},
      {fuse({kGemm}), half, "a = Gemm(x, w) c = Cast<to = 1>(a) y = Relu(c)",
       "c = ai.halfstep.FusedGemm<to = 1>(x, w) y = Relu(c)"},
      {fuse({kMatMul}), "(float[2,3] x, float[3,4] w) => (float16[2,4] y)", "a = MatMul(x, w) y = Cast<to = 10>(a)",
       nullptr},
      {fuse({kWeight}), "(float16[1,2,4,4] dy, float16[1,2,4,4] x) => (float[2,2,1,1] dw)",
       "a = ai.halfstep.ConvGradWeight<weight_shape = [2, 2, 1, 1]>(dy, x) dw = Cast<to = 1>(a)",
       "dw = ai.halfstep.ConvGradWeight<weight_shape = [2, 2, 1, 1], to = 1>(dy, x)"},
      // What exporters write for Gelu
      {compose_gelu(), "(float[2,3] x) => (float[2,3] y) <float r = {1.41421356}, float one = {1}, float half = {0.5}>",
       "s = Div(x, r) e = Erf(s) p = Add(e, one) q = Mul(x, p) y = Mul(q, half)", "y = Gelu(x)"},
      {compose_gelu(), "(float[2,3] x) => (float[2,3] y) <float r = {1.5}, float one = {1}, float half = {0.5}>",
       "s = Div(x, r) e = Erf(s) p = Add(e, one) q = Mul(x, p) y = Mul(q, half)", nullptr},
  };
  for (const RewriteCase& c : cases) {
    SCOPED_TRACE(c.before);
    const auto text = [&](const char* nodes) { return std::string(c.signature) + " { " + nodes + " }"; };
    EXPECT_EQ(lines_of(run_passes(text(c.before), {c.pass})), lines_of(parse(text(c.after ? c.after : c.before))));
  }
}

}  // namespace
}  // namespace halfstep::testing
