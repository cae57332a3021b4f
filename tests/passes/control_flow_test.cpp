#include "passes/simplify/control_flow.h"

#include "base/machine_memory.h"
#include "graph/bodies.h"
#include "ops/control_flow/unroll.h"
#include "tests/passes/pass_testing.h"

namespace halfstep::testing {
namespace {

using ::testing::AllOf;
using ::testing::Each;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::Not;

// Outputs of the graph as it is, each of which the inlined graph must give, too.
std::vector<std::vector<double>> outputs_of(const Graph& graph, const std::vector<Tensor>& inputs) {
  Compiled compiled(graph);
  for (std::size_t i = 0; i < inputs.size(); ++i) compiled.set(graph[graph.inputs[i]].name, inputs[i]);
  compiled.program->run();
  compiled.program->run();  // the second run must not see the first's
  std::vector<std::vector<double>> results;
  for (std::size_t i = 0; i < graph.outputs.size(); ++i) results.push_back(to_doubles(compiled.program->output(i)));
  return results;
}

// What the reference executor says against running the graph; "" when nothing. Input "x" is left as it is.
std::string error_of_run(const std::string& text, const Tensor& trips) {
  try {
    Compiled compiled(parse(text));
    compiled.set("n", trips);
    compiled.program->run();
  } catch (const Error& error) {
    return error.what();
  }
  return {};
}

Tensor vector_of(std::vector<float> values) { return Tensor::of(values); }
Tensor matrix_of(std::vector<float> values, std::int64_t rows) {
  const auto columns = static_cast<std::int64_t>(values.size()) / rows;
  return Tensor::of(values, Shape{rows, columns});
}

struct Case {
  const char* name;
  std::string text;
  std::vector<Tensor> inputs;
  std::vector<std::vector<double>> expected;
  bool inlined = true;
};

std::vector<Case> cases() {
  const std::string sum_loop =
      "<body = b (int64 i, bool go, float[2] s) => (bool again, float[2] t, float[2] u) "
      "{ again = Identity(go) t = Add(s, x) u = Mul(t, s) }> }";
  return {
      {"IfTrue",
       "(float[2] x) => (float[2] y) <bool c = {1}> { y = If (c) <then_branch = t () => (float[2] a) { a = Neg(x) }, "
       "else_branch = e () => (float[2] b) { b = Relu(x) }> }",
       {vector_of({1, -2})},
       {{-1, 2}}},
      {"IfData",
       "(float[2] x, bool c) => (float[2] y) { y = If (c) <then_branch = t () => (float[2] a) { a = Identity(x) }, "
       "else_branch = e () => (float[2] b) { b = Relu(x) }> }",
       {vector_of({1, -2}), Tensor::scalar(false)},
       {{1, 0}},
       false},
      {"LoopCounted",
       "(float[2] x) => (float[2] y, float[3,2] all) <int64 n = {3}, bool c = {1}> { y, all = Loop (n, c, x) " +
           sum_loop,
       {vector_of({1, 2})},
       {{4, 8}, {2, 8, 6, 24, 12, 48}}},
      {"LoopWithoutCondition",
       "(float[2] x) => (float[2] y, float[2,2] all) <int64 n = {2}> { y, all = Loop (n, , x) " + sum_loop,
       {vector_of({1, 2})},
       {{3, 6}, {2, 8, 6, 24}}},
      {"LoopOfNoTrips",
       "(float[2] x) => (float[2] y, float[z,2] all) <int64 n = {0}> { y, all = Loop (n, , x) " + sum_loop,
       {vector_of({1, 2})},
       {{1, 2}, {}}},
      {"LoopThatNeverStarts",
       "(float[2] x) => (float[2] y, float[z,2] all) <int64 n = {5}, bool c = {0}> { y, all = Loop (n, c, x) " +
           sum_loop,
       {vector_of({1, 2})},
       {{1, 2}, {}}},
      {"LoopCountedByData",
       "(float[2] x, int64 n) => (float[2] y, float[z,2] all) { y, all = Loop (n, , x) " + sum_loop,
       {vector_of({1, 2}), Tensor::scalar(std::int64_t{1})},
       {{2, 4}, {2, 8}},
       false},
      {"LoopEndedByItsCounter",
       "(float[2] x) => (int64 k, float[2] y) <int64 zero = {0}, int64 one = {1}, int64 five = {5}> { k, y = Loop ( , "
       ", "
       "zero, x) <body = b (int64 i, bool go, int64 k_in, float[2] s) => (bool again, int64 k_out, float[2] t) "
       "{ k_out = Add(k_in, one) again = Less(k_out, five) t = Add(s, x) }> }",
       {vector_of({1, 2})},
       {{5}, {6, 12}}},
      {"LoopEndedByData",
       "(float x, float limit) => (float y) { y = Loop ( , , x) <body = b (int64 i, bool go, float s) => (bool again, "
       "float t) { t = Add(s, s) again = Less(t, limit) }> }",
       {Tensor::scalar(1.0f), Tensor::scalar(20.0f)},
       {{32}},
       false},
      {"LoopThatGrows",
       "(float[1] x, int64 n) => (float[k] y) { y = Loop (n, , x) <body = b (int64 i, bool go, float[k] s) => (bool "
       "again, "
       "float[m] t) { again = Identity(go) t = Concat<axis=0>(s, x) }> }",
       {vector_of({7}), Tensor::scalar(std::int64_t{2})},
       {{7, 7, 7}},
       false},
      {"LoopCountedByAShape",
       "(float[3,2] x) => (float[2] y) <int64 axis = {0}, float[2] zero = {0.0, 0.0}> { shape = Shape(x) "
       "n = Gather<axis=0>(shape, axis) y = Loop (n, , zero) <body = b (int64 i, bool go, float[2] s) => "
       "(bool again, float[2] t) { again = Identity(go) row = Gather<axis=0>(x, i) t = Add(s, row) }> }",
       {matrix_of({1, 2, 3, 4, 5, 6}, 3)},
       {{9, 12}}},
      {"Nested",
       "(float[2] x) => (float[2] y) <int64 n = {2}, int64 m = {3}> { y = Loop (n, , x) <body = b (int64 i, bool go, "
       "float[2] s) => (bool again, float[2] t) { again = Identity(go) t = Loop (m, go, s) <body = bb (int64 j, bool "
       "on, "
       "float[2] r) => (bool still, float[2] q) { still = Identity(on) q = Add(r, x) }> }> }",
       {vector_of({1, 2})},
       {{7, 14}}},
      {"IfInALoop",
       "(float[2] x) => (float[2] y) <int64 n = {3}, int64 one = {1}> { y = Loop (n, , x) <body = b (int64 i, bool go, "
       "float[2] s) => (bool again, float[2] t) { again = Identity(go) c = Equal(i, one) t = If (c) <then_branch = p "
       "() "
       "=> (float[2] a) { a = Neg(s) }, else_branch = q () => (float[2] d) { d = Add(s, x) }> }> }",
       {vector_of({1, 2})},
       {{-1, -2}}},
      {"Scan",
       "(float[2] s, float[3,2] x) => (float[2] y, float[3,2] all) { y, all = Scan <num_scan_inputs = 1, body = b "
       "(float[2] p, float[2] q) => (float[2] sum, float[2] out) { sum = Add(p, q) out = Mul(sum, q) }> (s, x) }",
       {vector_of({1, 1}), matrix_of({1, 2, 3, 4, 5, 6}, 3)},
       {{10, 13}, {2, 6, 15, 28, 50, 78}}},
      {"ScanBackwardsAlongOtherAxes",
       "(float s, float[2] t, float[2,3] x, float[3,2] z) => (float y, float[2] u, float[2,3] all) { y, u, all = Scan "
       "<num_scan_inputs = 2, scan_input_axes = [1, 0], scan_input_directions = [1, 0], scan_output_axes = [-1], "
       "scan_output_directions = [1], body = b (float p, float[2] r, float[2] q, float[2] w) => "
       "(float n, float[2] v, float[2] out) { n = Neg(p) v = Add(r, q) out = Sub(v, w) }> (s, t, x, z) }",
       {Tensor::scalar(1.0f), vector_of({0, 0}), matrix_of({1, 2, 3, 4, 5, 6}, 2), matrix_of({0, 0, 1, 1, 2, 2}, 3)},
       {{-1}, {6, 15}, {4, 4, 3, 13, 10, 6}}},
  };
}

TEST(ControlFlow, RunsTheSameInlinedAndNot) {
  for (const Case& c : cases()) {
    SCOPED_TRACE(c.name);
    const Graph source = parse(c.text);
    EXPECT_EQ(outputs_of(source, c.inputs), c.expected);
    const Graph inlined = run_pipeline(source, {bind_shapes({}), inline_control_flow()});
    const std::vector<std::string> ops = ops_of(inlined);
    const bool any =
        std::any_of(ops.begin(), ops.end(), [](auto& op) { return op == "If" || op == "Loop" || op == "Scan"; });
    EXPECT_EQ(any, !c.inlined);
    EXPECT_EQ(outputs_of(inlined, c.inputs), c.expected);
  }
}

// Operators of the body of the graph's only control flow.
std::vector<std::string> ops_of_body(const Graph& graph, std::size_t body) {
  for (const Node& node : graph.nodes)
    if (has_body(node)) return ops_of(*bodies(node).at(body));
  ADD_FAILURE() << "no node with a body";
  return {};
}

TEST(FoldConstants, EntersBodiesThatStay) {
  const std::string text =
      "(float[2,3] x, int64 n) => (float[2,3] y) <int64[1] last = {-1}, int64 one = {1}> { y = Loop (n, , x) <body = b "
      "(int64 i, bool go, float[2,3] s) => (bool again, float[2,3] t) { again = Identity(go) shape = Shape(x) "
      "k = Gather<axis=0>(shape, one) m = Reshape(k, last) two = Sub(m, one) wide = Cast<to=1>(two) t = Add(s, wide) "
      "}> }";
  const std::vector<Tensor> inputs{matrix_of({1, 2, 3, 4, 5, 6}, 2), Tensor::scalar(std::int64_t{2})};
  const Graph folded = run_passes(text, {fold_constants()});
  EXPECT_THAT(ops_of_body(folded, 0), ElementsAre("Identity", "Add"));
  const Node* loop = node_of(folded, "Loop");
  ASSERT_NE(loop, nullptr);
  EXPECT_EQ(loop->capture_count, 0u);
  EXPECT_EQ(outputs_of(folded, inputs), outputs_of(parse(text), inputs));
}

TEST(FoldConstants, LeavesLargeConstantsOutsideOfBodies) {
  const Graph folded = run_passes("(float[2] x, bool c) => (float[1,1024] y) <float[1,1024] w = {" +
                                      [] {
                                        std::string ones = "1.0";
                                        for (int i = 1; i < 1024; ++i) ones += ", 1.0";
                                        return ones;
                                      }() +
                                      "}> { y = If (c) <then_branch = t () => (float[1,1024] a) { a = Neg(w) }, "
                                      "else_branch = e () => (float[1,1024] b) { b = Abs(w) }> }",
                                  {fold_constants()});
  EXPECT_THAT(ops_of_body(folded, 0), ElementsAre("Neg"));
  EXPECT_THAT(ops_of_body(folded, 1), ElementsAre("Abs"));
}

TEST(FoldConstants, LeavesWhatFailsInABranchToTheRunThatTakesIt) {
  const std::string text =
      "(float[2] x, bool c) => (float[2] y) <float[2] table = {1.0, 2.0}, int64[2] far = {7, 8}> { y = If (c) "
      "<then_branch = t () => (float[2] a) { a = Gather<axis=0>(table, far) }, "
      "else_branch = e () => (float[2] b) { b = Neg(x) }> }";
  const Graph folded = run_passes(text, {fold_constants()});
  EXPECT_EQ(outputs_of(folded, {vector_of({1, 2}), Tensor::scalar(false)}),
            (std::vector<std::vector<double>>{{-1, -2}}));
  EXPECT_THROW(outputs_of(folded, {vector_of({1, 2}), Tensor::scalar(true)}), Error);
}

// Of a voice-activity detector's branches, one for each sampling rate, one does not fit the frame at hand.
TEST(If, LeavesABranchThatDoesNotFitToTheRunThatTakesIt) {
  const std::string body =
      "<then_branch = t () => (float[1] a) { a = MatMul(x, four) }, else_branch = e () => (float[1] b) "
      "{ b = MatMul(x, six) }> }";
  const std::string constants =
      "<float[4,1] four = {1, 1, 1, 1}, float[6,1] six = {1, 1, 1, 1, 1, 1}, int64 fast = {16000}> { ";
  const std::string text = "(float[N] x, int64 rate) => (y) " + constants + "c = Equal(rate, fast) y = If (c) " + body;
  const auto bound = [&](std::int64_t n) {
    return run_passes(text, {bind_shapes({.by_name = {{"x", Shape{n}}, {"rate", Shape{}}}}), fold_constants(),
                             inline_control_flow()});
  };
  const Tensor fast = Tensor::scalar(std::int64_t{16000}), slow = Tensor::scalar(std::int64_t{8000});
  const Tensor four = vector_of({1, 2, 3, 4}), six = vector_of({1, 2, 3, 4, 5, 6});
  EXPECT_THAT(outputs_of(bound(4), {four, fast})[0], ElementsAre(10));
  EXPECT_THAT(outputs_of(bound(6), {six, slow})[0], ElementsAre(21));
  for (const auto& [x, rate] : {std::pair(four, slow), std::pair(six, fast)}) {
    std::string error;
    try {
      outputs_of(bound(x.count()), {x, rate});
    } catch (const Error& e) {
      error = e.what();
    }
    EXPECT_THAT(error, AllOf(HasSubstr("MatMul"), HasSubstr("in a branch of an If that was taken")));
  }
  EXPECT_THAT(
      testing::error_of(text, {bind_shapes({.by_name = {{"x", Shape{5}}, {"rate", Shape{}}}}), fold_constants()}),
      HasSubstr("MatMul"))
      << "neither fits";
  verify(bound(4));
  // The shape may be the model's own.
  const std::string fixed = "(float[4] x, bool c) => (y) " + constants + "y = If (c) " + body;
  EXPECT_THAT(outputs_of(parse(fixed), {four, Tensor::scalar(true)})[0], ElementsAre(10));
}

TEST(If, OfAKnownConditionNeedsTheBranchTaken) {
  const auto text = [](const char* condition) {
    return std::string("(float[4] x) => (y) <bool c = {") + condition +
           "}, float[3] three = {1, 2, 3}> { y = If (c) <then_branch = t () => (float[4] a) { a = Neg(x) }, "
           "else_branch = e () => (float[4] b) { b = Add(x, three) }> }";
  };
  EXPECT_THAT(ops_of(run_passes(text("1"), {inline_control_flow()})), ElementsAre("Neg"));
  EXPECT_THROW(parse(text("0")), Error);
}

TEST(Loop, RefusesACountOrConditionThatIsNotOneElement) {
  const char* body =
      "<body = b (int64 i, bool go, float[2] s) => (bool again, float[2] t) { again = Identity(go) t = Add(s, s) }> }";
  struct Counted {
    const char* constants;
    const char* operands;
    const char* error;
  };
  const Counted cases[] = {
      {"int64[2] n = {3, 4}", "n, , x", "one element in a trip count"},
      {"int64[0] n = {}", "n, , x", "one element in a trip count"},
      {"int64 n = {3}, bool[2] c = {1, 1}", "n, c, x", "one element in a condition"},
  };
  for (const Counted& c : cases)
    EXPECT_THAT(error_of("(float[2] x) => (float[2] y) <" + std::string(c.constants) + "> { y = Loop (" + c.operands +
                             ") " + body,
                         {bind_shapes({}), inline_control_flow()}),
                HasSubstr(c.error))
        << c.constants;
}

// Nothing of that size is ever allocated: every iteration gives the same elements again.
TEST(Loop, MayNotCollectMoreThanAPartOfTheMemory) {
  const std::string text =
      "(float[4194304] x, int64 n) => (float[k,4194304] all) { y, all = Loop (n, , x) <body = b (int64 i, bool go, "
      "float[4194304] s) => (bool go, float[4194304] s, float[4194304] s) { }> }";
  const std::string error = error_of_run(text, Tensor::scalar(std::int64_t{1} << 40));
  EXPECT_THAT(error, HasSubstr("a quarter of this machine's memory"));
  EXPECT_THAT(error, HasSubstr("iterations of Loop"));
}

TEST(Loop, MayNotGrowWhatItCarriesBeyondAPartOfTheMemory) {
  constexpr std::int64_t kElements = std::int64_t{1} << 24;
  const auto memory = static_cast<std::int64_t>(machine_memory());
  const std::int64_t count = memory / 4 / (kElements * 4) + 2;  // one is large from the start
  std::string results = "y0", initial = "x", carried = "float[k] s0", next = "float[k] s0";
  for (std::int64_t i = 1; i < count; ++i) {
    results += ", y" + std::to_string(i);
    initial += ", small";
    carried += ", float[k] s" + std::to_string(i);
    next += ", float[k] s0";
  }
  const std::string error =
      error_of_run("(float[" + std::to_string(kElements) +
                       "] x, int64 n) => (float[k] y0) <float[1] small = {1.0}> { " + results + " = Loop (n, , " +
                       initial + ") <body = b (int64 i, bool go, " + carried + ") => (bool go, " + next + ") { }> }",
                   Tensor::scalar(std::int64_t{1}));
  EXPECT_THAT(error, HasSubstr("a quarter of this machine's memory"));
  EXPECT_THAT(error, HasSubstr("after 1 iterations"));
}

TEST(InlineControlFlow, NamesCopiesAfterNodeAndIteration) {
  const Graph graph = run_passes(
      "(float[2] x) => (float[2] y) <int64 n = {2}> { [steps] y = Loop (n, , x) <body = b (int64 i, bool go, float[2] "
      "s) "
      "=> (bool again, float[2] t) { again = Identity(go) [add] t = Add(s, x) }> }",
      {inline_control_flow()});
  std::vector<std::string> names;
  for (const Node& node : graph.nodes)
    if (node.op == "Add") names.push_back(node.name);
  EXPECT_THAT(names, ElementsAre("steps.0.add", "steps.1.add"));
  EXPECT_EQ(graph[graph.outputs[0]].name, "y");
}

TEST(InlineControlFlow, LeavesLoopsThatWouldUnrollTooFar) {
  const Graph graph = run_passes(
      "(float[2] x) => (float[2] y) <int64 n = {1000000000}> { y = Loop (n, , x) <body = b (int64 i, bool go, "
      "float[2] s) => (bool again, float[2] t) { again = Identity(go) t = Add(s, x) }> }",
      {inline_control_flow()});
  const Node* loop = node_of(graph, "Loop");
  ASSERT_NE(loop, nullptr);
  EXPECT_THAT(reason_not_inlined(graph, *loop), HasSubstr("1000000000 iterations"));
}

// Three loops in each other, none of them long: 27 million additions.
TEST(InlineControlFlow, StopsWhereLoopsInLoopsMultiply) {
  const auto loop = [](const std::string& result, const std::string& from, const std::string& id,
                       const std::string& inner, const std::string& next) {
    return result + " = Loop (n, , " + from + ") <body = b" + id + " (int64 i" + id + ", bool go" + id +
           ", float[2] s" + id + ") => (bool a" + id + ", float[2] " + next + ") { a" + id + " = Identity(go" + id +
           ") " + inner + " }>";
  };
  const std::string innermost = loop("t2", "s2", "3", "t3 = Add(s3, x)", "t3");
  const std::string middle = loop("t1", "s1", "2", innermost, "t2");
  const Graph graph =
      run_passes("(float[2] x) => (float[2] y) <int64 n = {300}> { " + loop("y", "x", "1", middle, "t1") + " }",
                 {inline_control_flow()});
  EXPECT_LT(graph.values.size(), 1'000'000u);
  const Node* left = node_of(graph, "Loop");
  ASSERT_NE(left, nullptr);
  EXPECT_THAT(reason_not_inlined(graph, *left), HasSubstr("values without its iterations"));
}

Pass own_loss() { return attach_loss({.loss = "output", .output = {}}); }

TEST(Differentiate, SaysWhyControlFlowStands) {
  const std::string text =
      "(float[2] x, bool c) => (float loss) <float[2] w = {1.0, 2.0}> { y = If (c) <then_branch = t () => (float[2] a) "
      "{ a = Mul(x, w) }, else_branch = e () => (float[2] b) { b = Sub(x, w) }> loss = ReduceSum<keepdims=0>(y) }";
  EXPECT_THAT(error_of(text, {select_parameters(), inline_control_flow(), own_loss(), differentiate()}),
              HasSubstr("its condition depends on data"));
}

// Gradients through inlined control flow against central differences of the graph that runs it as it is.
TEST(Differentiate, GoesThroughInlinedControlFlow) {
  const struct {
    const char* name;
    std::string text;
  } models[] = {
      {"Scan",
       "(double[3,2] x) => (double loss) <double[2] w = {0.5, -0.25}, double[2] s = {0.0, 0.0}> { h, all = Scan "
       "<num_scan_inputs = 1, scan_output_directions = [1], body = b (double[2] p, double[2] q) => (double[2] n, "
       "double[2] out) { m = Mul(p, w) d = Add(m, q) n = Tanh(d) out = Mul(n, q) }> (s, x) t = "
       "ReduceSum<keepdims=0>(all) "
       "r = ReduceSum<keepdims=0>(h) loss = Add(t, r) }"},
      {"LoopWithAnInitializerInItsBody",
       "(double[3,2] x) => (double loss) <int64 n = {3}> { first = ReduceSum<keepdims=0>(x) h = Loop (n, , first) "
       "<body "
       "= b (int64 i, bool go, double s) => (bool again, double t) <double[2] w = {0.5, -0.25}> { again = Identity(go) "
       "row = Gather<axis=0>(x, i) p = Mul(row, w) k = ReduceSum<keepdims=0>(p) m = Add(s, k) t = Sin(m) }> "
       "loss = Identity(h) }"},
      {"If",
       "(double[3,2] x) => (double loss) <bool c = {0}, double[2] w = {0.5, -0.25}> { y = If (c) <then_branch = t () "
       "=> "
       "(double[3,2] a) { a = Neg(x) }, else_branch = e () => (double[3,2] b) { v = Mul(x, w) b = Tanh(v) }> "
       "loss = ReduceSum<keepdims=0>(y) }"},
  };
  const Tensor x = Tensor::of<double>({0.1, -0.4, 0.7, 0.2, -0.3, 0.9}, Shape{3, 2});
  for (const auto& model : models) {
    SCOPED_TRACE(model.name);
    Graph source = run_passes(model.text, {hoist_initializers(), select_parameters()});
    ASSERT_FALSE(source.states.empty());
    Graph graph = run_pipeline(source, {bind_shapes({}), inline_control_flow(), own_loss(), differentiate()});
    for (const State& state : graph.states) graph.outputs.push_back(state.gradient);
    const std::vector<std::vector<double>> results = outputs_of(graph, {x});
    constexpr double kStep = 1e-6;
    for (std::size_t p = 0; p < source.states.size(); ++p) {
      for (std::size_t i = 0; i < 2; ++i) {
        double difference = 0;
        for (double sign : {1.0, -1.0}) {
          Graph moved = source;
          moved.states[p].initial = moved.states[p].initial.clone();
          moved.states[p].initial.data<double>()[i] += sign * kStep;
          difference += sign * outputs_of(moved, {x}).at(0).at(0) / (2 * kStep);
        }
        EXPECT_NEAR(results.at(p + 1).at(i), difference, 1e-7);
      }
    }
  }
}

}  // namespace
}  // namespace halfstep::testing
