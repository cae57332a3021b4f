#include "graph/bodies.h"

#include <gmock/gmock.h>

#include <halfstep/base/error.h>

namespace halfstep {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

std::shared_ptr<const Graph> branch(std::string_view op, const std::vector<std::string>& reads) {
  auto body = std::make_shared<Graph>();
  body->name = op;
  for (const std::string& name : reads) body->captures.push_back(body->add_value(name, DType::f32, {2}));
  const std::size_t n = body->add_node(op, "", body->captures, 1, {}, "inner");
  body->outputs = body->nodes[n].outputs;
  return body;
}

// y = If(c) { Add(a, b) } else { Neg(a) }, with a = Relu(x), b = Tanh(x)
struct Branching {
  Graph graph;
  ValueId c, x, a, b;

  Branching() {
    c = graph.add_input("c", DType::boolean, {});
    x = graph.add_input("x", DType::f32, {2});
    a = graph.nodes[graph.add_node("Relu", "", {x}, 1, {}, "a")].outputs[0];
    b = graph.nodes[graph.add_node("Tanh", "", {x}, 1, {}, "b")].outputs[0];
    graph.add_node("If", "", {c}, 1,
                   {{"then_branch", branch("Add", {"p", "q"})}, {"else_branch", branch("Neg", {"p"})}}, "if");
    const Graph::Edit node = open();
    const auto inner = bodies(*node);
    set_captures(*node, {{{a, inner[0]->captures[0]}, {b, inner[0]->captures[1]}}, {{a, inner[1]->captures[0]}}});
    graph.outputs = node->outputs;
  }

  const Node& node() const { return graph.nodes.back(); }
  Graph::Edit open() { return graph.edit(graph.nodes.size() - 1); }
};

std::string verify_message(const Graph& graph) {
  try {
    verify(graph);
  } catch (const Error& error) {
    return error.what();
  }
  return "valid";
}

TEST(Captures, AreInputsAfterTheOperands) {
  Branching g;
  EXPECT_EQ(verify_message(g.graph), "valid");
  EXPECT_THAT(g.node().inputs, ElementsAre(g.c, g.a, g.b));
  EXPECT_THAT(g.node().operands(), ElementsAre(g.c));
  EXPECT_THAT(g.node().captures(), ElementsAre(g.a, g.b));
  EXPECT_EQ(bodies(g.node())[1]->captures.size(), 2u);
  EXPECT_EQ(bodies(g.node())[1]->captures[1], kNoValue);
}

TEST(Captures, CountAsReads) {
  Branching g;
  EXPECT_THAT(g.graph.users(g.b), ElementsAre(Use{2, 2}));
  g.graph.remove_dead();
  EXPECT_EQ(g.graph.nodes.size(), 3u);
  std::vector<Node> nodes = g.graph.take_nodes();
  for (const std::size_t i : {2u, 1u, 0u}) g.graph.append(std::move(nodes[i]));
  EXPECT_THAT(verify_message(g.graph), HasSubstr("nodes come after what they read"));
  g.graph.sort();
  EXPECT_EQ(verify_message(g.graph), "valid");
  g.graph.replace_uses(g.b, g.a);
  EXPECT_THAT(g.node().captures(), ElementsAre(g.a, g.a));
  g.graph.rename(g.a, "other");
  EXPECT_EQ(verify_message(g.graph), "valid");
}

TEST(Captures, OfNodeAndBodyMustCorrespond) {
  Branching g;
  Graph broken = g.graph;
  broken.edit(2)->capture_count = 1;
  EXPECT_THAT(verify_message(broken), HasSubstr("captures of a node and of its bodies correspond"));
  broken = g.graph;
  broken[g.a].dtype = DType::f16;
  EXPECT_THAT(verify_message(broken), HasSubstr("a captured value has one type"));
  broken = g.graph;
  {
    const Graph::Edit node = broken.edit(2);
    change_bodies(*node, [](Graph& body) { body.edit(0)->inputs[0] = body.add_value("stray"); });
  }
  EXPECT_THAT(verify_message(broken), HasSubstr("'stray'"));
}

TEST(Captures, AreDroppedWhenNoBodyReadsThem) {
  Branching g;
  const auto without_b = [](Graph& body) {
    if (body.captures[1] != kNoValue) body.replace_uses(body.captures[1], body.captures[0]);
  };
  {
    const Graph::Edit node = g.open();
    change_bodies(*node, without_b);
    drop_unread_captures(*node);
  }
  EXPECT_THAT(g.node().inputs, ElementsAre(g.c, g.a));
  EXPECT_EQ(g.node().capture_count, 1u);
  EXPECT_EQ(verify_message(g.graph), "valid");
}

TEST(Captures, CanBeAdded) {
  Branching g;
  const ValueId inside = [&] {
    const Graph::Edit node = g.open();
    return add_capture(g.graph, *node, 1, g.x);
  }();
  EXPECT_THAT(g.node().captures(), ElementsAre(g.a, g.b, g.x));
  EXPECT_THAT(bodies(g.node())[1]->captures.back(), inside);
  EXPECT_EQ(bodies(g.node())[0]->captures.back(), kNoValue);
  EXPECT_EQ(verify_message(g.graph), "valid");
}

TEST(HoistConstants, MovesThemOutAsCaptures) {
  Branching g;
  const auto add_weight = [](Graph& body) {
    const ValueId w = body.add_constant("w", Tensor::of<float>({1, 2}));
    body[w].is_initializer = body.nodes[0].op == "Add";
    body.edit(0)->inputs[0] = w;
  };
  {
    const Graph::Edit node = g.open();
    change_bodies(*node, add_weight);
    hoist_constants(g.graph, *node, /*only_initializers=*/true);
  }
  EXPECT_EQ(g.node().capture_count, 3u);
  const Value& hoisted = g.graph[g.node().captures()[2]];
  EXPECT_EQ(hoisted.name, "w");
  EXPECT_TRUE(hoisted.is_initializer);
  EXPECT_EQ(to_doubles(hoisted.constant), (std::vector<double>{1, 2}));
  EXPECT_EQ(verify_message(g.graph), "valid");
}

TEST(AppendCopy, BindsArgumentsAndNamesTheRest) {
  Branching g;
  const Graph body = *bodies(g.node())[0];
  const std::vector<ValueId> results = append_copy(g.graph, body, {.captures = {g.a, g.b}}, "copy.");
  const Node& copy = g.graph.nodes.back();
  EXPECT_EQ(copy.op, "Add");
  EXPECT_EQ(copy.name, "copy.inner");
  EXPECT_THAT(copy.inputs, ElementsAre(g.a, g.b));
  EXPECT_EQ(copy.outputs, results);
  EXPECT_EQ(g.graph[results[0]].name, "copy.inner");
}

TEST(AppendCopy, GivesOutputsThatNoNodeMakes) {
  Graph body;
  const ValueId x = body.add_input("x", DType::f32, {1});
  body.outputs = {x, body.add_constant("k", Tensor::of<float>({3}))};
  Graph graph;
  const ValueId from = graph.add_input("from", DType::f32, {1});
  const ValueId y = graph.add_value("y"), k = graph.add_value("k2");
  append_copy(graph, body, {.inputs = {from}, .outputs = {y, k}}, "");
  ASSERT_EQ(graph.nodes.size(), 1u);
  EXPECT_EQ(graph.nodes[0].op, "Identity");
  EXPECT_THAT(graph.nodes[0].outputs, ElementsAre(y));
  EXPECT_EQ(to_doubles(graph[k].constant), std::vector<double>{3});
}

TEST(AppendCopy, LeavesOutWhatAnAbsentInputWasCapturedFor) {
  // if (c) { clip(x, low) }, low being left out by the caller
  Branching inner;
  Graph body;
  const ValueId c = body.add_input("c", DType::boolean, {}), x = body.add_input("x", DType::f32, {2}),
                low = body.add_input("low", DType::f32, {});
  body.add_node("If", "", {c}, 1,
                {{"then_branch", branch("Clip", {"x", "low"})}, {"else_branch", branch("Neg", {"x"})}}, "if");
  {
    const Graph::Edit node = body.edit(0);
    const auto inside = bodies(*node);
    set_captures(*node, {{{x, inside[0]->captures[0]}, {low, inside[0]->captures[1]}}, {{x, inside[1]->captures[0]}}});
  }
  body.outputs = body.nodes[0].outputs;
  append_copy(inner.graph, body, {.inputs = {inner.c, inner.x, kNoValue}}, "call.");
  const Node& copy = inner.graph.nodes.back();
  EXPECT_THAT(copy.captures(), ElementsAre(inner.x));
  EXPECT_EQ(bodies(copy)[0]->nodes[0].inputs[1], kNoValue);
  EXPECT_EQ(verify_message(inner.graph), "valid");
}

}  // namespace
}  // namespace halfstep
