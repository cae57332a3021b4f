// Models made to trip converters.
#include <cmath>

#include "tests/conversion/conversion_testing.h"

namespace halfstep {
namespace {

using namespace halfstep::testing;
using ::testing::Contains;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

constexpr const char* kMaskedAttention = R"((float[2,4] q, float[4,2] k, float[2,2] mask) => (float[2,2] p)
    <float one = {1}, float big = {-1000000000}> {
      s = MatMul(q, k)
      hidden = Sub(one, mask)
      bias = Mul(hidden, big)
      t = Add(s, bias)
      p = Softmax(t)
    })";

TEST(Traps, AttentionMaskOfAMilliardNeedsNoCareInF32) {
  const Converted c = convert_text(kMaskedAttention, kKeepIo);
  EXPECT_THAT(ops_of(c.graph()), ElementsAre("Cast", "Cast", "MatMul", "Cast", "Sub", "Mul", "Add", "Softmax"));
  EXPECT_THAT(c.values("big"), ElementsAre(-1e9f));
}

TEST(Traps, AttentionMaskOfAMilliardIsClampedAndReported) {
  ConvertOptions options = kKeepIo;
  options.force_half = parse_node_patterns("op:Softmax");
  const Converted c = convert_text(kMaskedAttention, options);
  EXPECT_THAT(c.values("big"), ElementsAre(-32752));
  EXPECT_THAT(c.report.notes, Contains(HasSubstr("'big'")));
  EXPECT_THAT(c.report.warnings, IsEmpty());
  // The first row is masked as a whole: adding to the mask must not overflow.
  const NamedInputs inputs = {{"q", Tensor::of<float>({-60, 1, 2, 3, 1, 1, 1, 1}, Shape{2, 4})},
                              {"k", Tensor::of<float>({60, 60, 1, 2, 3, 4, 5, 6}, Shape{4, 2})},
                              {"mask", Tensor::of<float>({0, 0, 1, 0}, Shape{2, 2})}};
  const auto p = run_bytes(c.bytes, inputs)[0];
  for (double x : p) EXPECT_TRUE(std::isfinite(x));
  EXPECT_NEAR(p[2], 1, 1e-3);
  EXPECT_NEAR(p[3], 0, 1e-6);
}

TEST(Traps, MasksOfInfinityAndOfTheLowestF32) {
  for (const char* value : {"-inf", "-3.4028234e38"}) {
    for (const DType half : {DType::f16, DType::bf16}) {
      const Converted c = convert_text(std::string(R"((float[2,4] q, float[4,2] k, bool[2,2] keep) => (float[2,2] p)
          <float low = {)") + value + R"(}> {
            s = MatMul(q, k)
            t = Where(keep, s, low)
            p = Softmax(t)
          })",
                                       {.half = half, .keep_io_types = true});
      ASSERT_EQ(c.type_of("low"), name_of(half));
      EXPECT_THAT(c.values("low"), ElementsAre(::testing::DoubleNear(-largest(half) / 2, largest(half) * 1e-2)));
    }
  }
}

TEST(Traps, AnOverflowingConstantThatIsNoMaskKeepsItsNodeInF32) {
  const Converted c = convert_text(R"((float[2,2] x) => (float[2,2] y)
      <float[2,2] w = {1e6, 2, 3, 4}> { y = MatMul(x, w) })",
                                   kKeepIo);
  EXPECT_EQ(c.type_of("w"), "f32");
  EXPECT_THAT(c.report.warnings, ElementsAre(HasSubstr("'w' stays f32")));
  EXPECT_THAT(ops_of(c.graph()), ElementsAre("MatMul"));
}

TEST(Traps, BoundsBeyondTheRangeAreNoReasonForF32) {
  const Converted c = convert_text(R"((float[2,2] x) => (float[2,2] y)
      <float[2,2] w = {1, 2, 3, 4}, float low = {0}, float high = {3.4028234e38}> {
        a = MatMul(x, w)
        b = Clip(a, low, high)
        y = MatMul(b, w)
      })");
  EXPECT_THAT(c.values("high"), ElementsAre(65504));
  EXPECT_THAT(ops_of(c.graph()), ElementsAre("MatMul", "Clip", "MatMul"));
}

// Spelt out as exporters before opset 17 do: squares of 300 are beyond f16.
constexpr const char* kLayerNorm = R"((float[2,4] x) => (float[2,4] z)
    <float[4,4] w = {1,0,0,0, 0,1,0,0, 0,0,1,0, 0,0,0,1}, float eps = {1e-5}, int64[1] last = {-1}> {
      a = MatMul(x, w)
      mean = ReduceMean(a, last)
      d = Sub(a, mean)
      s = Mul(d, d)
      var = ReduceMean(s, last)
      v = Add(var, eps)
      std = Sqrt(v)
      y = Div(d, std)
      z = MatMul(y, w)
    })";

TEST(Traps, LayerNormOverLargeActivations) {
  const Converted c = convert_text(kLayerNorm, kKeepIo);
  EXPECT_EQ(c.type_of("eps"), "f32");
  EXPECT_FALSE(c.reported("Mul")->half);
  const NamedInputs inputs = {{"x", Tensor::of<float>({-900, 300, 600, 900, 1, 2, 3, 4}, Shape{2, 4})}};
  const auto z = run_bytes(c.bytes, inputs)[0];
  const auto expected = run_bytes(trained_model_bytes(*parse_model(header() + kLayerNorm).source, {}), inputs)[0];
  for (std::size_t i = 0; i < z.size(); ++i) EXPECT_NEAR(z[i], expected[i], 2e-3);
}

TEST(Traps, CalibrationKeepsWhatOverflowsOrUnderflowsInF32) {
  const ModelFile model = ModelFile::parse(header() + R"((float[1,2] x) => (float[1,2] y)
      <float[2,2] w = {300, 1, 1, 300}, float[2,2] v = {1, 2, 3, 4}, float[2,2] u = {0.0001, 0, 0, 0.0001}> {
        a = MatMul(x, w)
        b = MatMul(a, v)
        c = MatMul(x, u)
        d = MatMul(c, u)
        y = Add(b, d)
      })");
  const std::unique_ptr<Executor> executor = make_reference_executor();
  ConvertOptions options = kKeepIo;
  const NamedInputs inputs = {{"x", Tensor::of<float>({400, 400}, Shape{1, 2})}};
  EXPECT_TRUE(convert(model, options).report().nodes[0].half);
  options.measured = measure_ranges(model, inputs, *executor);
  EXPECT_EQ(options.measured.at("a").max, 120400);
  const Converted c = convert_model(model, options);
  EXPECT_FALSE(c.report.nodes[0].half);
  EXPECT_THAT(c.report.nodes[0].reason, HasSubstr("1.2e+05"));
  EXPECT_FALSE(c.report.nodes[1].half) << "reads what overflows";
  EXPECT_TRUE(c.report.nodes[2].half);
  EXPECT_FALSE(c.report.nodes[3].half) << "4e-6 is below the smallest normal number";
  const auto outputs = run_bytes(c.bytes, inputs);
  for (double y : outputs[0]) EXPECT_TRUE(std::isfinite(y));
}

TEST(Traps, WeightsThatWouldVanishStayInF32) {
  const Converted c = convert_text(R"((float[2,2] x) => (float[2,2] y, float[2,2] z)
      <float[2,2] tiny = {1e-8, 2e-8, -1e-8, 3e-8}, float[2,2] some = {1, 0.5, 1e-8, 2}> {
        y = MatMul(x, tiny)
        z = MatMul(x, some)
      })",
                                   kKeepIo);
  EXPECT_EQ(c.type_of("tiny"), "f32");
  EXPECT_EQ(c.type_of("some"), "f16") << "one small entry among large ones loses nothing";
  EXPECT_THAT(c.report.warnings, ElementsAre(HasSubstr("'tiny'")));
}

TEST(Traps, ResizeKeepsItsScalesInF32) {
  for (const int opset : {11, 13, 20}) {
    const Converted c = convert_text(R"((float[1,1,2,2] x) => (float[1,1,4,4] z)
        <float[1,1,1,1] w = {2}, float[0] roi = {}, float[4] scales = {1, 1, 2, 2}> {
          y = Conv(x, w)
          r = Resize(y, roi, scales)
          z = Conv(r, w)
        })",
                                     {}, opset);
    EXPECT_EQ(c.type_of("scales"), "f32") << opset;
    EXPECT_EQ(c.type_of("w"), "f16");
    EXPECT_THAT(ops_of(c.graph()), ElementsAre("Conv", "Resize", "Conv"));
  }
}

TEST(Traps, OutputsKeepTheirNamesWhenACastBeforeThemGoes) {
  const Converted c = convert_text("(float16[4] x) => (float[4] y, float[4] z) { y = Cast <to = 1> (x) z = Exp(y) }");
  EXPECT_EQ(c.graph().output(0).name(), "y");
  EXPECT_EQ(element_type(c.graph().output(0)), "f16");
  EXPECT_EQ(c.graph().output(1).name(), "z");
}

TEST(Traps, AnInitializerThatIsAGraphOutputToo) {
  const char* text = R"((float[2,2] x) => (float[2,2] y, float[2,2] w)
      <float[2,2] w = {1, 2, 3, 4}> { y = MatMul(x, w) })";
  const Converted kept = convert_text(text, kKeepIo);
  EXPECT_EQ(kept.type_of("w"), "f32");
  EXPECT_EQ(kept.type_of("w.f16"), "f16");
  const Converted all = convert_text(text);
  EXPECT_EQ(all.type_of("w"), "f16");
  EXPECT_EQ(all.graph().initializer_size(), 1);
  EXPECT_EQ(element_type(all.graph().output(1)), "f16");
}

TEST(Traps, ASharedInitializerIsSplitForAReaderThatNeedsF32) {
  const Converted c = convert_text(R"((float[2,2] x) => (float[2,2] y, float[2,2] z)
      <float[2,2] w = {1, 2, 3, 4}> { y = MatMul(x, w) z = Pow(x, w) })",
                                   kKeepIo);
  EXPECT_EQ(c.type_of("w"), "f32");
  EXPECT_EQ(c.node_of("MatMul")->input(1), "w.f16");
  EXPECT_EQ(c.node_of("Pow")->input(1), "w");
}

TEST(Traps, AGraphThatIsHalfF16Already) {
  // f16 is written by its bits: 1, 2, 3 and 4.
  const Converted c = convert_text(R"((float16[2,2] x) => (float[2,2] y)
      <float16[2,2] v = {15360, 16384, 16896, 17408}, float[2,2] w = {1, 2, 3, 4}> {
        a = MatMul(x, v)
        b = Cast<to = 1>(a)
        c = MatMul(b, w)
        d = Cast<to = 10>(c)
        e = MatMul(d, v)
        y = Cast<to = 1>(e)
      })",
                                   kKeepIo);
  EXPECT_THAT(ops_of(c.graph()), ElementsAre("MatMul", "MatMul", "MatMul", "Cast"));
  EXPECT_EQ(c.type_of("w"), "f16");
}

TEST(Traps, StatisticsOfANodeThatIsHalfAlreadyStayF32) {
  const Converted c = convert_text(R"((float[2,3,4] x, float[3] s, float[3] b, float[3] m, float[3] v)
      => (float[2,3,4] y, float[3] m2, float[3] v2) {
        y, m2, v2 = BatchNormalization<training_mode = 1>(x, s, b, m, v)
      })");
  EXPECT_EQ(c.report.casts_after, 6);
}

TEST(Traps, AttentionTakesAllItsOperandsInOneType) {
  const Converted c = convert_text(R"((float[1,1,2,4] q, float[1,1,2,4] k, float[1,1,2,4] v) => (float[1,1,2,4] y) {
        y = Attention<is_causal = 1>(q, k, v)
      })",
                                   kKeepIo, 24);
  EXPECT_EQ(c.report.casts_after, 4);
}

TEST(Traps, ChainsOfCasts) {
  const Converted c = convert_text(R"((float[2,2] x, int32[2,2] i) => (float[2,2] y, float[2,2] z)
      <float[2,2] w = {1, 2, 3, 4}> {
        a = Cast<to = 10>(x)
        b = Cast<to = 1>(a)
        y = Softmax(b)
        c = Cast<to = 1>(i)
        d = Cast<to = 10>(c)
        e = Cast<to = 1>(d)
        f = Relu(e)
        z = MatMul(f, w)
      })",
                                   kKeepIo);
  EXPECT_EQ(c.node_of("Softmax")->input(0), "x");
  EXPECT_EQ(c.node_of("Relu")->input(0), "c");
}

TEST(Traps, QuantisedPartsStayAsTheyAre) {
  const Converted c = convert_text(R"((float[2,2] x) => (float[2,2] y)
      <uint8[2,2] wq = {1, 2, 3, 4}, float s = {0.1}, uint8 z = {128}, float[2,2] v = {1, 2, 3, 4}> {
        q = QuantizeLinear(x, s, z)
        a = DequantizeLinear(q, s, z)
        w = DequantizeLinear(wq, s, z)
        b = MatMul(a, w)
        r = QuantizeLinear(b, s, z)
        c = DequantizeLinear(r, s, z)
        d = Softmax(c)
        y = MatMul(d, v)
      })",
                                   kKeepIo);
  EXPECT_EQ(c.type_of("s"), "f32");
  EXPECT_EQ(c.type_of("v"), "f16");
  EXPECT_THAT(ops_of(c.graph()),
              ElementsAre("QuantizeLinear", "DequantizeLinear", "DequantizeLinear", "MatMul", "QuantizeLinear",
                          "DequantizeLinear", "Softmax", "Cast", "MatMul", "Cast"));
}

TEST(Traps, SequencesKeepTheirElementType) {
  const Converted c = convert_text(R"((float[2,2] x) => (float[4,2] y)
      <float[2,2] w = {1, 2, 3, 4}, int64 at = {0}> {
        a = MatMul(x, w)
        s = SequenceConstruct(a, x)
        b = SequenceAt(s, at)
        e = Relu(b)
        t = SequenceInsert(s, e)
        y = ConcatFromSequence<axis = 0>(t)
      })");
  EXPECT_EQ(c.type_of("w"), "f16");
  EXPECT_FALSE(c.reported("SequenceConstruct")->half);
}

TEST(Traps, AShapeThatIsAskedForIsNoReasonForASecondCopy) {
  const Converted c = convert_text(R"((float[2,2] x) => (float[2,2] y, int64[2] s)
      <float[2,2] w = {1, 2, 3, 4}> { y = MatMul(x, w) s = Shape(w) })",
                                   kKeepIo);
  EXPECT_EQ(c.graph().initializer_size(), 1);
  EXPECT_EQ(c.node_of("Shape")->input(0), "w");
}

TEST(Traps, UnknownOperatorsKeepF32AndTheirReadersKnowIt) {
  const Converted c = convert_text(R"((float[2,2] x) => (float[2,2] y)
      <float[2,2] w = {1, 2, 3, 4}> {
        a = MatMul(x, w)
        b = com.microsoft.Mystery(a, w)
        y = MatMul(b, w)
      })");
  EXPECT_THAT(ops_of(c.graph()), ElementsAre("MatMul", "Cast", "Mystery", "Cast", "MatMul"));
  EXPECT_EQ(c.node_of("Mystery")->domain(), "com.microsoft");
  EXPECT_EQ(c.type_of("w"), "f32");
  EXPECT_EQ(c.type_of("w.f16"), "f16");
}

constexpr const char* kWithFunction = R"(
    <ir_version: 10, opset_import: ["": 20, "local": 1]> test (float[2,2] x) => (float[2,2] y)
    <float[2,2] w = {1, 2, 3, 4}> { a = local.twice(x, w) y = MatMul(a, w) }
    <domain: "local", opset_import: ["": 20]> twice (p, q) => (r) { h = MatMul(p, q) r = MatMul(h, q) })";

TEST(Traps, LocalFunctionsAreInlinedOrKept) {
  const Converted inlined = convert_model(ModelFile::parse(kWithFunction), {});
  EXPECT_THAT(ops_of(inlined.graph()), ElementsAre("MatMul", "MatMul", "MatMul"));
  EXPECT_EQ(inlined.model.functions_size(), 0);
  EXPECT_EQ(inlined.type_of("w"), "f16");
  ConvertOptions keep;
  keep.keep_functions = true;
  const Converted kept = convert_model(ModelFile::parse(kWithFunction), keep);
  EXPECT_THAT(ops_of(kept.graph()), ElementsAre("Cast", "twice", "Cast", "MatMul"));
  EXPECT_EQ(kept.model.functions_size(), 1);
}

TEST(Traps, AnUnsortedGraphIsSorted) {
  onnx::ModelProto model;
  model.ParseFromString(convert(ModelFile::parse(header() + R"((float[2,2] x) => (float[2,2] y)
      <float[2,2] w = {1, 2, 3, 4}> { a = MatMul(x, w) b = Softmax(a) y = MatMul(b, w) })"),
                                {.keep_io_types = true, .keep_f32 = {{NodePattern::Kind::op, "MatMul"}}})
                            .bytes());
  ASSERT_EQ(model.graph().node_size(), 3);
  model.mutable_graph()->mutable_node()->SwapElements(0, 2);
  const Converted c = convert_model(ModelFile::from_bytes(model.SerializeAsString()), kKeepIo);
  EXPECT_THAT(ops_of(c.graph()), ElementsAre("Cast", "MatMul", "Cast", "Softmax", "Cast", "MatMul", "Cast"));
}

TEST(Traps, IntegersThatWereCastToFloatsStayExact) {
  const Converted c = convert_text(R"((float[1,3] x, int64[3] position) => (float[1,3] y)
      <float[3,3] w = {1,0,0, 0,1,0, 0,0,1}, float[1,3] rate = {1, 0.5, 0.25}> {
        p = Cast<to = 1>(position)
        angle = Mul(p, rate)
        c = Cos(angle)
        a = MatMul(x, w)
        y = Mul(a, c)
      })",
                                   kKeepIo);
  EXPECT_FALSE(c.reported("Mul")->half) << "positions above 2048 are no numbers of f16";
}

TEST(Traps, WeightsReachTheirProductThroughDataMovement) {
  const Converted c = convert_text(R"((int64[3] ids, float[3,2] x) => (float[3,3] y)
      <float[3,2] w = {1, 2, 3, 4, 5, 6}, float[9,2] table = {0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16,17}> {
        t = Transpose(w)
        e = Gather(table, ids)
        s = Add(e, x)
        y = MatMul(s, t)
      })");
  EXPECT_EQ(c.type_of("w"), "f16");
  EXPECT_EQ(c.type_of("table"), "f16");
  EXPECT_EQ(c.report.casts_after, 0);
}

}  // namespace
}  // namespace halfstep
