// Casts of parameters that become states.
#include "graph/state_fit.h"
#include "onnx_io/convert.h"
#include "tests/passes/pass_testing.h"

namespace halfstep {
namespace {

using namespace halfstep::testing;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

/// The graph of the text, with a state in place of each of these constants, whose next value is the value after it.
Graph with_states(const std::string& text, const std::vector<std::pair<std::string, std::string>>& states,
                  StateRole role = StateRole::parameter) {
  Graph graph = parse(text);
  for (const auto& [name, next] : states) {
    const ValueId value = graph.find(name);
    graph.states.push_back({.value = value, .next = graph.find(next), .role = role, .initial = graph[value].constant});
    graph[value].constant = Tensor();
  }
  return graph;
}

/// States, then nodes: "copy p.bf16 of p <- c" and "n = Relu(p)".
std::vector<std::string> described(const Graph& graph) {
  std::vector<std::string> lines;
  const auto name = [&](ValueId id) { return graph[id].name; };
  for (const State& s : graph.states)
    lines.push_back(std::string(name_of(s.role)) + " " + name(s.value) +
                    (s.source == kNoValue ? "" : " of " + name(s.source)) +
                    (s.next == kNoValue ? "" : " <- " + name(s.next)));
  for (const Node& node : graph.nodes) {
    std::string line = name(node.outputs[0]) + " = " + node.op;
    for (const ValueId in : node.inputs) line += " " + name(in);
    lines.push_back(line);
  }
  return lines;
}

std::vector<std::string> kept(const std::string& text, const std::vector<std::pair<std::string, std::string>>& states,
                              StateRole role = StateRole::parameter) {
  return described(run_pipeline(with_states(text, states, role), {keep_half_copies()}));
}

TEST(HalfCopies, AreStatesWhoseNextValuesAreCastsOfTheParameters) {
  EXPECT_THAT(kept("(float[2] x) => (bfloat16[2] y) <float[2] p = {1, 2}> { c = Cast<to = 16>(p) y = Relu(c) "
                   "next = Add(p, x) }",
                   {{"p", "next"}}),
              ElementsAre("parameter p <- next", "copy p.bf16 of p <- half_copies/Cast_3", "y = Relu p.bf16",
                          "next = Add p x", "half_copies/Cast_3 = Cast next"));
}

TEST(HalfCopies, OfOneTypeAreOne) {
  EXPECT_THAT(kept("(float[2] x) => (float16[2] y, float[2] z) <float[2] p = {1, 2}> { a = Cast<to = 10>(p) "
                   "b = Cast<to = 10>(p) y = Add(a, b) z = Relu(p) }",
                   {{"p", ""}}),
              ElementsAre("parameter p", "copy p.f16 of p", "y = Add p.f16 p.f16", "z = Relu p"));
}

TEST(HalfCopies, AreOfParametersAlone) {
  const char* text =
      "(float[2] x) => (float16[2] y, float16[2] z) <float[2] s = {1, 2}> { c = Cast<to = 10>(s) "
      "y = Relu(c) z = Cast<to = 10>(x) }";
  EXPECT_THAT(kept(text, {{"s", ""}}, StateRole::statistic),
              ElementsAre("statistic s", "c = Cast s", "y = Relu c", "z = Cast x"));
  EXPECT_THAT(kept(text, {{"s", ""}}), ElementsAre("parameter s", "copy s.f16 of s", "y = Relu s.f16", "z = Cast x"));
}

TEST(HalfCopies, GetTheirNextValuesInAnUpdateOnItsOwn) {
  const Graph trainable = with_states(
      "(float[2] x) => (float[2] y) <float[2] p = {1, 2}, float[2] q = {3, 4}> "
      "{ s = Add(x, p) y = Add(s, q) }",
      {{"p", ""}, {"q", ""}});
  const Graph sums = graph_of_sums(trainable, {{"p", "sum.p"}, {"q", "sum.q"}}, "", {{"p", DType::f16}});
  const Graph graph = run_pipeline(sums, {attach_optimizer({.name = "sgd"}), keep_half_copies()});
  std::vector<std::string> copies;
  for (const std::string& line : described(graph))
    if (line.starts_with("copy ")) copies.push_back(line);
  EXPECT_THAT(copies, ElementsAre("copy p.f16 of p <- half_copies/Cast_7"));
  EXPECT_THAT(names_of(graph, node_of(graph, "SgdStep")->outputs),
              ::testing::Contains(graph[graph.nodes.back().inputs[0]].name));
}

TEST(HalfCopies, AreWrittenWithTheirValuesAndReadBack) {
  const Graph graph = run_pipeline(with_states("(float[2] x) => (bfloat16[2] y) <float[2] p = {1, 2.00390625}> "
                                               "{ c = Cast<to = 16>(p) y = Relu(c) next = Add(p, x) }",
                                               {{"p", "next"}}),
                                   {keep_half_copies()});
  const Graph again = from_proto(to_proto(graph));
  EXPECT_EQ(described(again), described(graph));
  EXPECT_THAT(to_doubles(again.states[1].initial), ElementsAre(1, 2));
}

TEST(HalfCopies, HaveASource) {
  Graph graph = with_states("(float[2] x) => (float[2] y) <float[2] p = {1, 2}> { y = Add(x, p) }", {{"p", ""}});
  EXPECT_THAT(state_misfit(graph, graph.states[0]), IsEmpty());
  graph.states[0].role = StateRole::copy;
  EXPECT_THAT(state_misfit(graph, graph.states[0]), HasSubstr("a copy of nothing"));
  graph.states[0].source = graph.inputs[0];
  EXPECT_THAT(state_misfit(graph, graph.states[0]), HasSubstr("as the source of"));
}

TEST(HalfCopies, AreOfStatesThatAreNone) {
  const Graph graph = run_pipeline(
      with_states("(float[2] x) => (bfloat16[2] y) <float[2] p = {1, 2}> { c = Cast<to = 16>(p) y = Relu(c) }",
                  {{"p", ""}}),
      {keep_half_copies()});
  for (const char* source : {"p", "x", "p.bf16"}) {
    Graph other = graph;
    other.states[1].source = other.find(source);
    const bool fits = other.states[1].source == other.states[0].value;
    EXPECT_EQ(state_misfit(other, other.states[1]).empty(), fits) << source;
    onnx::ModelProto model = to_proto(graph);
    for (auto& entry : *model.mutable_metadata_props())
      if (entry.key() == "ai.halfstep.source.p.bf16") entry.set_value(source);
    if (fits)
      EXPECT_NO_THROW(from_proto(model));
    else
      EXPECT_THROW(from_proto(model), Error) << source;
  }
}

}  // namespace
}  // namespace halfstep
