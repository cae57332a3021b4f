// Models that runtimes load although the ONNX checker is stricter, and types that only later nodes tell.
#include "tests/conversion/conversion_testing.h"
#include "tests/data/temporary_folder.h"

namespace halfstep {
namespace {

using namespace halfstep::testing;
using ::testing::Each;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::Not;

std::string header_of(const std::string& opsets) { return "<ir_version: 10, opset_import: [" + opsets + "]> test "; }

/// As convert_model, without the checker.
Converted convert_unchecked(const ModelFile& source, const ConvertOptions& options) {
  Converted result{.bytes = convert(source, options).bytes(), .model = {}, .report = convert(source, options).report()};
  EXPECT_TRUE(result.model.ParseFromString(result.bytes));
  EXPECT_EQ(convert(ModelFile::from_bytes(result.bytes), options).bytes(), result.bytes);
  return result;
}

constexpr DType kHalves[] = {DType::f16, DType::bf16};

TEST(Dialect, OutputsAndInputsNeedNoShape) {
  for (const DType half : kHalves)
    for (const bool keep : {false, true}) {
      const Converted c = convert_unchecked(
          ModelFile::parse(header() + "(float[] x) => (float[] y) <float[2,2] w = {1, 2, 3, 4}> { y = MatMul(x, w) }"),
          {.half = half, .keep_io_types = keep});
      EXPECT_EQ(c.type_of("w"), name_of(half));
      for (const auto* info : {&c.graph().input(0), &c.graph().output(0)}) {
        EXPECT_EQ(element_type(*info), keep ? "f32" : name_of(half));
        EXPECT_FALSE(info->type().tensor_type().has_shape());
      }
    }
}

TEST(Dialect, AnOutputNeedsNoType) {
  onnx::ModelProto model;
  model.ParseFromString(
      convert(ModelFile::parse(header() + "(float[2,2] x) => (float[2,2] y) <float[2,2] w = {1, 2, 3, 4}> "
                                          "{ a = Softmax(x) y = MatMul(a, w) }"),
              {.keep_io_types = true, .keep_f32 = parse_node_patterns("op:MatMul")})
          .bytes());
  model.mutable_graph()->mutable_output(0)->clear_type();
  const Converted c = convert_unchecked(ModelFile::from_bytes(model.SerializeAsString()), {});
  EXPECT_FALSE(c.graph().output(0).has_type());
  EXPECT_EQ(c.type_of("w"), "f16");
}

TEST(Dialect, TheDomainOfOnnxHasTwoSpellings) {
  const char* body =
      "(float[2,2] x) => (float[2,2] y) <float[2,2] w = {1, 2, 3, 4}> { a = MatMul(x, w) y = ai.onnx.Relu(a) }";
  for (const char* opsets : {R"("": 20)", R"("ai.onnx": 20)", R"("": 20, "ai.onnx": 20)"}) {
    const Converted c = convert_model(ModelFile::parse(header_of(opsets) + body), {});
    EXPECT_EQ(c.type_of("w"), "f16") << opsets;
    EXPECT_TRUE(c.reported("Relu")->half) << opsets;
    EXPECT_EQ(c.model.opset_import_size(), 1) << opsets;
    EXPECT_EQ(c.report.opset_after, 20) << opsets;
  }
  EXPECT_THAT(error_of([&] { ModelFile::parse(header_of(R"("": 20, "ai.onnx": 19)") + body); }),
              HasSubstr("20 and 19 of 'ai.onnx'"));
  const char* function = R"((float[2,2] x) => (float[2,2] y) <float[2,2] w = {1, 2, 3, 4}> { y = local.twice(x, w) }
      <domain: "local", opset_import: ["ai.onnx": 20]> twice (p, q) => (r) {
        h = ai.onnx.MatMul(p, q)
        r = MatMul(h, q)
      })";
  for (const bool keep : {false, true}) {
    const Converted c =
        convert_model(ModelFile::parse(header_of(R"("ai.onnx": 20, "local": 1)") + function), {.keep_functions = keep});
    EXPECT_EQ(c.type_of("w"), keep ? "f32" : "f16");
  }
}

TEST(Dialect, LayerNormalizationOfOldOperatorSetsIsThatOfSeventeen) {
  for (const int opset : {11, 14, 16}) {
    const Converted c = convert_unchecked(ModelFile::parse(header(opset) + R"((float[2,2] x) => (float[2,2] y)
        <float[2,2] w = {1, 2, 3, 4}, float[2] s = {1, 2}, float[2] b = {0, 1}> {
          a = MatMul(x, w)
          n = LayerNormalization<axis = -1>(a, s, b)
          y = MatMul(n, w)
        })"),
                                          {});
    EXPECT_THAT(ops_of(c.graph()), ElementsAre("MatMul", "LayerNormalization", "MatMul")) << opset;
    EXPECT_EQ(c.type_of("s"), "f16");
    EXPECT_EQ(c.report.opset_after, opset);
  }
}

TEST(Dialect, SimplifiedLayerNormalizationStaysF32AndWhatFollowsIsKnown) {
  for (const DType half : kHalves) {
    const Converted c = convert_unchecked(ModelFile::parse(header(17) + R"((float[2,2] x) => (float[2,2] y)
        <float[2,2] w = {1, 2, 3, 4}, float[2] s = {1, 2}> {
          a = MatMul(x, w)
          n = SimplifiedLayerNormalization<axis = -1>(a, s)
          r = Neg(n)
          y = MatMul(r, w)
        })"),
                                          {.half = half});
    EXPECT_THAT(ops_of(c.graph()),
                ElementsAre("MatMul", "Cast", "SimplifiedLayerNormalization", "Cast", "Neg", "MatMul"));
  }
}

TEST(Dialect, GroupNormalizationBeforeTwentyOne) {
  const auto text = [](const std::string& parameters) {
    return "(float[1,4,2,2] x) => (float[1,4,2,2] y) <float[4,4,1,1] w = {1,0,0,0, 0,1,0,0, 0,0,1,0, 0,0,0,1}, " +
           parameters + "> { a = Conv(x, w) n = GroupNormalization<num_groups = 2>(a, s, b) y = Conv(n, w) }";
  };
  const ModelFile model = ModelFile::parse(header(18) + text("float[2] s = {1, 2}, float[2] b = {0, 1}"));
  const Converted f16 = convert_unchecked(model, {});
  EXPECT_THAT(ops_of(f16.graph()), ElementsAre("Conv", "GroupNormalization", "Conv"));
  EXPECT_EQ(f16.type_of("s"), "f16");
  // Convolutions have bf16 from 22 on, where the scale has an element for each channel.
  const Converted bf16 = convert_model(model, {.half = DType::bf16});
  EXPECT_EQ(bf16.report.opset_after, 22);
  const NamedTensors inputs = {
      {"x", Tensor::of<float>({1, 2, 3, 4, -1, 2, 0, 1, 5, 4, 3, 2, 1, 1, 2, 2}, Shape{1, 4, 2, 2})}};
  const auto y = run_bytes(bf16.bytes, inputs)[0];
  const auto expected =
      run_bytes(convert(ModelFile::parse(header(22) + text("float[4] s = {1, 1, 2, 2}, float[4] b = {0, 0, 1, 1}")),
                        {.keep_f32 = parse_node_patterns("node:.*")})
                    .bytes(),
                inputs)[0];
  ASSERT_EQ(y.size(), expected.size());
  for (std::size_t i = 0; i < y.size(); ++i) EXPECT_NEAR(y[i], expected[i], 0.03);
}

// What lies between the unknown operator and the weights must not hide its type.
TEST(Dialect, TypesBehindUnknownOperatorsAreTold) {
  for (const DType half : kHalves)
    for (const std::string between : {"b = Relu(a)", "r = Relu(a) b = MaxPool<kernel_shape = [1, 1]>(r)",
                                      "r = Relu(a) i = Identity(r) b = Neg(i)", "c = Shape(a) b = Expand(a, c)",
                                      "b = If(go) <then_branch = t () => (float[1,1,2,2] p) { p = Relu(a) }, "
                                      "else_branch = e () => (float[1,1,2,2] q) { q = Neg(a) }>"}) {
      const Converted c = convert_text(
          "(float[1,1,2,2] x, bool go) => (float[1,1,2,2] y) <float[1,1,1,1] w = {2}> { a = com.microsoft.Mystery(x) " +
              between + " y = Conv(b, w) }",
          {.half = half}, 22);
      EXPECT_EQ(c.type_of("w"), name_of(half)) << between;
      EXPECT_THAT(c.reported("com.microsoft.Mystery")->half, false);
      int casts_of_mystery = 0;
      for (const auto& node : c.graph().node()) casts_of_mystery += node.op_type() == "Cast" && node.input(0) == "a";
      EXPECT_EQ(c.report.casts_after, 2) << between << ": into the unknown operator and out of it";
      EXPECT_EQ(casts_of_mystery, 1) << between;
    }
  // A graph output tells as well.
  const Converted declared =
      convert_text("(float[2,2] x) => (float[2,2] y) { a = com.microsoft.Mystery(x) y = Relu(a) }", {}, 20);
  EXPECT_EQ(element_type(declared.graph().output(0)), "f16");
  EXPECT_EQ(declared.report.casts_after, 2);
}

TEST(Dialect, OperatorsThatTakeOneTypeGetOne) {
  struct Case {
    const char* text;
    int opset;
    std::vector<const char*> scales;
  };
  const Case cases[] = {
      {R"((float[2,4] x) => (float[2,4] y)
      <float[4,4] w = {1,0,0,0, 0,1,0,0, 0,0,1,0, 0,0,0,1}, float[4] s = {1, 2, 3, 4}> {
        a = MatMul(x, w)
        n = RMSNormalization(a, s)
        y = MatMul(n, w)
      })",
       23,
       {"s"}},
      {R"((float[2,4] x) => (float[2,4] n) <float[4] s = {1, 2, 3, 4}> { n = RMSNormalization(x, s) })", 23, {"s"}}};
  for (const Case& c : cases)
    for (const DType half : kHalves)
      for (const bool keep : {false, true}) {
        const Converted converted = convert_text(c.text, {.half = half, .keep_io_types = keep}, c.opset);
        const bool is_half = converted.reported("RMSNormalization")->half;
        for (const char* scale : c.scales) EXPECT_EQ(converted.type_of(scale), is_half ? name_of(half) : "f32");
        for (const auto& node : converted.graph().node()) {
          if (node.op_type() != "RMSNormalization") continue;
          const bool cast = node.input(0).find(std::string(".") + std::string(name_of(half))) != std::string::npos;
          const bool same = node.input(0) == "a" || (node.input(0) == "x" && !keep) || cast;
          EXPECT_EQ(same, is_half) << node.input(0);
        }
      }
  // Where the type of one is not known, the other stays as it is.
  const Converted unknown = convert_text(R"((float[2,4] x) => (float[2,4] y)
      <float[4] s = {1, 2, 3, 4}, float[4,4] w = {1,0,0,0, 0,1,0,0, 0,0,1,0, 0,0,0,1}> {
        a = com.microsoft.Mystery(x)
        n = RMSNormalization(a, s)
        y = MatMul(n, w)
      })",
                                         {}, 23);
  EXPECT_EQ(unknown.type_of("s"), "f32");
  EXPECT_EQ(unknown.type_of("w"), "f16");
}

// Of which the checker's inference knows no results.
TEST(Dialect, CastsOfTheFirstOperatorSetsNameTheirTypes) {
  for (const DType half : kHalves) {
    const Converted c = convert_unchecked(
        ModelFile::parse(header(5) + R"((float[2,2] x, int64[2,2] n) => (float[2,2] y) <float[2,2] w = {1, 2, 3, 4}> {
          a = MatMul(x, w)
          i = Cast<to = "FLOAT">(n)
          s = Softmax(a)
          b = MatMul(s, w)
          y = Add(b, i)
        })"),
        {.half = half, .keep_io_types = true});
    EXPECT_EQ(c.type_of("w"), name_of(half));
    EXPECT_EQ(c.report.opset_after, half == DType::f16 ? 5 : 13);
    for (const auto& node : c.graph().node())
      EXPECT_EQ(node.op_type() == "Cast" && node.attribute(0).has_s(), node.op_type() == "Cast" && half == DType::f16);
  }
}

TEST(Dialect, SparseWeightsBecomeDenseAndHalf) {
  onnx::ModelProto model;
  model.ParseFromString(
      convert(ModelFile::parse(header() + "(float[2,2] x) => (float[2,2] y) <float[2,2] v = {1, 2, 3, 4}> "
                                          "{ a = MatMul(x, v) y = MatMul(a, v) }"),
              {.keep_io_types = true, .keep_f32 = parse_node_patterns("op:MatMul")})
          .bytes());
  auto& sparse = *model.mutable_graph()->add_sparse_initializer();
  *sparse.mutable_values() = tensor_to_proto(Tensor::of<float>({5, 6}), "w");
  *sparse.mutable_indices() = tensor_to_proto(Tensor::of<std::int64_t>({0, 3}), "");
  sparse.add_dims(2);
  sparse.add_dims(2);
  model.mutable_graph()->mutable_node(1)->set_input(1, "w");
  for (const DType half : kHalves) {
    const Converted c = convert_unchecked(ModelFile::from_bytes(model.SerializeAsString()), {.half = half});
    EXPECT_THAT(ops_of(c.graph()), ElementsAre("MatMul", "MatMul"));
    EXPECT_EQ(c.type_of("w"), name_of(half));
    EXPECT_EQ(c.graph().sparse_initializer_size(), 0);
  }
}

// Whose inference never ends, and is asked for when the operator set is raised.
TEST(Dialect, AnEquationThatCannotBeInferredIsConverted) {
  for (const DType half : kHalves) {
    const Converted c = convert_unchecked(
        ModelFile::parse(header(12) + R"((float[1,1,4,4] x) => (float[1,1,4,4] c, float y) <float[1,1,1,1] w = {2}> {
          c = Conv(x, w)
          y = Einsum<equation = "abcd-">(c)
        })"),
        {.half = half});
    EXPECT_EQ(c.type_of("w"), name_of(half));
    EXPECT_EQ(c.report.opset_after > 12, half == DType::bf16) << c.report.opset_after;
  }
}

TEST(Dialect, ReportsAreNamedAfterTheFile) {
  const TemporaryFolder folder;
  const ModelFile parsed = ModelFile::parse(header() + "(float[2] x) => (float[2] y) { y = Relu(x) }");
  const Conversion conversion = convert(parsed);
  EXPECT_EQ(conversion.report().model, "test") << "the graph's, without a file";
  conversion.save(folder / "a model.onnx");
  const ConversionReport report = convert(ModelFile::open(folder / "a model.onnx")).report();
  EXPECT_EQ(report.model, "a model.onnx");
  EXPECT_THAT(report_html(report), HasSubstr("<title>a model.onnx</title>"));
}

}  // namespace
}  // namespace halfstep
