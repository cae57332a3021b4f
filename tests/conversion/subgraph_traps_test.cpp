// Bodies of If, Loop and Scan made to trip converters.
#include <cmath>

#include "tests/conversion/conversion_testing.h"

namespace halfstep {
namespace {

using namespace halfstep::testing;
using ::testing::Contains;
using ::testing::ElementsAre;

TEST(SubgraphTraps, StateCarriedByALoopKeepsItsType) {
  const Converted c = convert_text(R"((int64 n, bool go, float[2,2] s0) => (float[2,2] s, float[k,2,2] all)
      <float[2,2] w = {1, 2, 3, 4}> {
        s, all = Loop(n, go, s0) <body = step (int64 i, bool keep, float[2,2] before)
            => (bool more, float[2,2] after, float[2,2] seen) {
          more = Identity(keep)
          after = MatMul(before, w)
          seen = Relu(after)
        }>
      })");
  const auto& body = c.node_of("Loop")->attribute(0).g();
  EXPECT_EQ(element_type(body.input(2)), "f32");
  EXPECT_EQ(element_type(body.output(1)), "f32");
  EXPECT_EQ(element_type(body.output(2)), "f16") << "stacked, not carried";
  EXPECT_EQ(c.type_of("w"), "f16") << "captured by the body, and read by nothing but its product";
  EXPECT_THAT(ops_of(body), Contains("MatMul"));
  EXPECT_EQ(element_type(c.graph().input(2)), "f16");
}

TEST(SubgraphTraps, IfWithCapturesOfTheOuterGraph) {
  const Converted c = convert_text(R"((float[2,2] x, bool b) => (float[2,2] y)
      <float[2,2] w = {1, 2, 3, 4}> {
        h = MatMul(x, w)
        c = If(b) <
          then_branch = t () => (float[2,2] p) { q = MatMul(h, w) p = Relu(q) },
          else_branch = e () => (float[2,2] r) { r = Softmax(h) }>
        y = MatMul(c, w)
      })",
                                   kKeepIo);
  EXPECT_EQ(c.type_of("w"), "f16");
  const auto* node = c.node_of("If");
  // Both branches give half, which the product after them reads.
  EXPECT_THAT(ops_of(node->attribute(0).g()), ElementsAre("MatMul", "Relu"));
  EXPECT_EQ(element_type(node->attribute(0).g().output(0)), "f16");
  // Softmax reads a copy of h in f32: one Cast, in the graph that defines h.
  EXPECT_THAT(ops_of(node->attribute(1).g()), ElementsAre("Softmax", "Cast"));
  EXPECT_EQ(element_type(node->attribute(1).g().output(0)), "f16");
  EXPECT_EQ(c.report.casts_after, 4) << "into the model and out of it, and around Softmax";
  EXPECT_EQ(c.reported("If")->reason, "passes values in half");
  for (const bool b : {false, true}) {
    const NamedTensors inputs = {{"x", Tensor::of<float>({1, -1, 0.5, 0.25}, Shape{2, 2})}, {"b", Tensor::scalar(b)}};
    const auto outputs = run_bytes(c.bytes, inputs);
    for (double y : outputs[0]) EXPECT_TRUE(std::isfinite(y));
  }
}

TEST(SubgraphTraps, BranchesThatNeedF32HandItOver) {
  constexpr std::string_view kText = R"((float[2,2] x, bool b) => (float[2,2] y) {
        c = If(b) <
          then_branch = t () => (float[2,2] p) { p = Softmax(x) },
          else_branch = e () => (float[2,2] r) { r = Exp(x) }>
        y = Log(c)
      })";
  EXPECT_EQ(convert_text(std::string(kText), kKeepIo).report.casts_after, 0);
  constexpr std::string_view kProducts = R"((float[2,2] x, bool b) => (float[2,2] y) {
        h = MatMul(x, x)
        c = If(b) <
          then_branch = t () => (float[2,2] p) { p = Relu(h) },
          else_branch = e () => (float[2,2] r) { r = Constant <value = float[2,2] {1e6, 1, 1, 1}> () }>
        y = MatMul(c, h)
      })";
  EXPECT_EQ(element_type(convert_text(std::string(kProducts)).node_of("If")->attribute(0).g().output(0)), "f32")
      << "a constant of the other branch does not fit";
  EXPECT_EQ(element_type(convert_text(R"((float[2,2] x, bool b) => (float[2,2] y) {
        h = MatMul(x, x)
        c = If(b) <
          then_branch = t () => (float[2,2] p) { p = Relu(h) },
          else_branch = e () => (float[2,2] r) { r = MatMul(h, h) }>
        y = MatMul(c, h)
      })",
                                      {.keep_f32 = parse_node_patterns("op:If")})
                             .node_of("If")
                             ->attribute(0)
                             .g()
                             .output(0)),
            "f32");
}

TEST(SubgraphTraps, ScanGoesThroughHalfAndStacksHalf) {
  const Converted c = convert_text(R"((float[2] s0, float[3,2] a) => (float[2] s, float[3,2] y)
      <float[2,2] w = {1, 2, 3, 4}> {
        xs = MatMul(a, w)
        s, ys = Scan <num_scan_inputs = 1, body = step (float[2] before, float[2] x) => (float[2] after, float[2] m) {
          after = Add(before, x)
          m = MatMul(x, w)
        }> (s0, xs)
        y = MatMul(ys, w)
      })",
                                   kKeepIo);
  const auto& body = c.node_of("Scan")->attribute(0).has_g() ? c.node_of("Scan")->attribute(0).g()
                                                             : c.node_of("Scan")->attribute(1).g();
  EXPECT_EQ(element_type(body.input(0)), "f32") << "a sum over the sequence";
  EXPECT_EQ(element_type(body.input(1)), "f16");
  EXPECT_EQ(element_type(body.output(0)), "f32");
  EXPECT_EQ(element_type(body.output(1)), "f16");
  EXPECT_EQ(c.report.casts_after, 3) << "into the model, out of it, and to the sum";
}

TEST(SubgraphTraps, CastsToTheSameTypeAtABodysEndPassOnWhatTheyGet) {
  for (const char* cast : {"Cast<to = 1>(m)", "CastLike(m, a)", "Identity(m)"}) {
    const Converted c = convert_text(std::string(R"((float[3,2] a) => (float[3,2] y) <float[2,2] w = {1, 2, 3, 4}> {
        ys = Scan <num_scan_inputs = 1, body = step (float[2] x) => (float[2] r) {
          m = MatMul(x, w)
          r = )") + cast + R"(
        }> (a)
        y = MatMul(ys, w)
      })",
                                     kKeepIo);
    EXPECT_EQ(c.report.casts_after, 2) << cast << ": into the model and out of it";
  }
}

TEST(SubgraphTraps, ScanBodyIsConvertedInside) {
  const Converted c = convert_text(R"((float[2] s0, float[3,2] xs) => (float[2] s, float[3,2] ys)
      <float[2,2] w = {1, 2, 3, 4}> {
        s, ys = Scan <num_scan_inputs = 1, body = step (float[2] a, float[2] x) => (float[2] b, float[2] y) {
          m = MatMul(x, w)
          b = Add(a, m)
          y = Relu(b)
        }> (s0, xs)
      })",
                                   kKeepIo);
  EXPECT_EQ(c.type_of("w"), "f16");
  EXPECT_EQ(c.report.casts_after, 2) << "into the product and out of it";
}

}  // namespace
}  // namespace halfstep
