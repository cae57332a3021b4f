// Models made to trip converters.
#include "tests/conversion/conversion_testing.h"

namespace halfstep {
namespace {

using namespace halfstep::testing;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

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

TEST(Traps, BatchNormalizationTakesItsConstantsInTheTypeOfItsData) {
  const auto convert_with = [](const std::string& variance, const std::string& node) {
    return convert_text(
        "(float[2,2,4] x) => (float[2,2,4] y) <float[2] s = {1, 2}, float[2] b = {0, 1}, "
        "float[2] m = {0.5, 1}, float[2] v = {" +
            variance +
            "}, float[2,2,1] w = {1,0, 0,1}> { "
            "c = Conv(x, w) " +
            node + " y = Conv(n, w) }",
        kKeepIo);
  };
  for (const char* node :
       {"n = BatchNormalization(c, s, b, m, v)", "n, m2, v2 = BatchNormalization<training_mode = 1>(c, s, b, m, v)"}) {
    const Converted c = convert_with("1, 0.25", node);
    for (const char* name : {"s", "b", "m", "v"}) EXPECT_EQ(c.type_of(name), "f16") << name;
    EXPECT_EQ(c.report.casts_after, 2);
  }
  const Converted read = convert_with("1, 0.25",
                                      "a, m2, v2 = BatchNormalization<training_mode = 1>(c, s, b, m, v) "
                                      "n = BatchNormalization(a, s, b, m2, v2)");
  EXPECT_EQ(read.type_of("m"), "f32");
  const Converted small = convert_with("1e-9, 2e-9", "n = BatchNormalization(c, s, b, m, v)");
  EXPECT_EQ(small.type_of("v"), "f32");
  EXPECT_THAT(small.report.warnings, ElementsAre(HasSubstr("'v' stays f32")));
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

TEST(Traps, ForcedQuantisationLeavesItsScaleInF32) {
  ConvertOptions options = kKeepIo;
  options.force_half = parse_node_patterns("op:QuantizeLinear");
  const Converted c = convert_text(
      "(float[2] x, float s) => (uint8[2] y) <uint8 z = {0}> { y = QuantizeLinear(x, s, z) }", options, 23);
  EXPECT_EQ(c.report.casts_after, 1);
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

TEST(Traps, ScatteredSumsStayInF32) {
  const auto is_half = [](const char* attributes) {
    return convert_text(std::string(R"((float[2,2] x, int64[1,1] at, float[1,2] more) => (float[2,2] y)
        <float[2,2] w = {1, 2, 3, 4}> {
          a = MatMul(x, w)
          s = ScatterND)") + attributes +
                            R"((a, at, more)
          y = MatMul(s, w)
        })",
                        kKeepIo)
        .reported("ScatterND")
        ->half;
  };
  EXPECT_TRUE(is_half(""));
  EXPECT_TRUE(is_half("<reduction = \"none\">"));
  EXPECT_FALSE(is_half("<reduction = \"add\">"));
}

TEST(Traps, NothingIsCastForACastLikeToImitate) {
  const Converted c = convert_text(R"((float[2,4] x, int64 scale) => (float[2,4] y)
      <float[4,4] w = {1,0,0,0, 0,1,0,0, 0,0,1,0, 0,0,0,1}, float half = {0.5}> {
        h = MatMul(x, w)
        f = CastLike(scale, h)
        g = CastLike(half, h)
        r = Sqrt(f)
        a = Mul(h, r)
        b = Mul(a, g)
        y = MatMul(b, w)
      })",
                                   kKeepIo);
  EXPECT_THAT(ops_of(c.graph()), ElementsAre("Cast", "MatMul", "Cast", "Sqrt", "Cast", "Mul", "Mul", "MatMul", "Cast"));
  EXPECT_EQ(c.type_of("half"), "f16");
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
