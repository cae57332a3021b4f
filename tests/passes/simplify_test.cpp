// Passes that make a graph smaller without changing what it computes.
#include "tests/passes/pass_testing.h"

namespace halfstep {
namespace {

using namespace halfstep::testing;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

struct Row {
  const char* what;
  std::string text;
  std::vector<std::string> ops;
};

void expect_ops(const std::vector<Row>& rows, const Pass& pass) {
  for (const Row& row : rows) {
    SCOPED_TRACE(row.what);
    EXPECT_EQ(ops_of(run_passes(row.text, {pass})), row.ops);
  }
}

TEST(FoldConstants, RemovesWhatDoesNothing) {
  expect_ops(
      {
          {"identity", "(float[2] x) => (float[2] y) { a = Identity(x) y = Relu(a) }", {"Relu"}},
          {"cast", "(float[2] x) => (float[2] y) { a = Cast<to=1>(x) y = Relu(a) }", {"Relu"}},
          {"cast that casts", "(float[2] x) => (float16[2] y) { a = Cast<to=10>(x) y = Relu(a) }", {"Cast", "Relu"}},
          {"reshape",
           "(float[2,3] x) => (float[2,3] y) <int64[2] s = {2, -1}> { a = Reshape(x, s) y = Relu(a) }",
           {"Relu"}},
          {"transpose", "(float[2,3] x) => (float[2,3] y) { a = Transpose<perm=[0,1]>(x) y = Relu(a) }", {"Relu"}},
          {"two transposes",
           "(float[2,3] x) => (float[2,3] y) { a = Transpose(x) b = Transpose(a) y = Relu(b) }",
           {"Transpose", "Relu"}},
          {"transpose of an axis of 1",
           "(float[1,3] x) => (float[3,1] y) { a = Transpose(x) y = Relu(a) }",
           {"Reshape", "Relu"}},
          {"whole slice",
           "(float[4] x) => (float[4] y) <int64[1] b = {0}, int64[1] e = {9}> { a = Slice(x, b, e) y = Relu(a) }",
           {"Relu"}},
          {"reversing slice",
           "(float[4] x) => (float[4] y) <int64[1] b = {-1}, int64[1] e = {-9}, int64[1] axes = {0}, int64[1] step = "
           "{-1}> { a = Slice(x, b, e, axes, step) y = Relu(a) }",
           {"Slice", "Relu"}},
          {"empty pad", "(float[4] x) => (float[4] y) <int64[2] p = {0, 0}> { a = Pad(x, p) y = Relu(a) }", {"Relu"}},
          {"pad that shifts",
           "(float[4] x) => (float[4] y) <int64[2] p = {1, -1}> { a = Pad(x, p) y = Relu(a) }",
           {"Pad", "Relu"}},
          {"dropout that is off", "(float[4] x) => (float[4] y) { a = Dropout(x) y = Relu(a) }", {"Relu"}},
      },
      fold_constants());
}

// Those wrap; a Gemm need not, and the fused forms take floats alone.
TEST(Canonicalize, LeavesProductsOfIntegers) {
  expect_ops(
      {{"matrices",
        "(int32[2,2] a, int32[2,2] b) => (int32[2,2] y) <int32[2] c = {1, 2}> { p = MatMul(a, b) y = Add(p, c) }",
        {"MatMul", "Add"}},
       {"rows",
        "(int64[2,2,2] a, int64[2,2] b) => (int64[2,2,2] y) <int64[2] c = {1, 2}> "
        "{ p = MatMul(a, b) y = Add(p, c) }",
        {"MatMul", "Add"}}},
      canonicalize());
}

TEST(Fuse, LeavesProductsOfIntegers) {
  expect_ops({{"an activation",
               "(int32[2,2] a, int32[2,2] b) => (int32[2,2] y) { p = Gemm(a, b) y = Relu(p) }",
               {"Gemm", "Relu"}}},
             fuse({{.op = "Gemm", .fused = "FusedGemm", .activations = {"Relu"}, .widens = true}}));
}

TEST(FoldConstants, KeepsAnOutputsName) {
  const Graph graph = run_passes("(float[2] x) => (float[2] y) { y = Identity(x) }", {fold_constants()});
  EXPECT_THAT(ops_of(graph), ElementsAre("Identity"));
  EXPECT_THAT(names_of(graph, graph.outputs), ElementsAre("y"));
}

TEST(FoldConstants, FollowsShapesToTheReshapeTheyFeed) {
  // What exporters write for x.view(x.size(0), -1).
  const Graph graph = run_passes(
      "(float[N,3,4] x) => (float[N,12] y) <int64 zero = {0}, int64[1] axis = {0}, int64[1] rest = {-1}> {"
      " s = Shape(x) n = Gather(s, zero) n1 = Unsqueeze(n, axis) t = Concat<axis=0>(n1, rest) y = Reshape(x, t) }",
      {bind_shapes({.by_name = {}, .batch = 5}), fold_constants()});
  EXPECT_THAT(ops_of(graph), ElementsAre("Reshape"));
  EXPECT_EQ(graph[graph.outputs[0]].shape, (Shape{5, 12}));
}

TEST(FoldConstants, ComputesConstants) {
  const Graph graph =
      run_passes("() => (float[2] y) <float[2] a = {1, 2}, float[2] b = {3, 5}> { y = Add(a, b) }", {fold_constants()});
  EXPECT_THAT(graph.nodes, IsEmpty());
  EXPECT_THAT(to_doubles(graph[graph.outputs[0]].constant), ElementsAre(4, 7));
}

TEST(FoldConstants, DoesNotMakeHugeConstants) {
  EXPECT_THAT(ops_of(run_passes("(float[1] x) => (float[65536,4096] y) <int64[2] s = {65536, 4096}> {"
                                " a = ConstantOfShape(s) y = Add(a, x) }",
                                {fold_constants()})),
              ElementsAre("ConstantOfShape", "Add"));
}

TEST(FoldConstants, DrawsNoRandomNumbers) {
  EXPECT_THAT(ops_of(run_passes("() => (float[2] y) <float[2] x = {1, 2}, float r = {0.5}, bool on = {1}> {"
                                " y = Dropout(x, r, on) }",
                                {fold_constants()})),
              ElementsAre("Dropout"));
}

TEST(SeparateMergedParameters, GivesEachIdentityAConstantOfItsOwn) {
  const Graph graph =
      run_passes("(float[2] x) => (float[2] y) <float[2] w = {1, 2}> { w2 = Identity(w) a = Mul(x, w) y = Mul(a, w2) }",
                 {separate_merged_parameters()});
  EXPECT_THAT(ops_of(graph), ElementsAre("Mul", "Mul"));
  const Value &w = graph[graph.find("w")], &w2 = graph[graph.find("w2")];
  EXPECT_TRUE(w2.is_initializer);
  EXPECT_TRUE(identical(w.constant, w2.constant));
  EXPECT_NE(w.constant.raw(), w2.constant.raw());
}

TEST(SelectParameters, TakesFloatInitializersOfRankOneAndMore) {
  const Graph graph = run_passes(
      "(float[2] x) => (float[2] y) <float[2] w = {1, 2}, float s = {3}, int64[1] shape = {2}> {"
      " a = Mul(x, w) b = Mul(a, s) y = Reshape(b, shape) }",
      {select_parameters()});
  EXPECT_THAT(state_names(graph, StateRole::parameter), ElementsAre("w"));
  EXPECT_TRUE(graph[graph.find("s")].is_constant());
}

constexpr const char* kTwoLayers =
    "(float[2] x) => (float[2] y) <float[2] l1_w = {1, 2}, float[2] l2_w = {3, 4}> { a = Mul(x, l1_w) y = Mul(a, l2_w) "
    "}";

TEST(SelectParameters, FreezesAndChoosesByPattern) {
  EXPECT_THAT(state_names(run_passes(kTwoLayers, {select_parameters({.freeze = {"l1_*"}, .trainable = {}})}),
                          StateRole::parameter),
              ElementsAre("l2_w"));
  EXPECT_THAT(state_names(run_passes(kTwoLayers, {select_parameters({.freeze = {}, .trainable = {"l1*"}})}),
                          StateRole::parameter),
              ElementsAre("l1_w"));
}

TEST(SelectParameters, RefusesPatternsThatMatchNothingAndModelsWithNothingToTrain) {
  EXPECT_THAT(error_of(kTwoLayers, {select_parameters({.freeze = {"l3_*"}, .trainable = {}})}), HasSubstr("'l3_*'"));
  EXPECT_THAT(error_of(kTwoLayers, {select_parameters({.freeze = {"*"}, .trainable = {}})}),
              HasSubstr("all of them frozen"));
  EXPECT_THAT(error_of("(float[2] x) => (float[2] y) { y = Relu(x) }", {select_parameters()}),
              HasSubstr("none in the model"));
}

TEST(SelectParameters, LeavesRunningStatisticsAlone) {
  const Graph graph = run_passes(
      "(float[2,1] x) => (float[2,1] y) <float[1] s = {1}, float[1] b = {0}, float[1] m = {0}, float[1] v = {1}> {"
      " y = BatchNormalization(x, s, b, m, v) }",
      {select_parameters()});
  EXPECT_THAT(state_names(graph, StateRole::parameter), ElementsAre("s", "b"));
}

TEST(BindShapes, FillsInTheBatch) {
  const Graph graph = run_passes("(float[N,3] x) => (float[N,3] y) { y = Relu(x) }",
                                 {bind_shapes({.by_name = {}, .batch = 7}), fold_constants()});
  EXPECT_EQ(graph[graph.outputs[0]].shape, (Shape{7, 3}));
}

TEST(BindShapes, TellsWhatDoesNotFit) {
  const char* text = "(float[N,3] x) => (float[N,3] y) { y = Relu(x) }";
  EXPECT_THAT(error_of(text, {bind_shapes({.by_name = {{"x", {2, 4}}}})}),
              ::testing::AllOf(HasSubstr("[?, 3]"), HasSubstr("[2, 4]")));
  EXPECT_THAT(error_of(text, {bind_shapes({.by_name = {{"x", {2}}}})}), HasSubstr("[2]"));
  EXPECT_THAT(error_of(text, {bind_shapes({.by_name = {{"z", {2, 3}}}})}), HasSubstr("'z'"));
  EXPECT_THAT(error_of(text, {bind_shapes({})}), HasSubstr("every extent of input 'x'"));
}

TEST(Canonicalize, MakesGemmOfMatMulAndBias) {
  expect_ops({{"bias behind",
               "(float[2,3] x) => (float[2,4] y) <float[4] b = {1,2,3,4}, float[3,4] w = {1,2,3,4,5,6,7,8,9,1,2,3}> {"
               " a = MatMul(x, w) y = Add(a, b) }",
               {"Gemm"}},
              {"bias in front",
               "(float[2,3] x, float[3,4] w, float[1,4] b) => (float[2,4] y) { a = MatMul(x, w) y = Add(b, a) }",
               {"Gemm"}},
              {"a matrix, no bias",
               "(float[2,3] x, float[3,4] w, float[2,4] b) => (float[2,4] y) { a = MatMul(x, w) y = Add(a, b) }",
               {"MatMul", "Add"}},
              {"product read twice",
               "(float[2,3] x, float[3,4] w, float[4] b) => (float[2,4] y, float[2,4] z) {"
               " a = MatMul(x, w) y = Add(a, b) z = Relu(a) }",
               {"MatMul", "Add", "Relu"}},
              {"rows of several axes",
               "(float[5,2,3] x, float[3,4] w, float[4] b) => (float[5,2,4] y) { a = MatMul(x, w) y = Add(a, b) }",
               {"Reshape", "Gemm", "Reshape"}},
              {"rows of several axes, no bias",
               "(float[5,2,3] x, float[3,4] w, float[5,2,4] b) => (float[5,2,4] y) { a = MatMul(x, w) y = Add(a, b) }",
               {"MatMul", "Add"}},
              {"no rows",
               "(float[5,0,3] x, float[3,4] w, float[4] b) => (float[5,0,4] y) { a = MatMul(x, w) y = Add(a, b) }",
               {"MatMul", "Add"}},
              {"a batch of matrices",
               "(float[5,2,3] x, float[5,3,4] w, float[4] b) => (float[5,2,4] y) { a = MatMul(x, w) y = Add(a, b) }",
               {"MatMul", "Add"}}},
             canonicalize());
}

TEST(Canonicalize, SplitsWhatGathersTakeApart) {
  const std::string in = "(float[2,3,4] x) => (float[3,4] y, float[3,4] z) <int64 zero = {0}, int64 one = {1}> { ";
  const std::string apart = "(float[3,2] x) => (float[3] y, float[3] z) <int64 last = {-1}, int64 first = {0}> { ";
  expect_ops({{"both", in + "y = Gather(x, one) z = Gather(x, zero) }", {"Split", "Squeeze", "Squeeze"}},
              {"another axis, from the back",
               apart + "y = Gather<axis = 1>(x, last) z = Gather<axis = -1>(x, first) }",
               {"Split", "Squeeze", "Squeeze"}},
              {"one twice", in + "y = Gather(x, one) z = Gather(x, one) }", {"Gather", "Gather"}},
              {"read by another, too",
               in + "y = Gather(x, one) z = Gather(x, zero) w = Sin(x) q = ReduceSum(w) }",
               {"Gather", "Gather"}},
              {"one of two", in + "y = Gather(x, one) z = Sin(y) }", {"Gather", "Sin"}}},
             canonicalize());
}

TEST(Canonicalize, PutsMaxPoolBeforeRelu) {
  const std::string x = "(float[1,2,4,4] x) => (float[1,2,n,m] y";
  expect_ops({{"pool behind",
               x + ") { a = Sin(x) b = Relu(a) y = MaxPool<kernel_shape = [2, 2]>(b) }",
               {"Sin", "MaxPool", "Relu"}},
              {"two pools behind",
               x + ") { b = Relu(x) c = MaxPool<kernel_shape = [2, 2]>(b) y = MaxPool<kernel_shape = [2, 2]>(c) }",
               {"MaxPool", "MaxPool", "Relu"}},
              {"windows of padding alone",
               x + ") { b = Relu(x) y = MaxPool<kernel_shape = [2, 2], pads = [1, 1, 0, 0]>(b) }",
               {"Relu", "MaxPool"}},
              {"indices",
               x + ", int64[1,2,n,m] i) { b = Relu(x) y, i = MaxPool<kernel_shape = [2, 2]>(b) }",
               {"Relu", "MaxPool"}},
              {"read twice",
               x + ", float[1,2,4,4] z) { b = Relu(x) y = MaxPool<kernel_shape = [2, 2]>(b) z = Sin(b) }",
               {"Relu", "MaxPool", "Sin"}},
              {"behind a normalization",
               x + ") <float[2] p = {1, 2}> { a = BatchNormalization(x, p, p, p, p) b = Relu(a) "
                   "y = MaxPool<kernel_shape = [2, 2]>(b) }",
               {"BatchNormalization", "Relu", "MaxPool"}}},
             canonicalize());
}

TEST(Canonicalize, TheSameComesOutOfReluAndMaxPool) {
  const std::string text =
      "(float[1,1,2,6] x) => (float[1,1,1,3] y) { a = Relu(x) y = MaxPool<kernel_shape = [2, 2], strides = [2, 2]>(a) "
      "}";
  const Tensor x = Tensor::of<float>({-1, -2, 3, NAN, -INFINITY, -4, -3, -4, 5, 1, -INFINITY, 2}, {1, 1, 2, 6});
  for (const Pipeline& passes : {Pipeline{}, Pipeline{canonicalize()}}) {
    Compiled compiled(run_passes(text, passes));
    compiled.set("x", x);
    compiled.program->run();
    EXPECT_THAT(compiled.get("y"), ElementsAre(0, ::testing::IsNan(), 2));
  }
}

/// A model whose result is y, with the constants that Gelu is made of.
std::string gelu_text(const std::string& nodes) {
  return "(float[2,3] x, float[3] bias, float given) => (float[2,3] y) <float half = {0.5}, float one = {1}, "
         "float root = {1.4142135}, float inverse = {0.70710677}, float scale = {0.7978846}, float cubic = {0.044715}, "
         "float scaled_cubic = {0.03567741}, float two = {2}, float three = {3}> { " +
         nodes + " }";
}

TEST(ComposeGelu, FindsItHoweverItIsWritten) {
  const std::vector<std::string> gelu = {"Gelu"};
  expect_ops(
      {{"as PyTorch exports it",
        gelu_text("d = Div(x, root) e = Erf(d) a = Add(e, one) p = Mul(x, a) y = Mul(p, half)"), gelu},
       {"half of x first", gelu_text("h = Mul(half, x) m = Mul(x, inverse) e = Erf(m) a = Add(one, e) y = Mul(h, a)"),
        gelu},
       {"the distribution function first",
        gelu_text("m = Mul(x, inverse) e = Erf(m) h = Mul(e, half) a = Add(h, half) y = Mul(a, x)"), gelu},
       {"two terms", gelu_text("m = Mul(x, inverse) e = Erf(m) h = Div(x, two) p = Mul(h, e) y = Add(h, p)"), gelu},
       {"of a sum",
        gelu_text("s = Add(x, bias) d = Div(s, root) e = Erf(d) a = Add(e, one) p = Mul(s, a) y = Mul(p, half)"),
        {"Add", "Gelu"}},
       {"tanh of x plus a cubic",
        gelu_text("h = Mul(x, half) c = Pow(x, three) k = Mul(c, cubic) s = Add(x, k) u = Mul(s, scale) t = Tanh(u) "
                  "a = Add(t, one) y = Mul(h, a)"),
        gelu},
       {"tanh of x times a square",
        gelu_text("xx = Mul(x, x) k = Mul(cubic, xx) s = Add(one, k) xs = Mul(x, s) u = Mul(scale, xs) t = Tanh(u) "
                  "a = Add(one, t) p = Mul(x, a) y = Mul(half, p)"),
        gelu},
       {"tanh of two terms",
        gelu_text("xx = Pow(x, two) k = Mul(scaled_cubic, xx) s = Add(k, scale) u = Mul(x, s) t = Tanh(u) "
                  "a = Add(one, t) p = Mul(x, a) y = Mul(half, p)"),
        gelu}},
      compose_gelu());
}

TEST(ComposeGelu, LeavesWhatIsAnotherFunction) {
  expect_ops(
      {{"not halved",
        gelu_text("d = Div(x, root) e = Erf(d) a = Add(e, one) y = Mul(x, a)"),
        {"Div", "Erf", "Add", "Mul"}},
       {"of another width",
        gelu_text("d = Div(x, two) e = Erf(d) a = Add(e, one) p = Mul(x, a) y = Mul(p, half)"),
        {"Div", "Erf", "Add", "Mul", "Mul"}},
       {"times another value",
        gelu_text("d = Div(x, root) e = Erf(d) a = Add(e, one) p = Mul(bias, a) y = Mul(p, half)"),
        {"Div", "Erf", "Add", "Mul", "Mul"}},
       {"a factor that is computed",
        gelu_text("d = Div(x, given) e = Erf(d) a = Add(e, one) p = Mul(x, a) y = Mul(p, half)"),
        {"Div", "Erf", "Add", "Mul", "Mul"}},
       {"tanh alone", gelu_text("y = Tanh(x)"), {"Tanh"}},
       {"tanh of x scaled",
        gelu_text("h = Mul(x, half) u = Mul(x, scale) t = Tanh(u) a = Add(t, one) y = Mul(h, a)"),
        {"Mul", "Mul", "Tanh", "Add", "Mul"}},
       {"of more axes",
        "(float[2,3] x) => (float[1,2,3] y) <float root = {1.4142135}, float one = {1}, float[1,1,1] half = {0.5}> "
        "{ d = Div(x, root) e = Erf(d) a = Add(e, one) p = Mul(x, a) y = Mul(p, half) }",
        {"Div", "Erf", "Add", "Mul", "Mul"}},
       {"whose parts are read elsewhere",
        "(float[2,3] x) => (float[2,3] y, float[2,3] p) <float root = {1.4142135}, float one = {1}, float half = "
        "{0.5}> "
        "{ d = Div(x, root) e = Erf(d) a = Add(e, one) p = Mul(x, a) y = Mul(p, half) }",
        {"Div", "Erf", "Add", "Mul", "Mul"}}},
      compose_gelu());
}

TEST(RunPipeline, ShowsEveryStage) {
  std::vector<std::string> stages;
  run_pipeline(parse("(float[2] x) => (float[2] y) { y = Relu(x) }"), {fold_constants(), canonicalize()},
               [&](std::size_t stage, const std::string& pass, const Graph&) {
                 stages.push_back(std::to_string(stage) + " " + pass);
               });
  EXPECT_THAT(stages, ElementsAre("0 source", "1 fold_constants", "2 canonicalize"));
}

}  // namespace
}  // namespace halfstep
