// Chains of elementwise operators: which nodes become one, that no cycle arises, and that numbers stay.
#include <set>
#include <utility>

#include <fmt/format.h>

#include "graph/bodies.h"
#include "onnx_io/opset.h"
#include "passes/fuse/group_nodes.h"
#include "tests/passes/pass_testing.h"
#include "tests/random_chains.h"
#include <halfstep/ops/op_traits.h>

namespace halfstep::testing {
namespace {

bool is_elementwise(const Graph&, const Node& node) { return traits_of(node).elementwise != Elementwise::none; }
Chains chains(std::size_t nodes = 32, std::size_t inputs = 16) {
  return {.holds = is_elementwise, .max_nodes = nodes, .max_inputs = inputs, .max_spread = 3};
}

/// The nodes of a graph; of a chain what is in it.
std::string outline(const Graph& graph) {
  std::string text;
  for (const Node& node : graph.nodes) {
    text += text.empty() ? "" : " ";
    if (!has_body(node)) {
      text += node.op;
      continue;
    }
    std::string inside;
    for (const Node& each : bodies(node)[0]->nodes) inside += (inside.empty() ? "" : " ") + each.op;
    text += fmt::format("[{}: {} to {}]", inside, node.inputs.size(), node.outputs.size());
  }
  return text;
}

TEST(FuseChains, TakesWhatSavesMemoryTraffic) {
  struct Case {
    const char* what;
    const char* text;
    const char* wanted;
  };
  const Case cases[] = {
      {"a chain", "(float[2,3] x, float[3] b) => (float[2,3] y) { s = Add(x, b) t = Sigmoid(s) y = Mul(s, t) }",
       "[Add Sigmoid Mul: 2 to 1]"},
      {"one node alone", "(float[2,3] x) => (float[2,3] y) { y = Relu(x) }", "Relu"},
      {"a value that is an output, too",
       "(float[2,3] x) => (float[2,3] y, float[2,3] s) { s = Sigmoid(x) y = Mul(s, x) }", "[Sigmoid Mul: 1 to 2]"},
      {"results of another shape stay apart",
       "(float[2,3] x, float[3] b) => (float[2,3] y) { c = Neg(b) s = Add(x, c) y = Relu(s) }",
       "Neg [Add Relu: 2 to 1]"},
      {"other operators part them",
       "(float[2,3] x) => (float[2,3] y) { a = Neg(x) b = Relu(a) c = Softmax(b) d = Neg(c) y = Relu(d) }",
       "[Neg Relu: 1 to 1] Softmax [Neg Relu: 1 to 1]"},
      {"what comes back by way of another operator",
       "(float[2,3] x) => (float[2,3] y) { a = Relu(x) s = Softmax(a) y = Mul(a, s) }", "Relu Softmax Mul"},
      {"what only a later chain reads is computed there, as in a backward pass",
       "(float[2,3] x) => (float[2,3] y) { a = Relu(x) b = Neg(a) s = Softmax(a) y = Mul(b, s) }",
       "Relu Softmax [Neg Mul: 2 to 1]"},
      {"readers at different distances from the end",
       "(float[2,3] x) => (float[2,3] y, float[2,3] z) { a = Relu(x) z = Neg(a) s = Softmax(a) t = Softmax(s) "
       "y = Softmax(t) }",
       "[Relu Neg: 1 to 2] Softmax Softmax Softmax"},
      {"scalars are constants of the chain; an operand that is read twice is one",
       "(float[2,3] x) => (float[2,3] y) <float two = {2}> { a = Mul(x, two) b = Mul(x, x) y = Add(a, b) }",
       "[Mul Mul Add: 1 to 1]"},
  };
  for (const Case& c : cases) EXPECT_EQ(outline(run_passes(c.text, {fuse_chains(chains())})), c.wanted) << c.what;
}

TEST(FuseChains, KeepsTheExecutorsLimits) {
  const char* text =
      "(float[2] a, float[2] b, float[2] c, float[2] d) => (float[2] y) { e = Add(a, b) f = Add(e, c) g = Add(f, d) "
      "h = Neg(g) y = Relu(h) }";
  EXPECT_EQ(outline(run_passes(text, {fuse_chains(chains(3))})), "[Add Add Add: 4 to 1] [Neg Relu: 1 to 1]");
  EXPECT_EQ(outline(run_passes(text, {fuse_chains(chains(32, 3))})), "[Add Add: 3 to 1] [Add Neg Relu: 2 to 1]");
  EXPECT_EQ(outline(run_passes(text, {fuse_chains({})})), "Add Add Add Neg Relu");
}

TEST(FuseChains, IsWrittenInAnOperatorSetThatItsBodyFits) {
  const Graph graph =
      run_passes("(float[2,3] x, float[3] b) => (float[2,3] y) { s = Add(x, b) y = Gelu(s) }", {fuse_chains(chains())});
  EXPECT_EQ(outline(graph), "[Add Gelu: 2 to 1]");
  EXPECT_EQ(lowest_opset(graph), 20);
}

// Whether groups, each one node, have an order.
bool has_order(const Graph& graph, const std::vector<std::size_t>& group_of, std::size_t groups) {
  std::set<std::pair<std::size_t, std::size_t>> edges;
  std::vector<std::size_t> waiting(groups, 0), ready;
  for (std::size_t n = 0; n < graph.nodes.size(); ++n)
    for (const ValueId in : graph.nodes[n].inputs) {
      if (!graph.producer(in)) continue;
      const std::size_t from = group_of[static_cast<std::size_t>(graph.producer_index(in))];
      if (from != group_of[n] && edges.emplace(from, group_of[n]).second) ++waiting[group_of[n]];
    }
  for (std::size_t g = 0; g < groups; ++g)
    if (waiting[g] == 0) ready.push_back(g);
  std::size_t done = 0;
  for (; done < ready.size(); ++done)
    for (const auto& [from, to] : edges)
      if (from == ready[done] && --waiting[to] == 0) ready.push_back(to);
  return done == groups;
}

TEST(GroupNodes, HasAnOrderHoweverGroupsAreCut) {
  for (unsigned seed = 0; seed < 150; ++seed) {
    const Graph graph = RandomChains(seed, {2, 3, 4}).make(12 + seed % 40);
    std::mt19937 random(seed);
    const auto together = [&](std::size_t a, std::size_t b) {
      return is_elementwise(graph, graph.nodes[a]) && is_elementwise(graph, graph.nodes[b]) &&
             graph[graph.nodes[a].outputs[0]].shape == graph[graph.nodes[b].outputs[0]].shape;
    };
    std::vector<std::size_t> group_of(graph.nodes.size(), graph.nodes.size()), cut(graph.nodes.size());
    std::size_t groups = 0, pieces = 0;
    for (const std::vector<std::size_t>& group : group_nodes(graph, together)) {
      ASSERT_TRUE(std::is_sorted(group.begin(), group.end()));
      for (const std::size_t n : group) {
        ASSERT_EQ(group_of[n], graph.nodes.size()) << "node " << n << " twice, seed " << seed;
        if (n != group.front() && random() % 3 == 0) ++pieces;
        group_of[n] = groups;
        cut[n] = pieces;
      }
      ++groups;
      ++pieces;
    }
    ASSERT_EQ(std::count(group_of.begin(), group_of.end(), graph.nodes.size()), 0) << seed;
    EXPECT_TRUE(has_order(graph, group_of, groups)) << "seed " << seed;
    EXPECT_TRUE(has_order(graph, cut, pieces)) << "cut, seed " << seed;
  }
}

std::vector<Tensor> run_reference(const Graph& graph) {
  const std::unique_ptr<Executor> executor = make_reference_executor();
  const std::unique_ptr<StateStore> store = executor->make_store();
  const std::unique_ptr<Program> program = executor->compile(graph, *store);
  std::mt19937 random(3);
  for (std::size_t i = 0; i < graph.inputs.size(); ++i)
    for (float& x : program->input(i).span<float>()) x = std::uniform_real_distribution<float>(-2, 2)(random);
  program->run();
  std::vector<Tensor> outputs;
  for (std::size_t i = 0; i < graph.outputs.size(); ++i) outputs.push_back(program->output(i).clone());
  return outputs;
}

TEST(FuseChains, KeepsTheNumbersOfRandomGraphs) {
  for (unsigned seed = 0; seed < 60; ++seed) {
    SCOPED_TRACE(seed);
    const Graph apart = RandomChains(seed, {2, 3, 4}).make(30);
    const Graph fused = run_pipeline(apart, {fuse_chains(chains(2 + seed % 12, 3 + seed % 6))});
    EXPECT_LT(fused.nodes.size(), apart.nodes.size());
    const std::vector<Tensor> wanted = run_reference(apart), found = run_reference(fused);
    ASSERT_EQ(found.size(), wanted.size());
    for (std::size_t i = 0; i < found.size(); ++i)
      EXPECT_EQ(std::memcmp(found[i].raw(), wanted[i].raw(), wanted[i].bytes()), 0) << "output " << i;
  }
}

}  // namespace
}  // namespace halfstep::testing
