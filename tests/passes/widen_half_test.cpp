// Models that store or compute in half types become f32 models.
#include "graph/bodies.h"
#include "tests/passes/pass_testing.h"

namespace halfstep {
namespace {

using namespace halfstep::testing;
using ::testing::ElementsAre;

std::vector<std::string> types_of(const Graph& graph) {
  std::vector<std::string> types;
  for (ValueId id : graph.inputs) types.emplace_back(name_of(graph[id].dtype));
  for (const Node& node : graph.nodes)
    for (ValueId id : node.outputs) types.emplace_back(name_of(graph[id].dtype));
  return types;
}

TEST(WidenHalf, LeavesNoHalfAndNoIdleCast) {
  struct Case {
    const char* text;
    std::vector<std::string> ops, types;  // types: of inputs, then of the nodes' outputs
  };
  const Case cases[] = {
      {"(float16[2] x) => (float16[2] y) <float16[2] w = {15360, 16384}> { y = Mul(x, w) }", {"Mul"}, {"f32", "f32"}},
      {"(bfloat16[2] x) => (bfloat16[2] y) { y = Neg(x) }", {"Neg"}, {"f32", "f32"}},
      {"(float[2] x) => (float[2] y) { a = Cast<to = 10>(x) b = Cast<to = 16>(a) c = Neg(b) y = Cast<to = 1>(c) }",
       {"Neg"},
       {"f32", "f32"}},
      {"(float[2] x, float16 like) => (float[2] y) { a = CastLike(x, like) y = Neg(a) }",
       {"Neg"},
       {"f32", "f32", "f32"}},
      {"(float[2] x) => (float16[2] y) { y = Cast<to = 10>(x) }", {"Cast"}, {"f32", "f32"}},
      {"(double[2] x) => (float16[2] y) { a = Neg(x) y = Cast<to = 10>(a) }", {"Neg", "Cast"}, {"f64", "f64", "f32"}},
      {"(int64[1] n) => (float16[N] y) { y = ConstantOfShape<value = float16[1] {15360}>(n) }",
       {"ConstantOfShape"},
       {"i64", "f32"}},
      {"(float[2,2] x) => (bfloat16[2,2] y) { y = EyeLike<dtype = 16>(x) }", {"EyeLike"}, {"f32", "f32"}},
  };
  for (const Case& c : cases) {
    SCOPED_TRACE(c.text);
    Graph graph = run_passes(c.text, {widen_half()});
    EXPECT_EQ(ops_of(graph), c.ops);
    EXPECT_EQ(types_of(graph), c.types);
    EXPECT_EQ(graph[graph.outputs[0]].name, "y");
    for (const Value& value : graph.values) EXPECT_FALSE(is_half(value.dtype)) << value.name;
    infer_graph(graph);  // what the operators' schemas say of it is the same
    EXPECT_EQ(types_of(graph), c.types);
  }
}

TEST(WidenHalf, ReadsParametersAndStatisticsUnderTheirOwnNames) {
  const Graph graph = run_passes(
      "(float[2,1] x) => (float[2,1] y) <float16[1] s = {15360}, float16[1] b = {0}, float16[1] m = {0}, "
      "float16[1] v = {15360}> { s32 = Cast<to = 1>(s) b32 = Cast<to = 1>(b) m32 = Cast<to = 1>(m) "
      "v32 = Cast<to = 1>(v) y = BatchNormalization(x, s32, b32, m32, v32) }",
      {widen_half(), select_parameters(), to_training_mode()});
  EXPECT_THAT(state_names(graph, StateRole::parameter), ElementsAre("s", "b"));
  EXPECT_THAT(state_names(graph, StateRole::statistic), ElementsAre("m", "v"));
  for (const State& state : graph.states) EXPECT_EQ(state.initial.dtype(), DType::f32);
  EXPECT_THAT(to_doubles(graph.states[0].initial), ElementsAre(1));
}

TEST(WidenHalf, WidensBodies) {
  const Graph graph = run_passes(
      "(float16[2] x, bool c) => (float16[2] y) <float16[2] w = {15360, 16384}> { y = If(c) "
      "<then_branch = a () => (float16[2] p) { p = Mul(x, w) }, else_branch = b () => (float16[2] q) { q = Neg(x) }> }",
      {widen_half()});
  EXPECT_EQ(graph[graph.outputs[0]].dtype, DType::f32);
  for (const Graph* body : bodies(graph.nodes[0]))
    for (const Value& value : body->values) EXPECT_FALSE(is_half(value.dtype)) << value.name;
}

}  // namespace
}  // namespace halfstep
