#include <ctime>

#include <fmt/format.h>
#include <onnx/checker.h>

#include "graph/bodies.h"
#include "onnx_io/convert.h"
#include "tests/onnx_io/test_util.h"
#include <halfstep/onnx_io/load.h>

namespace halfstep {
namespace {

using test::error_of;
using test::parse_proto;
using testing::ElementsAre;
using testing::HasSubstr;

const std::string kHeader = "<ir_version: 10, opset_import: [\"\": 21]> ";

// The inner branch reads x and h of the graph two levels up.
const std::string kNested = kHeader + R"(m (bool c, float[2] x) => (float[2] y) { h = Relu(x)
    y = If (c) <
      then_branch = t () => (float[2] a) {
        a = If (c) <then_branch = tt () => (float[2] p) { p = Add(x, h) }, else_branch = te () => (float[2] q) { q = Neg(h) }>
      },
      else_branch = e () => (float[2] b) { b = Identity(x) }> })";

std::vector<std::string> names(const Graph& graph, std::span<const ValueId> ids) {
  std::vector<std::string> result;
  for (ValueId id : ids) result.push_back(id == kNoValue ? "-" : graph[id].name);
  return result;
}

TEST(FromProto, MakesReadsOfEnclosingGraphsCaptures) {
  const Graph graph = from_proto(parse_proto(kNested));
  verify(graph);
  const Node& outer = graph.nodes.at(1);
  EXPECT_THAT(names(graph, outer.captures()), testing::UnorderedElementsAre("c", "x", "h"));
  const Graph& branch = *bodies(outer).at(0);
  const Node& inner = branch.nodes.at(0);
  EXPECT_THAT(names(branch, inner.captures()), testing::UnorderedElementsAre("x", "h"));
}

TEST(ToProto, WritesNestedCapturesByTheNamesTheyHaveOutside) {
  Graph graph = from_proto(parse_proto(kNested));
  graph.rename(graph.find("h"), "renamed");
  graph.replace_uses(graph.find("x"), graph.find("renamed"));
  graph.edit(0)->inputs[0] = graph.find("x");
  // A name of the outermost graph that the innermost defines, too.
  graph.rename(graph.nodes[1].outputs[0], "p");
  const onnx::ModelProto written = to_proto(graph);
  onnx::checker::check_model(written, /*full_check=*/true);
  const auto& outer = written.graph().node(1);
  ASSERT_EQ(outer.input_size(), 1);
  const auto& inner = outer.attribute(0).g().node(0);
  const auto& add = inner.attribute(0).g().node(0);
  EXPECT_THAT(add.input(), ElementsAre("renamed", "renamed"));
  EXPECT_EQ(add.output(0), "p_1");
  const Graph again = from_proto(written);
  verify(again);
  EXPECT_THAT(names(again, again.nodes[1].captures()), testing::UnorderedElementsAre("c", "renamed"));
}

// A graph whose chains are fused has a body for each.
TEST(ToProto, TakesTimeThatGrowsWithTheNumberOfBodies) {
  const auto seconds_of = [](int bodies) {
    std::string text = kHeader + "m (bool c, float[2] x) => (float[2] y) { h0 = Relu(x)\n";
    for (int i = 1; i <= bodies; ++i)
      text += fmt::format(
          "h{0} = If (c) <then_branch = t{0} () => (float[2] a{0}) {{ a{0} = Neg(h{1}) }}, "
          "else_branch = e{0} () => (float[2] b{0}) {{ b{0} = Identity(h{1}) }}>\n",
          i, i - 1);
    const Graph graph = from_proto(parse_proto(text + fmt::format("y = Relu(h{}) }}", bodies)));
    const std::clock_t begin = std::clock();  // of the processor: other processes do not count
    for (int i = 0; i < 3; ++i) to_proto(graph);
    return static_cast<double>(std::clock() - begin) / CLOCKS_PER_SEC;
  };
  constexpr int kFew = 1000, kMany = 8 * kFew;
  EXPECT_LT(seconds_of(kMany), 24 * seconds_of(kFew)) << "8 times the bodies; 64 times where each costs as many";
}

TEST(ToProto, GivesCapturedResultsOfABodyANode) {
  Graph graph = from_proto(parse_proto(kNested));
  {
    const Graph::Edit node = graph.edit(1);
    change_bodies(*node, [](Graph& body) {
      if (body.nodes[0].op != "Identity") return;
      body.outputs = {body.nodes[0].inputs[0]};
      body.take_nodes();
    });
  }
  const onnx::ModelProto written = to_proto(graph);
  onnx::checker::check_model(written, /*full_check=*/true);
  const auto& branch = written.graph().node(1).attribute(1).g();
  ASSERT_EQ(branch.node_size(), 1);
  EXPECT_EQ(branch.node(0).op_type(), "Identity");
  EXPECT_EQ(branch.output(0).name(), branch.node(0).output(0));
}

TEST(Load, InfersTypesThroughBodies) {
  const Graph graph = parse_model(kHeader + R"(m (bool c, float[2,3] x, int64 n) => (float[2,3] y, float[z,k] all) {
      h = If (c) <then_branch = t () => (float[q,r] a) { a = Relu(x) }, else_branch = e () => (float[q,r] b) { b = Neg(x) }>
      y, all = Loop (n, c, h) <body = b (int64 i, bool go, float[q,r] s) => (bool again, float[q,r] t, float[r] last)
        { again = Identity(go) t = Mul(s, x) last = ReduceSum<keepdims=0>(t) }> })")
                          .graph;
  EXPECT_EQ(graph[graph.find("h")].shape, Shape({2, 3}));
  EXPECT_EQ(graph[graph.find("y")].shape, Shape({2, 3}));
  EXPECT_EQ(graph[graph.find("all")].shape, Shape({Shape::kUnknown}));
}

TEST(Load, ForgetsShapesThatALoopChanges) {
  const Graph graph = parse_model(kHeader + R"(m (float[1,3] x, int64 n) => (float[a,b] y) {
      y = Loop (n, , x) <body = b (int64 i, bool go, float[u,v] s) => (bool again, float[p,v] t)
        { again = Identity(go) t = Concat<axis=0>(s, s) }> })")
                          .graph;
  EXPECT_EQ(graph[graph.find("y")].shape, Shape({Shape::kUnknown, 3}));
}

TEST(Load, RefusesLoopsThatDoNotFit) {
  const struct {
    const char* body;
    const char* says;
  } cases[] = {
      {"(float[2] x, int64 n) => (float[2] y) { y = Loop (n, , x) <body = b (int64 i, bool go, float[2] s) => "
       "(bool again, double[2] t) { again = Identity(go) t = Cast<to=11>(s) }> }",
       "keep their type"},
      {"(float[2] x, bool c) => (float[2] y) { y = If (c) <then_branch = t () => (float[2] a) { a = Relu(x) }, "
       "else_branch = e () => (double[2] b) { b = Cast<to=11>(x) }> }",
       "the same types"},
      {"(float[2] x, float[3,2] s) => (float[2] y) { y = Scan <num_scan_inputs=1, body = b (float[2] p) => (float[2] "
       "q) "
       "{ q = Identity(p) }> (x, s) }",
       "a body with 2 inputs"},
  };
  for (const auto& c : cases) EXPECT_THAT(error_of([&] { parse_model(kHeader + "m " + c.body); }), HasSubstr(c.says));
}

TEST(Load, RefusesSubgraphsNestedWithoutEnd) {
  std::string text = "y = Relu (x)";
  for (int i = 0; i < 20; ++i) {
    const std::string n = std::to_string(i);
    text = "y" + n + " = If (c) <then_branch = t" + n + " () => (float[2] y) { " + text + " }, else_branch = e" + n +
           " () => (float[2] z) { z = Neg(x) }>";
    text.replace(0, 1 + n.size(), i == 19 ? "r" : "y");
  }
  EXPECT_THAT(error_of([&] { parse_model(kHeader + "m (bool c, float[2] x) => (float[2] r) { " + text + " }"); }),
              HasSubstr("nested at most 16 deep"));
}

TEST(Load, TurnsTheBatchAxisOfOldScansIntoAScan) {
  const Graph graph = parse_model(R"(<ir_version: 3, opset_import: ["": 8]> m (float[2,3] s, float[2,4,3] x) =>
      (float[2,3] y, float[2,4,3] all) { y, all = Scan <num_scan_inputs=1, body = b (float[3] p, float[3] q) =>
      (float[3] n, float[3] o) { n = Add(p, q) o = Identity(n) }> ( , s, x) })")
                          .graph;
  verify(graph);
  ASSERT_EQ(graph.nodes.size(), 1u);
  EXPECT_EQ(bodies(graph.nodes[0])[0]->nodes.at(0).op, "Scan");
  EXPECT_EQ(graph[graph.outputs[1]].shape, Shape({2, 4, 3}));
}

TEST(Load, ReplacesOperatorsByFunctionBodies) {
  // Functions calling functions.
  const Graph graph = parse_model(kHeader + R"(m (float[1,2,3] theta, int64[4] size) => (float[a,b,c,d] grid)
                  { grid = AffineGrid (theta, size) })")
                          .graph;
  verify(graph);
  for (const Node& node : graph.nodes) EXPECT_NE(node.op, "AffineGrid");
}

}  // namespace
}  // namespace halfstep
