// What a training step computes beside a product or behind a normalization becomes part of it, where an executor says
// so, and gives the same numbers.
#include <cmath>

#include <gtest/gtest.h>

#include "conformance/run_graph.h"
#include "tests/passes/pass_testing.h"

namespace halfstep::testing {
namespace {

using Ops = std::vector<std::string>;

const std::vector<Fusion> kFusions = {
    {.op = "", .fused = "GemmActivation", .activations = {"Gelu(tanh)"}},
    {.op = "", .fused = "GemmActivationGrad", .activations = {"Gelu(tanh)"}},
    {.op = "", .fused = "GemmSums"},
    {.op = "BatchNormalization", .fused = "FusedBatchNormalization", .activations = {"Relu"}, .adds = true},
};

struct Case {
  const char* what;
  const char* text;
  Ops wanted;
};
const Case kCases[] = {
    {"a Gelu whose operand is read",
     "(float[4,3] x, float[3,8] w, float[8] b) => (float[4,8] y, float[4,8] n) "
     "{ z = Gemm(x, w, b) y = Gelu<approximate = \"tanh\">(z) n = Neg(z) }",
     {"ai.halfstep.GemmActivation", "Neg"}},
    {"behind a Reshape",
     "(float[4,3] x, float[3,8] w) => (float[2,2,8] y, float[2,2,8] n) <int64[3] s = {2, 2, 8}> "
     "{ z = Gemm(x, w) r = Reshape(z, s) y = Gelu<approximate = \"tanh\">(r) n = Neg(r) }",
     {"ai.halfstep.GemmActivation", "Reshape", "Reshape", "Neg"}},
    {"behind a Reshape that nobody else reads",
     "(float[4,3] x, float[3,8] w) => (float[2,2,8] y) <int64[3] s = {2, 2, 8}> "
     "{ z = Gemm(x, w) r = Reshape(z, s) y = Gelu<approximate = \"tanh\">(r) }",
     {"ai.halfstep.GemmActivation", "Reshape"}},
    {"an exact Gelu",
     "(float[4,3] x, float[3,8] w, float[8] b) => (float[4,8] y, float[4,8] n) "
     "{ z = Gemm(x, w, b) y = Gelu(z) n = Neg(z) }",
     {"Gemm", "Gelu", "Neg"}},
    {"a bias for each row",
     "(float[4,3] x, float[3,8] w, float[4,1] b) => (float[4,8] y, float[4,8] n) "
     "{ z = Gemm(x, w, b) y = Gelu<approximate = \"tanh\">(z) n = Neg(z) }",
     {"Gemm", "Gelu", "Neg"}},
    {"a Gelu's gradient",
     "(float[4,5] dy, float[8,5] w, float[4,8] z) => (float[4,8] d) "
     "{ p = ai.halfstep.FusedGemm<transB = 1>(dy, w) d = ai.halfstep.GeluGrad<approximate = \"tanh\">(p, z) }",
     {"ai.halfstep.GemmActivationGrad"}},
    {"a gradient behind a Reshape",
     "(float[4,5] dy, float[8,5] w, float[4,8] z) => (float[2,2,8] d) <int64[3] s = {2, 2, 8}> "
     "{ r = Reshape(z, s) p = ai.halfstep.FusedGemm<transB = 1>(dy, w) q = Reshape(p, s) "
     "d = ai.halfstep.GeluGrad<approximate = \"tanh\">(q, r) }",
     {"ai.halfstep.GemmActivationGrad", "Reshape"}},
    {"a product that is read, too",
     "(float[4,5] dy, float[8,5] w, float[4,8] z) => (float[4,8] d, float[4,8] n) "
     "{ p = ai.halfstep.FusedGemm<transB = 1>(dy, w) d = ai.halfstep.GeluGrad<approximate = \"tanh\">(p, z) "
     "n = Neg(p) }",
     {"ai.halfstep.FusedGemm", "ai.halfstep.GeluGrad", "Neg"}},
    {"an operand that comes later",
     "(float[4,5] dy, float[8,5] w) => (float[4,8] d) { p = ai.halfstep.FusedGemm<transB = 1>(dy, w) "
     "z = ai.halfstep.FusedGemm<transB = 1>(dy, w) "
     "d = ai.halfstep.GeluGrad<approximate = \"tanh\">(p, z) }",
     {"ai.halfstep.FusedGemm", "ai.halfstep.FusedGemm", "ai.halfstep.GeluGrad"}},
    {"sums of the right operand",
     "(float[6,3] x, float[6,5] dy) => (float[3,5] w, float[5] b) <int64[1] rows = {0}> "
     "{ b = ReduceSum<keepdims = 0>(dy, rows) w = ai.halfstep.FusedGemm<transA = 1>(x, dy) }",
     {"ai.halfstep.GemmSums"}},
    {"sums of the left operand",
     "(float[6,3] x, float[6,5] dy) => (float[5,3] w, float[5] b) <int64[1] rows = {0}> "
     "{ w = ai.halfstep.FusedGemm<transA = 1>(dy, x) b = ReduceSum<keepdims = 0>(dy, rows) }",
     {"ai.halfstep.GemmSums"}},
    {"sums that are cast",
     "(float16[6,3] x, float16[6,5] dy) => (float[3,5] w, float[5] b) <int64[1] rows = {0}> "
     "{ w = ai.halfstep.FusedGemm<transA = 1, to = 1>(x, dy) s = ReduceSum<keepdims = 0>(dy, rows) "
     "b = Cast<to = 1>(s) }",
     {"ai.halfstep.GemmSums"}},
    {"sums of another type",
     "(float16[6,3] x, float16[6,5] dy) => (float[3,5] w, float16[5] b) <int64[1] rows = {0}> "
     "{ w = ai.halfstep.FusedGemm<transA = 1, to = 1>(x, dy) b = ReduceSum<keepdims = 0>(dy, rows) }",
     {"ai.halfstep.FusedGemm", "ReduceSum"}},
    {"sums along the other axis",
     "(float[6,3] x, float[6,5] dy) => (float[3,5] w, float[6] b) <int64[1] columns = {1}> "
     "{ b = ReduceSum<keepdims = 0>(dy, columns) w = ai.halfstep.FusedGemm<transA = 1>(x, dy) }",
     {"ReduceSum", "ai.halfstep.FusedGemm"}},
    {"sums that the product needs",
     "(float[6,5] dy) => (float[5,5] w, float[5] b) <int64[1] rows = {0}> "
     "{ b = ReduceSum<keepdims = 0>(dy, rows) x = Add(dy, b) w = ai.halfstep.FusedGemm<transA = 1>(x, dy) }",
     {"ReduceSum", "Add", "ai.halfstep.FusedGemm"}},
    {"what is added to a normalization",
     "(float[2,3,4] x, float[3] s, float[3] b, float[3] m) => (float[2,3,4] y) <float[3] v = {1, 2, 3}> "
     "{ n = BatchNormalization(x, s, b, m, v) r = Neg(x) a = Add(r, n) y = Relu(a) }",
     {"Neg", "ai.halfstep.FusedBatchNormalization"}},
    {"what is added to a normalization's elements alike",
     "(float[2,3,4] x, float[3] s, float[3] b, float[3] m, float[4] r) => (float[2,3,4] y) <float[3] v = {1, 2, 3}> "
     "{ n = BatchNormalization(x, s, b, m, v) y = Add(n, r) }",
     {"BatchNormalization", "Add"}},
    {"a normalization whose elements alike are added",
     "(float[1,3,4] x, float[3] s, float[3] b, float[3] m, float[2,3,4] r) => (float[2,3,4] y) "
     "<float[3] v = {1, 2, 3}> { n = BatchNormalization(x, s, b, m, v) y = Add(n, r) }",
     {"BatchNormalization", "Add"}},
    {"a normalization that is read, too",
     "(float[2,3,4] x, float[3] s, float[3] b, float[3] m) => (float[2,3,4] y, float[2,3,4] z) "
     "<float[3] v = {1, 2, 3}> { n = BatchNormalization(x, s, b, m, v) y = Add(n, x) z = Neg(n) }",
     {"BatchNormalization", "Add", "Neg"}},
};

TEST(FuseTraining, TakesWhatIsBeside) {
  for (const Case& c : kCases) {
    SCOPED_TRACE(c.what);
    const Graph before = parse(c.text), after = run_pipeline(before, {fuse(kFusions), remove_dead_nodes()});
    verify(after);
    EXPECT_EQ(ops_of(after), c.wanted) << to_text(after);
    for (const Node& node : after.nodes) {
      const bool has_operand = node.is_own("GemmActivation") && node.outputs.size() > 1;
      EXPECT_TRUE(!has_operand || !after.users(node.outputs[1]).empty()) << "nobody reads the activation's operand";
    }
    std::vector<Tensor> values;
    for (const ValueId id : before.inputs) {
      Tensor t(DType::f32, before[id].shape);
      for (float& x : t.span<float>()) x = std::sin(static_cast<float>(&x - t.data<float>()) + 1.0F);
      values.push_back(convert(t, before[id].dtype));
    }
    const auto want = run_graph(*make_reference_executor(), before, values);
    const auto got = run_graph(*make_reference_executor(), after, values);
    for (std::size_t i = 0; i < want.size(); ++i) {
      const std::vector<double> w = to_doubles(want[i]), g = to_doubles(got[i]);
      ASSERT_EQ(g.size(), w.size());
      // Sums in f16 were rounded before they were cast.
      for (std::size_t k = 0; k < w.size(); ++k) EXPECT_NEAR(g[k], w[k], 2e-3 * std::max(1.0, std::abs(w[k])));
    }
  }
}

}  // namespace
}  // namespace halfstep::testing
