// Attention as exporters write it, as one node that reads its operands where they lie.
#include "passes/fuse/fuse_attention.h"

#include <cmath>

#include <fmt/format.h>

#include "ops/attention/fused_attention.h"
#include "passes/fuse/strided_view.h"
#include "tests/passes/pass_testing.h"
#include "tests/paths.h"

namespace halfstep::testing {
namespace {

using test::source_dir;

const std::vector<Fusion> kFused{{.op = "Attention", .fused = "FusedAttention"}};

std::ptrdiff_t count_of(const Graph& graph, const std::string& op) {
  return std::ranges::count(graph.nodes, op, &Node::op);
}

std::vector<double> result_of(const Graph& graph) {
  Compiled c(graph);
  double next = 1;
  for (const ValueId id : graph.inputs) {
    const Value& in = graph[id];
    Tensor numbers(DType::f32, in.shape);
    for (float& x : numbers.span<float>()) x = static_cast<float>(std::sin(next += 0.7));
    if (in.dtype == DType::boolean)
      for (float& x : numbers.span<float>()) x = x > -0.5F ? 1 : 0;
    c.set(in.name, convert(numbers, in.dtype));
  }
  c.program->run();
  return c.get(graph[graph.outputs[0]].name);
}

struct Spelling {
  const char* what;
  std::string text;
  std::vector<std::string> nodes = {"ai.halfstep.FusedAttention"};
  bool causal = false;
};

constexpr const char* kFour = "(float[2,3,4,8] q, float[2,3,5,8] k, float[2,3,5,6] v{}) => (float[{}] y) {}";
std::string four(const std::string& inputs, const std::string& constants, const std::string& nodes,
                 const std::string& result = "2,3,4,6") {
  return fmt::format(fmt::runtime(kFour), inputs, result,
                     (constants.empty() ? "" : "<" + constants + "> ") + "{ " + nodes + " }");
}
constexpr const char* kKeys = "t = Transpose<perm = [0, 1, 3, 2]>(k) ";

std::vector<Spelling> spellings() {
  const std::string kt = kKeys;
  return {
      {"the scores divided",
       four("", "float c = {2}", kt + "s = MatMul(q, t) d = Div(s, c) p = Softmax(d) y = MatMul(p, v)")},
      {"the scores multiplied, the axis counted from the front",
       four("", "float c = {0.5}", kt + "s = MatMul(q, t) d = Mul(c, s) p = Softmax<axis = 3>(d) y = MatMul(p, v)")},
      {"both operands by the root",
       four("", "float c = {0.6}",
            kt + "a = Mul(q, c) b = Mul(t, c) s = MatMul(a, b) p = Softmax(s) y = MatMul(p, v)")},
      {"a mask for each batch",
       four(", float[2,1,1,5] m", "", kt + "s = MatMul(q, t) a = Add(s, m) p = Softmax(a) y = MatMul(p, v)")},
      {"a mask of queries and keys",
       four(", float[4,5] m", "float c = {0.5}",
            kt + "s = MatMul(q, t) d = Mul(s, c) a = Add(m, d) p = Softmax(a) y = MatMul(p, v)")},
      {"a condition that is known",
       four("", "bool[1,1,4,5] m = {1, 1, 0, 1, 1, 0, 0, 0, 0, 1, 1, 0, 1, 1, 1, 1, 1, 1, 1, 1}, float low = {-10000}",
            kt + "s = MatMul(q, t) a = Where(m, s, low) p = Softmax(a) y = MatMul(p, v)")},
      {"the result back to rows", four("", "int64[3] n = {2, 4, 18}",
                                       kt + "s = MatMul(q, t) p = Softmax(s) o = MatMul(p, v) r = Transpose<perm = [0, "
                                            "2, 1, 3]>(o) y = Reshape(r, n)",
                                       "2,4,18")},
      {"a mask of the future",
       "(float[2,3,3,4] q, float[2,3,3,4] k, float[2,3,3,4] v) => (float[2,3,3,4] y) "
       "<float[3,3] m = {0, -1e30, -1e30, 0, 0, -1e30, 0, 0, 0}> { t = Transpose<perm = [0, 1, 3, 2]>(k) "
       "s = MatMul(q, t) a = Add(s, m) p = Softmax(a) y = MatMul(p, v) }",
       {"ai.halfstep.FusedAttention"},
       true},
      {"one product of all three, split",
       "(float[2,4,18] x) => (float[2,4,6] y) <int64[4] h = {2, 4, 2, 3}, int64[3] n = {2, 4, 6}> "
       "{ a, b, c = Split<axis = 2, num_outputs = 3>(x) a4 = Reshape(a, h) b4 = Reshape(b, h) c4 = Reshape(c, h) "
       "q = Transpose<perm = [0, 2, 1, 3]>(a4) k = Transpose<perm = [0, 2, 3, 1]>(b4) "
       "v = Transpose<perm = [0, 2, 1, 3]>(c4) s = MatMul(q, k) p = Softmax(s) o = MatMul(p, v) "
       "r = Transpose<perm = [0, 2, 1, 3]>(o) y = Reshape(r, n) }"},
      {"one product of all three, the parts an axis",
       "(float[2,4,18] x) => (float[2,2,4,3] y) <int64[5] h = {2, 4, 3, 2, 3}, int64 i = {0}, int64 j = {1}, int64 l = "
       "{2}> "
       "{ f = Reshape(x, h) g = Transpose<perm = [2, 0, 3, 1, 4]>(f) q = Gather(g, i) k = Gather(g, j) v = Gather(g, "
       "l) "
       "t = Transpose<perm = [0, 1, 3, 2]>(k) s = MatMul(q, t) p = Softmax(s) y = MatMul(p, v) }"},
      {"heads and batch one axis, sequences first",
       "(float[5,2,12] x) => (float[5,2,4] y) <int64[3] h = {5, 4, 2}, int64[3] n = {5, 2, 4}> "
       "{ a, b, c = Split<axis = 2, num_outputs = 3>(x) a3 = Reshape(a, h) b3 = Reshape(b, h) c3 = Reshape(c, h) "
       "q = Transpose<perm = [1, 0, 2]>(a3) k = Transpose<perm = [1, 2, 0]>(b3) v = Transpose<perm = [1, 0, 2]>(c3) "
       "s = MatMul(q, k) p = Softmax(s) o = MatMul(p, v) r = Transpose<perm = [1, 0, 2]>(o) y = Reshape(r, n) }"},
      {"keys and values that groups of queries share",
       "(float[2,4,3,2] q, float[2,3,4] k, float[2,3,4] v) => (float[2,4,3,2] y) "
       "<int64[4] h = {2, 3, 2, 2}, int64[5] one = {2, 2, 1, 3, 2}, int64[5] all = {2, 2, 2, 3, 2}, int64[4] n = {2, "
       "4, 3, 2}> "
       "{ k4 = Reshape(k, h) kh = Transpose<perm = [0, 2, 1, 3]>(k4) k5 = Reshape(kh, one) ke = Expand(k5, all) kn = "
       "Reshape(ke, n) "
       "v4 = Reshape(v, h) vh = Transpose<perm = [0, 2, 1, 3]>(v4) v5 = Reshape(vh, one) ve = Expand(v5, all) vn = "
       "Reshape(ve, n) "
       "t = Transpose<perm = [0, 1, 3, 2]>(kn) s = MatMul(q, t) p = Softmax(s) y = MatMul(p, vn) }"},
      {"the operator", four("", "", "y = Attention(q, k, v)")},
      {"the operator, of packed heads and a causal mask",
       "(float[2,3,8] q, float[2,3,4] k, float[2,3,6] v) => (float[2,3,12] y) "
       "{ y = Attention<q_num_heads = 4, kv_num_heads = 2, is_causal = 1>(q, k, v) }",
       {"ai.halfstep.FusedAttention"},
       true},
      {"one value that is all three",
       "(float[2,3,8] x) => (float[2,3,8] y) { y = Attention<q_num_heads = 2, kv_num_heads = 2>(x, x, x) }"},
  };
}

TEST(FuseAttention, KnowsWhatExportersWrite) {
  for (const Spelling& spelling : spellings()) {
    SCOPED_TRACE(spelling.what);
    const Graph apart = parse(spelling.text);
    const Graph fused = run_pipeline(apart, {fuse_attention(kFused)});
    EXPECT_EQ(ops_of(fused), spelling.nodes) << to_text(fused);
    const Node* node = node_of(fused, "FusedAttention");
    ASSERT_TRUE(node);
    EXPECT_EQ(node->attributes.get_int("causal", 0) != 0, spelling.causal);
    const std::vector<double> found = result_of(fused), wanted = result_of(apart);
    ASSERT_EQ(found.size(), wanted.size());
    for (std::size_t i = 0; i < wanted.size(); ++i) EXPECT_NEAR(found[i], wanted[i], 1e-6) << "element " << i;
  }
}

TEST(FuseAttention, LeavesTheRest) {
  const std::string kt = kKeys;
  const std::pair<const char*, std::string> cases[] = {
      {"another axis", four("", "", kt + "s = MatMul(q, t) p = Softmax<axis = 2>(s) y = MatMul(p, v)")},
      {"probabilities that are read elsewhere",
       "(float[2,3,4,8] q, float[2,3,8,5] k, float[2,3,5,6] v) => (float[2,3,4,6] y, float[2,3,4,5] p) "
       "{ s = MatMul(q, k) p = Softmax(s) y = MatMul(p, v) }"},
      {"a scale that is computed",
       four(", float c", "", kt + "s = MatMul(q, t) d = Mul(s, c) p = Softmax(d) y = MatMul(p, v)")},
      {"a mask that is scaled",
       four(", float[4,5] m", "float c = {0.5}",
            kt + "s = MatMul(q, t) a = Add(s, m) d = Mul(a, c) p = Softmax(d) y = MatMul(p, v)")},
      {"a condition for another number than a low one",
       four(", bool[4,5] m", "float low = {0}",
            kt + "s = MatMul(q, t) a = Where(m, s, low) p = Softmax(a) y = MatMul(p, v)")},
      {"a condition that is not known: a row it hides as a whole is uniform",
       four(", bool[1,1,4,5] m", "float low = {-10000}",
            kt + "s = MatMul(q, t) a = Where(m, s, low) p = Softmax(a) y = MatMul(p, v)")},
      {"a condition that hides a row as a whole",
       four("", "bool[1,1,4,5] m = {1, 1, 0, 1, 1, 0, 0, 0, 0, 0, 1, 0, 1, 1, 1, 1, 1, 1, 1, 1}, float low = {-10000}",
            kt + "s = MatMul(q, t) a = Where(m, s, low) p = Softmax(a) y = MatMul(p, v)")},
      {"a condition that is known above a mask that is not, which may hide what it shows",
       four(", float[4,5] pad", "bool[1,5] m = {1, 1, 0, 0, 0}, float low = {-1e9}",
            kt + "s = MatMul(q, t) d = Add(s, pad) a = Where(m, d, low) p = Softmax(a) y = MatMul(p, v)")},
      {"a condition that is known below one",
       four(", float[4,5] pad", "bool[1,5] m = {1, 1, 0, 0, 0}, float low = {-1e9}",
            kt + "s = MatMul(q, t) d = Where(m, s, low) a = Add(d, pad) p = Softmax(a) y = MatMul(p, v)")},
      {"scores that are read elsewhere",
       "(float[2,3,4,8] q, float[2,3,8,5] k, float[2,3,5,6] v) => (float[2,3,4,6] y, float[2,3,4,5] s) "
       "{ s = MatMul(q, k) p = Softmax(s) y = MatMul(p, v) }"},
      {"the operator with a cap", four("", "", "y = Attention<softcap = 2.0>(q, k, v)")},
  };
  for (const auto& [what, text] : cases)
    EXPECT_EQ(count_of(run_passes(text, {fuse_attention(kFused)}), "FusedAttention"), 0) << what;
  EXPECT_EQ(count_of(run_passes(four("", "", "y = Attention(q, k, v)"), {fuse_attention({})}), "FusedAttention"), 0);
}

// A mask that is not known may hide all that one of the future shows: finite scores then take part, hidden or not.
TEST(FuseAttention, AddsFiniteMasks) {
  for (const auto& [hidden, causal] : {std::pair("-1e9", false), std::pair("-inf", true)}) {
    const Graph apart = parse(fmt::format(
        "(float[1,1,3,4] q, float[1,1,3,4] k, float[1,1,3,4] v, float[1,1,1,3] pad) => (float[1,1,3,4] y) "
        "<float[3,3] m = {{0, {0}, {0}, 0, 0, {0}, 0, 0, 0}}, float zero = {{0}}, float low = {{-1e9}}> "
        "{{ {1} c = Less(zero, pad) f = Cast<to = 1>(c) h = Mul(f, low) s = MatMul(q, t) d = Add(s, h) a = Add(d, m) "
        "p = Softmax(a) y = MatMul(p, v) }}",
        hidden, kKeys));
    const Graph fused = run_pipeline(apart, {fuse_attention(kFused)});
    const Node* node = node_of(fused, "FusedAttention");
    ASSERT_TRUE(node) << to_text(fused);
    EXPECT_EQ(node->attributes.get_int("causal", 0) != 0, causal);
    const Node* mask = fused.producer(node->inputs.at(ops::kFusedMask));
    ASSERT_TRUE(mask);
    EXPECT_EQ(mask->op, causal ? "Mul" : "Add") << "the known mask is a part of it";
  }
}

// The blocks of attention in models of exporters, and how many are one node. Swin's windows that are shifted have masks
// of five axes.
TEST(FuseAttention, FindsThoseOfTheModels) {
  const struct {
    const char* model;
    std::ptrdiff_t blocks, fused;
  } cases[] = {{"bert-dynamo", 2, 2},
               {"deit-dynamo", 2, 2},
               {"deit-dynamo-optimized", 2, 2},
               {"deit-torchscript", 2, 2},
               {"gpt_neo-dynamo", 2, 2},
               {"roberta-dynamo", 2, 2},
               {"roberta-dynamo-optimized", 2, 2},
               {"roberta-torchscript", 2, 2},
               {"swin-dynamo", 4, 2}};
  for (const auto& c : cases) {
    SCOPED_TRACE(c.model);
    Graph graph = load_model(source_dir() / "models" / "zoo" / c.model / "model.onnx").graph;
    graph = run_pipeline(std::move(graph), {bind_shapes({.by_name = {}, .batch = 4}), to_inference_mode(),
                                            fold_constants(), canonicalize(), simplify_masks()});
    EXPECT_EQ(count_of(graph, "Softmax") + count_of(graph, "Attention"), c.blocks);
    graph = run_pipeline(std::move(graph), {fuse_attention(kFused)});
    EXPECT_EQ(count_of(graph, "FusedAttention"), c.fused);
  }
}

// Indices of a value's elements by a view against those by the nodes themselves.
TEST(StridedView, FollowsNodes) {
  const Graph graph = parse(
      "(float[2,4,18] x) => (float[2,2,4,3] y) <int64[5] h = {2, 4, 3, 2, 3}, int64 i = {1}> "
      "{ f = Reshape(x, h) g = Transpose<perm = [2, 0, 3, 1, 4]>(f) y = Gather(g, i) }");
  StridedView view = StridedView::of(graph, graph.outputs[0]);
  for (int i = 0; i < 3; ++i) ASSERT_TRUE(view.step_back(graph));
  EXPECT_FALSE(view.step_back(graph));
  EXPECT_EQ(view.base, graph.inputs[0]);
  EXPECT_EQ(view.offset, 6);
  const std::vector<StridedAxis> wanted{{{2, 72}}, {{2, 3}}, {{4, 18}}, {{3, 1}}};
  EXPECT_EQ(view.axes, wanted);
}

TEST(StridedView, SplitsAxesAlike) {
  const std::vector<StridedAxis> split = split_alike({{{6, 10}}, {{2, 5}, {3, 100}}, {{6, 0}}});
  const std::vector<StridedAxis> wanted{{{2, 30}, {3, 10}}, {{2, 5}, {3, 100}}, {{2, 0}, {3, 0}}};
  EXPECT_EQ(split, wanted);
  EXPECT_TRUE(split_alike({{{6, 1}}, {{3, 1}, {2, 7}}, {{2, 1}, {3, 5}}}).empty());
}

}  // namespace
}  // namespace halfstep::testing
