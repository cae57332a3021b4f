#include <gmock/gmock.h>

#include <halfstep/base/error.h>
#include <halfstep/graph/graph.h>

namespace halfstep {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

// x -> first -> second -> output
struct Chain {
  Graph graph;
  ValueId x, first, second;

  Chain() {
    x = graph.add_input("x", DType::f32, {2});
    first = graph.nodes[graph.add_node("Relu", "", {x}, 1, {}, "first")].outputs[0];
    second = graph.nodes[graph.add_node("Tanh", "", {first}, 1, {}, "second")].outputs[0];
    graph.outputs = {second};
  }
};

std::vector<std::string> node_names(const Graph& graph) {
  std::vector<std::string> names;
  for (const Node& node : graph.nodes) names.push_back(node.name);
  return names;
}

std::string verify_message(const Graph& graph) {
  try {
    verify(graph);
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), Error::Kind::failure);
    return error.what();
  }
  return "valid";
}

TEST(Graph, MakesNamesUnique) {
  Graph graph;
  const ValueId a = graph.add_value("a"), b = graph.add_value("a"), made_up = graph.add_value("");
  EXPECT_EQ(graph[a].name, "a");
  EXPECT_NE(graph[b].name, "a");
  EXPECT_FALSE(graph[made_up].name.empty());
  EXPECT_EQ(graph.find(graph[b].name), b);
  EXPECT_EQ(graph.find("nobody"), kNoValue);
}

TEST(Graph, RenamesAndForgetsTheOldName) {
  Graph graph;
  const ValueId a = graph.add_value("a"), b = graph.add_value("b");
  graph.rename(a, "c");
  EXPECT_EQ(graph.find("a"), kNoValue);
  EXPECT_EQ(graph.find("c"), a);
  graph.rename(b, "c");
  EXPECT_EQ(graph.find("c"), a);
  EXPECT_EQ(graph.find(graph[b].name), b);
}

TEST(Graph, SortsProducersFirst) {
  Chain c;
  std::vector<Node> nodes = c.graph.take_nodes();
  c.graph.append(nodes[1]);
  c.graph.append(nodes[0]);
  EXPECT_THAT(verify_message(c.graph), HasSubstr("nodes come after what they read"));
  c.graph.sort();
  EXPECT_THAT(node_names(c.graph), ElementsAre("first", "second"));
  EXPECT_EQ(verify_message(c.graph), "valid");
}

TEST(Graph, SortKeepsASortedOrder) {
  Graph graph;
  const ValueId x = graph.add_input("x", DType::f32, {2});
  for (const char* name : {"c", "a", "b"}) graph.add_node("Relu", "", {x}, 1, {}, name);
  graph.sort();
  EXPECT_THAT(node_names(graph), ElementsAre("c", "a", "b"));
}

TEST(Graph, RefusesACycle) {
  Chain c;
  c.graph.edit(0)->inputs[0] = c.second;
  EXPECT_THROW(c.graph.sort(), Error);
}

TEST(Graph, RemovesWhatNobodyReads) {
  Chain c;
  const ValueId constant = c.graph.add_constant("unread", Tensor::scalar(1.0f));
  const ValueId state = c.graph.add_state("w", Tensor::scalar(1.0f), StateRole::parameter);
  c.graph.add_node("Add", "", {c.first, constant}, 1, {}, "dead");
  const std::size_t next = c.graph.add_node("Neg", "", {state}, 1, {}, "update");
  c.graph.states[0].next = c.graph.nodes[next].outputs[0];
  c.graph.remove_dead();
  EXPECT_THAT(node_names(c.graph), ElementsAre("first", "second", "update"));
  EXPECT_FALSE(c.graph[constant].is_constant());
  EXPECT_EQ(c.graph.states.size(), 1u);
  EXPECT_EQ(verify_message(c.graph), "valid");
}

TEST(Graph, ReplacesUsesEverywhere) {
  Chain c;
  c.graph.add_state("s", Tensor(DType::f32, {2}), StateRole::statistic);
  c.graph.states[0].next = c.second;
  c.graph.replace_uses(c.second, c.first);
  EXPECT_THAT(c.graph.outputs, ElementsAre(c.first));
  EXPECT_EQ(c.graph.states[0].next, c.first);
  EXPECT_FALSE(c.graph.is_read(c.second));
  EXPECT_TRUE(c.graph.is_read(c.first));
  EXPECT_EQ(verify_message(c.graph), "valid");
}

TEST(Graph, KnowsProducersAndUsers) {
  Chain c;
  const std::size_t add = c.graph.add_node("Add", "", {c.first, c.first}, 1);
  EXPECT_EQ(c.graph.producer(c.first), &c.graph.nodes[0]);
  EXPECT_EQ(c.graph.producer_index(c.second), 1);
  EXPECT_EQ(c.graph.producer(c.x), nullptr);
  EXPECT_EQ(c.graph.producer(kNoValue), nullptr);
  EXPECT_THAT(c.graph.users(c.first), ElementsAre(Use{1, 0}, Use{add, 0}, Use{add, 1}));
  EXPECT_EQ(c.graph.sole_user(c.first), nullptr);
  EXPECT_EQ(*c.graph.sole_user(c.x), (Use{0, 0}));
  EXPECT_TRUE(c.graph.is_read(c.second));
  EXPECT_FALSE(c.graph.is_read(c.graph.nodes[add].outputs[0]));
  EXPECT_FALSE(c.graph.is_read(kNoValue));
  c.graph.outputs.push_back(c.x);  // leaves the graph, too
  EXPECT_EQ(c.graph.sole_user(c.x), nullptr);
}

TEST(Graph, KnowsProducersAndUsersAfterEveryChange) {
  const std::pair<const char*, void (*)(Chain&)> changes[] = {
      {"another input", [](Chain& c) { c.graph.edit(1)->inputs[0] = c.x; }},
      {"an input twice", [](Chain& c) { c.graph.edit(1)->inputs.push_back(c.first); }},
      {"an input less", [](Chain& c) { c.graph.edit(2)->inputs.resize(1); }},
      {"another output", [](Chain& c) { c.graph.edit(2)->outputs[0] = c.graph.add_value("new"); }},
      {"outputs of two nodes",
       [](Chain& c) {
         const Graph::Edit first = c.graph.edit(0), last = c.graph.edit(2);
         std::swap(first->inputs, last->inputs);
         first->inputs = {c.x};
       }},
      {"uses of one that is used", [](Chain& c) { c.graph.replace_uses(c.second, c.first); }},
      {"uses of itself", [](Chain& c) { c.graph.replace_uses(c.first, c.first); }},
      {"no use", [](Chain& c) { c.graph.replace_uses(c.first, kNoValue); }},
      {"a node for values", [](Chain& c) { c.graph.define({c.graph.add_value("y")}, "Neg", "", {c.second}); }},
      {"nodes taken", [](Chain& c) { c.graph.take_nodes(2); }},
      {"nodes taken and put back",
       [](Chain& c) {
         for (Node& node : c.graph.take_nodes(1)) c.graph.append(std::move(node));
       }},
      {"a node removed",
       [](Chain& c) {
         c.graph.remove_nodes({false, false, true});
       }},
      {"dead nodes", [](Chain& c) { c.graph.remove_dead(); }},
      {"another order",
       [](Chain& c) {
         std::vector<Node> nodes = c.graph.take_nodes();
         for (const std::size_t i : {2u, 1u, 0u}) c.graph.append(std::move(nodes[i]));
         c.graph.sort();
       }},
  };
  for (const auto& [what, change] : changes) {
    Chain c;
    c.graph.add_node("Add", "", {c.first, c.second}, 1, {}, "last");
    change(c);
    EXPECT_EQ(verify_message(c.graph), "valid") << what;
    const Graph copy = c.graph;
    EXPECT_EQ(verify_message(copy), "valid") << "a copy after " << what;
  }
}

TEST(Graph, RolesFollowWhatIsComputedAndGoWithIt) {
  Chain c;
  const ValueId given = c.graph.inputs[0];
  c.graph.step = {{StepRole::loss, c.second}, {StepRole::labels, given}, {StepRole::gradient_norm, c.second, given}};
  c.graph.replace_uses(c.second, c.first);
  EXPECT_EQ(c.graph.find(StepRole::loss), c.first);
  EXPECT_EQ(c.graph.find(StepRole::gradient_norm, given), c.first);
  EXPECT_EQ(c.graph.find(StepRole::gradient_norm), kNoValue) << "of all gradients";
  c.graph.replace_uses(given, c.first);
  EXPECT_EQ(c.graph.find(StepRole::labels), given) << "what the step is given stays";
  c.graph.outputs.clear();
  c.graph.remove_dead();
  EXPECT_EQ(c.graph.find(StepRole::loss), kNoValue);
  EXPECT_EQ(c.graph.find(StepRole::labels), given);
}

TEST(Verify, FindsWhatIsBroken) {
  Chain twice;
  twice.graph.edit(1)->outputs[0] = twice.first;
  EXPECT_THAT(verify_message(twice.graph), HasSubstr("every value is defined once"));

  Chain no_output;
  no_output.graph.outputs.push_back(no_output.graph.add_value("nowhere"));
  EXPECT_THAT(verify_message(no_output.graph), HasSubstr("'nowhere'"));

  Chain no_next;
  no_next.graph.add_state("s", Tensor::scalar(0.0f), StateRole::statistic);
  no_next.graph.states[0].next = no_next.graph.add_value("lost");
  EXPECT_THAT(verify_message(no_next.graph), HasSubstr("'lost'"));

  for (const auto& [type, shape] : {std::pair{DType::f32, Shape{3}}, std::pair{DType::f64, Shape()}}) {
    Chain misfit;
    misfit.graph.add_state("s", Tensor::scalar(0.0f), StateRole::statistic);
    misfit.graph.states[0].next = misfit.graph.add_input("given", type, shape);
    EXPECT_THAT(verify_message(misfit.graph), HasSubstr("as the next value of 's' of f32 []"));
  }
}

TEST(Verify, FindsIdsThatNameNoValue) {
  struct Case {
    const char* where;
    void (*put)(Graph& graph, ValueId id);
  };
  const Case cases[] = {
      {"input", [](Graph& graph, ValueId id) { graph.inputs.push_back(id); }},
      {"a graph output", [](Graph& graph, ValueId id) { graph.outputs.push_back(id); }},
      {"an input of", [](Graph& graph, ValueId id) { graph.edit(1)->inputs.push_back(id); }},
      {"output of", [](Graph& graph, ValueId id) { graph.edit(1)->outputs.push_back(id); }},
      {"state", [](Graph& graph, ValueId id) { graph.states[0].value = id; }},
      {"the next value of", [](Graph& graph, ValueId id) { graph.states[0].next = id; }},
      {"the gradient of", [](Graph& graph, ValueId id) { graph.states[0].gradient = id; }},
      {"capture", [](Graph& graph, ValueId id) { graph.captures.push_back(id); }},
  };
  for (const Case& c : cases) {
    for (const std::size_t beyond : {0, 7}) {
      Chain chain;
      chain.graph.add_state("s", Tensor::scalar(0.0f), StateRole::statistic);
      ASSERT_EQ(verify_message(chain.graph), "valid");
      c.put(chain.graph, ValueId(chain.graph.values.size() + beyond));
      const std::string message = verify_message(chain.graph);
      EXPECT_THAT(message, HasSubstr("every id names a value")) << c.where;
      EXPECT_THAT(message, HasSubstr(c.where));
    }
  }
}

TEST(Printer, ShowsInputsStatesConstantsAndNodes) {
  Chain c;
  c.graph.name = "g";
  c.graph.add_state("w", Tensor(DType::f32, {4}), StateRole::parameter);
  c.graph.add_constant("k", Tensor::of<std::int64_t>({3, -1}));
  const std::string text = to_text(c.graph);
  EXPECT_THAT(text, HasSubstr("g (float[2] x) =>"));
  EXPECT_THAT(text, HasSubstr("# parameter float[4] w"));
  EXPECT_THAT(text, HasSubstr("int64[2] k = int64[2] {3, -1}"));
  EXPECT_THAT(text, HasSubstr("[second] second = Tanh (first)"));
}

}  // namespace
}  // namespace halfstep
