// Operators that become others: the same results, and no node of theirs is left.
#include "passes/simplify/write_out_operators.h"

#include <cmath>
#include <random>

#include <fmt/format.h>

#include "ops/written_out.h"
#include "tests/onnx_io/node_lines.h"
#include "tests/passes/pass_testing.h"
#include <halfstep/ops/op_def.h>

namespace halfstep::testing {
namespace {

std::vector<std::vector<double>> results_of(const Graph& graph) {
  Compiled compiled(graph);
  unsigned seed = 1;
  for (const ValueId id : graph.inputs) {
    std::mt19937 random(seed++);
    Tensor x(DType::f64, graph[id].shape);
    for (double& v : x.span<double>()) v = std::uniform_real_distribution<double>(-2, 2)(random);
    compiled.set(graph[id].name, convert(x, graph[id].dtype));
  }
  compiled.program->run();
  std::vector<std::vector<double>> results;
  for (const std::string& name : names_of(graph, graph.outputs)) results.push_back(compiled.get(name));
  return results;
}

Graph written(Graph graph) {
  return run_pipeline(std::move(graph), {write_out_operators(true), write_out_operators(false)});
}

/// `stays`: the node is none that is replaced.
void expect_same(const std::string& text, const std::string& op, bool stays) {
  SCOPED_TRACE(text);
  const Graph before = parse(text), after = written(before);
  EXPECT_EQ(node_of(after, op) != nullptr, stays);
  const auto wanted = results_of(before), found = results_of(after);
  ASSERT_EQ(found.size(), wanted.size());
  for (std::size_t i = 0; i < wanted.size(); ++i) {
    ASSERT_EQ(found[i].size(), wanted[i].size());
    for (std::size_t j = 0; j < wanted[i].size(); ++j)
      ASSERT_NEAR(found[i][j], wanted[i][j], 1e-5 * std::max(1.0, std::abs(wanted[i][j]))) << "element " << j;
  }
}

TEST(WriteOutOperators, GivesTheResultsOfEveryCase) {
  std::size_t operators = 0;
  for (const OpDef* row : op_table()) {
    Node node;
    node.op = row->name;
    node.domain = row->domain;
    if (!ops::written_out(node)) continue;
    ++operators;
    for (const OpCase& c : row->cases) {
      const Graph graph = parse(std::string(c.text));
      const Node& first = *node_of(graph, node.op);
      const auto is_empty = [&](ValueId id) { return graph[id].shape.count() == 0; };
      const bool is_integer = node.op == "Einsum" && !is_float(graph[first.inputs[0]].dtype);
      expect_same(std::string(c.text), node.op, is_integer || std::ranges::any_of(first.inputs, is_empty));
    }
  }
  EXPECT_EQ(operators, 7U);
}

TEST(WriteOutOperators, WritesEveryKindOfEinsum) {
  const struct {
    const char *signature, *equation, *operands;
  } cases[] = {
      {"(float[2,5,4,3] q, float[2,6,4,3] k) => (float[2,4,5,6] y)", "bqhd,bkhd->bhqk", "q, k"},
      {"(float[2,4,5,6] p, float[2,6,4,3] v) => (float[2,5,4,3] y)", "bhqk,bkhd->bqhd", "p, v"},
      {"(float[2,5,6] x, float[6,3,4] w) => (float[2,5,3,4] y)", "bte,ehd->bthd", "x, w"},
      {"(float[2,5,3,4] x, float[3,4,6] w) => (float[2,5,6] y)", "bthd,hde->bte", "x, w"},
      {"(float[3] a, float[4] b) => (float[4,3] y)", "i,j->ji", "a, b"},
      {"(float[2,3] a, float[4,2,5] b) => (float[5,2] y)", "ij,kil->li", "a, b"},
      {"(float[3,3,3] a) => (float[3] y)", "iii->i", "a"},
      {"(float[3,2,3] a, float[3,2] b) => (float[2] y)", "iji,ij->j", "a, b"},
      {"(float[2,3,4] a) => (float y)", "ijk->", "a"},
      {"(float[2,3] a, float[3,4] b, float[4,5] c, float[5,2] d) => (float y)", "ij,jk,kl,li->", "a, b, c, d"},
      {"(float[1,3,1] a, float[2,1,4] b) => (float[4,2] y)", "...ij,...ij->j...", "a, b"},
      {"(float[2,1] a, float[1,4] b) => (float[2,1,4] y)", "ab,bc->abc", "a, b"},
  };
  for (const auto& c : cases)
    expect_same(fmt::format("{} {{ y = Einsum<equation = \"{}\">({}) }}", c.signature, c.equation, c.operands),
                "Einsum", false);
}

TEST(WriteOutOperators, WritesProductsThatOtherPassesKnow) {
  const struct {
    const char *before, *after;
  } cases[] = {
      {"(float[2,3] x, float[3,4] w) => (float[2,4] y) { y = Einsum<equation = \"ij,jk->ik\">(x, w) }",
       "(float[2,3] x, float[3,4] w) => (float[2,4] y) { y = MatMul(x, w) }"},
      {"(float[2,5,3] x, float[3,4] w) => (float[2,5,4] y) { y = Einsum<equation = \"abc,cd->abd\">(x, w) }",
       "(float[2,5,3] x, float[3,4] w) => (float[2,5,4] y) { y = MatMul(x, w) }"},
      {"(float[2,4,5,3] q, float[2,4,6,3] k) => (float[2,4,5,6] y) "
       "{ y = Einsum<equation = \"bhqd,bhkd->bhqk\">(q, k) }",
       "(float[2,4,5,3] q, float[2,4,6,3] k) => (float[2,4,5,6] y) "
       "{ t = Transpose<perm = [0, 1, 3, 2]>(k) y = MatMul(q, t) }"},
      {"(float[2,3] x, float[2,3] z) => (float[2,3] y) { y = Einsum<equation = \"ij,ij->ij\">(x, z) }",
       "(float[2,3] x, float[2,3] z) => (float[2,3] y) { y = Mul(x, z) }"},
      // Not all elements of x with all of z, as the order of the operands would have it.
      {"(float[2,3] x, float[4,5] z, float[3,4] w) => (float[2,5] y) "
       "{ y = Einsum<equation = \"ab,cd,bc->ad\">(x, z, w) }",
       "(float[2,3] x, float[4,5] z, float[3,4] w) => (float[2,5] y) { h = MatMul(x, w) y = MatMul(h, z) }"},
  };
  for (const auto& c : cases)
    EXPECT_EQ(test::nodes_of(written(parse(c.before)), {"x", "w", "q", "k", "z", "y"}),
              test::nodes_of(parse(c.after), {"x", "w", "q", "k", "z", "y"}));
}

TEST(WriteOutOperators, LeavesAPoolingOverNoAxes) {
  expect_same("(float[2,3] x) => (float[2,3] y) { y = GlobalLpPool(x) }", "GlobalLpPool", true);
  const Graph vector = parse("(float[3] x) => (float[n] y) { y = GlobalLpPool(x) }");
  EXPECT_NE(node_of(written(vector), "GlobalLpPool"), nullptr);
}

TEST(WriteOutOperators, LengthsThatThereAreNotAreRefusedStill) {
  for (const char* lengths : {"{-1, 2}", "{4, 2}", "{2, 5}"}) {
    const Graph graph =
        written(parse(fmt::format("(float[2,3] x) => (float[2,3] y) <int64[2] n = {}> "
                                  "{{ y = ReverseSequence<batch_axis = 0, time_axis = 1>(x, n) }}",
                                  lengths)));
    EXPECT_EQ(node_of(graph, "ReverseSequence"), nullptr);
    EXPECT_THROW(results_of(graph), Error) << lengths;
  }
}

TEST(WriteOutOperators, KeepsARuleOfItsOwnForTheGradient) {
  const Graph graph = parse("(float[2,5,3,2] x) => (float[2,5,3,2] y) { y = LRN<size = 3>(x) }");
  EXPECT_NE(node_of(run_pipeline(graph, {write_out_operators(/*before_gradient=*/true)}), "LRN"), nullptr);
  EXPECT_EQ(node_of(run_pipeline(graph, {write_out_operators(/*before_gradient=*/false)}), "LRN"), nullptr);
}

}  // namespace
}  // namespace halfstep::testing
