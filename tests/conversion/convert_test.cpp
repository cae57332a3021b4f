// Options and reports.
#include <nlohmann/json.hpp>

#include "tests/conversion/conversion_testing.h"
#include "tests/data/temporary_folder.h"

namespace halfstep {
namespace {

using namespace halfstep::testing;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

constexpr const char* kTwoProducts = R"((float[2,2] x) => (float[2,2] y)
    <float[2,2] w = {1, 2, 3, 4}, float[2,2] v = {1, 2, 3, 4}> {
      a = MatMul(x, w)
      b = Softmax(a)
      y = MatMul(b, v)
    })";

TEST(Convert, InputsAndOutputsBecomeHalfUnlessKept) {
  const Converted all = convert_text(kTwoProducts);
  EXPECT_EQ(element_type(all.graph().input(0)), "f16");
  EXPECT_EQ(element_type(all.graph().output(0)), "f16");
  EXPECT_THAT(ops_of(all.graph()), ElementsAre("MatMul", "Cast", "Softmax", "Cast", "MatMul"));

  const Converted kept = convert_text(kTwoProducts, kKeepIo);
  EXPECT_EQ(element_type(kept.graph().input(0)), "f32");
  EXPECT_EQ(element_type(kept.graph().output(0)), "f32");
  EXPECT_EQ(kept.graph().output(0).name(), "y");
  EXPECT_EQ(kept.report.casts_after, 4);

  ConvertOptions some;
  some.keep_io_names = {"x"};
  const Converted named = convert_text(kTwoProducts, some);
  EXPECT_EQ(element_type(named.graph().input(0)), "f32");
  EXPECT_EQ(element_type(named.graph().output(0)), "f16");
  some.keep_io_names = {"nothing"};
  EXPECT_THAT(error_of([&] { convert_text(kTwoProducts, some); }), HasSubstr("'nothing'"));
}

TEST(Convert, NodesAreKeptAndForcedByOperatorAndByName) {
  ConvertOptions options = kKeepIo;
  options.keep_f32 = parse_node_patterns("op:Softmax,node:y");
  const Converted kept = convert_text(kTwoProducts, options);
  EXPECT_EQ(kept.type_of("w"), "f16");
  EXPECT_EQ(kept.type_of("v"), "f32");
  EXPECT_THAT(kept.report.warnings, IsEmpty());

  options = kKeepIo;
  options.force_half = parse_node_patterns("op:Softmax");
  EXPECT_EQ(convert_text(kTwoProducts, options).report.casts_after, 2);

  options.keep_f32 = parse_node_patterns("op:Conv");
  EXPECT_THAT(convert_text(kTwoProducts, options).report.warnings, ElementsAre(HasSubstr("'op:Conv'")));
}

TEST(Convert, ForcedNodesTakeWhatOverflowsAsTheLargestNumber) {
  const char* text = "(float[2,2] x) => (float[2,2] y) <float[2,2] w = {1e6, 2, 3, 4}> { y = MatMul(x, w) }";
  ConvertOptions options = kKeepIo;
  options.force_half = parse_node_patterns("node:y");
  EXPECT_THAT(convert_text(text, options).values("w"), ElementsAre(65504, 2, 3, 4));
}

TEST(Convert, PatternsAreChecked) {
  EXPECT_EQ(parse_node_patterns("op:A,node:x\\,y").size(), 2u);
  EXPECT_EQ(parse_node_patterns("op:A,node:x\\,y")[1].text, "x,y");
  for (const char* bad : {"", "Softmax", "op:", "op:A,", "node:("})
    EXPECT_NE(error_of([&] { parse_node_patterns(bad); }), "") << bad;
}

// An expression is matched by a function that calls itself for each character of a name.
TEST(Convert, PatternsAndLongNames) {
  const std::string name(300'000, 'x');
  const ModelFile model =
      ModelFile::parse(header() + "(float[2,2] x) => (float[2,2] y) <float[2,2] w = {1, 2, 3, 4}> { " + name +
                       " = MatMul(x, w) y = Relu(" + name + ") }");
  const auto kept = [&](const std::string& expression) {
    ConvertOptions options = kKeepIo;
    options.keep_f32 = {{NodePattern::Kind::node, expression}};
    return convert_model(model, options);
  };
  EXPECT_EQ(kept(name).type_of("w"), "f32") << "a name is no expression";
  EXPECT_THAT(error_of([&] { kept(".*x"); }), HasSubstr("names of nodes of at most 1024 bytes"));
  EXPECT_THAT(error_of([&] { parse_node_patterns("node:.*" + name); }), HasSubstr("expression of at most 1024"));
}

TEST(Convert, NamesWithCharactersOfExpressions) {
  const ModelFile model = ModelFile::parse(
      header() +
      R"((float[2,2] x) => (float[2,2] y) <float[2,2] w = {1, 2, 3, 4}> { "a.b" = MatMul(x, w) y = Relu("a.b") })");
  const struct {
    const char* expression;
    const char* type;
  } cases[] = {{"a\\.b", "f32"}, {"a.b", "f32"},   {"a\\.c", "f16"},
               {"a\\Db", "f32"}, {"a\\db", "f16"}, {"a[.]b", "f32"}};
  for (const auto& c : cases) {
    ConvertOptions options = kKeepIo;
    options.keep_f32 = {{NodePattern::Kind::node, c.expression}};
    EXPECT_EQ(convert_model(model, options).type_of("w"), c.type) << c.expression;
  }
}

TEST(Convert, Bf16RaisesTheOperatorSetOnlyWhereItMust) {
  const char* convolution = R"((float[1,1,2,2] x) => (float[1,1,2,2] y)
      <float[1,1,1,1] w = {2}> { a = Conv(x, w) y = Relu(a) })";
  const Converted raised = convert_text(convolution, {.half = DType::bf16}, 17);
  EXPECT_EQ(raised.report.opset_after, 22);
  EXPECT_THAT(raised.report.notes, ElementsAre(HasSubstr("operator set 22 instead of 17, since Conv")));
  EXPECT_EQ(raised.type_of("w"), "bf16");
  EXPECT_EQ(convert_text(convolution, {}, 17).report.opset_after, 17);
  EXPECT_EQ(convert_text(kTwoProducts, {.half = DType::bf16}, 13).report.opset_after, 13);
}

TEST(Convert, Bf16RewritesWhatTheNewerOperatorSetWritesInAnotherWay) {
  const Converted c = convert_text(R"((float[1,1,2,2] x) => (float[1,2] y)
      <float[1,1,1,1] w = {2}> {
        a = Conv(x, w)
        b = ReduceMax<axes = [2], keepdims = 0>(a)
        c = Squeeze<axes = [1]>(b)
        y = Softmax<axis = -1>(c)
      })",
                                   {.half = DType::bf16}, 11);
  EXPECT_EQ(c.report.opset_after, 22);
  EXPECT_EQ(c.node_of("Squeeze")->input_size(), 2);
}

TEST(Convert, Bf16AtTheModelsBoundaryNeedsACastThatHasIt) {
  const char* exponential = "(float[4] x) => (float[4] y) { y = Exp(x) }";
  const Converted raised = convert_text(exponential, {.half = DType::bf16}, 12);
  EXPECT_EQ(raised.report.opset_after, 13);
  EXPECT_EQ(element_type(raised.graph().output(0)), "bf16");
  const ConvertOptions kept{.half = DType::bf16, .keep_io_types = true};
  EXPECT_EQ(convert_text(exponential, kept, 12).report.opset_after, 12);
  const Converted rewritten =
      convert_text("(float[4,4,4] x) => (float[4,4,4] y) { y = Softmax(x) }", {.half = DType::bf16}, 12);
  EXPECT_EQ(rewritten.report.opset_after, 13);
  EXPECT_EQ(element_type(rewritten.graph().output(0)), "bf16");
}

TEST(Convert, Bf16RaisesTheOperatorSetForNothingThatStaysAsItIs) {
  for (const char* body :
       {"r = Range(zero, n, one) i = Cast<to = 1>(r) a = MatMul(x, w) y = Add(a, i)",
        "d = OneHot(at, n, values) i = Cast<to = 1>(d) s = Slice(i, first, first2) a = MatMul(x, w) y = Add(a, i)",
        "c = ConstantOfShape<value = int64[1] {1}>(first2) i = Cast<to = 1>(c) a = MatMul(x, w) y = Add(a, i)",
        "h = HardSwish(x) y = Softmax(h)"}) {
    const Converted c = convert_text(
        std::string("(float[2,2] x, int64[1] at) => (float[2,2] y) <int64 zero = {0}, int64 n = {2}, "
                    "int64 one = {1}, int64[2] values = {0, 1}, int64[1] first = {0}, int64[1] first2 = {2}, "
                    "float[2,2] w = {1, 2, 3, 4}> { ") +
            body + " }",
        {.half = DType::bf16, .keep_io_types = true}, 14);
    EXPECT_EQ(c.report.opset_after, 14) << body;
  }
}

struct OldForm {
  int opset;
  const char* body;  ///< from c, of [1,2,4,4], to d
  int reached = 22;  ///< where Conv got bf16, if not a later one
};

TEST(Convert, Bf16RewritesOperatorsOfOldSets) {
  const OldForm forms[] = {
      {9, "d = Clip<min = -1.0, max = 2.0>(c)"},
      {9, "d = Clip<max = 2.0>(c)"},
      {10, "d = Pad<pads = [0, 0, 1, 0, 0, 0, 0, 1], value = 0.5>(c)"},
      {9, "d = Slice<starts = [1], ends = [3], axes = [2]>(c)"},
      {9, "d, at = TopK<k = 2>(c)", 24},
      {9, "d = Dropout(c)"},
      {11, "d, kept = Dropout<ratio = 0.25>(c)"},
      {10, "d = Resize<mode = \"nearest\">(c, scales)"},
      {12, "d = Resize<mode = \"nearest\">(c, none, scales)"},
      {9, "d = Upsample<mode = \"nearest\">(c, scales)"},
      {12, "d = Softmax<axis = 2>(c)"},
      {12, "d = LogSoftmax(c)"},
      {12, "d = Softmax<axis = -1>(c)"},
      {12, "u = Unsqueeze<axes = [0]>(c) d = Squeeze<axes = [0]>(u)"},
      {12, "d, e = Split<axis = 1, split = [1, 1]>(c)"},
      {12, "d = ReduceSum<axes = [1]>(c)"},
      {8, "d = BatchNormalization(c, s, b, m, v)"},
      {11,
       "d = If(go) <then_branch = t () => (float[1,2,4,4] p) { p = Softmax<axis = 2>(c) }, else_branch = e () => "
       "(float[1,2,4,4] q) { q = Clip(c, low) }>"},
      {6, "d = PRelu(c, s)"},
      {6, "d = Add<broadcast = 1, axis = 1>(c, s)"},
  };
  std::vector<float> x;
  for (int i = 0; i < 16; ++i) x.push_back(static_cast<float>(i % 7) - 3);
  const NamedTensors inputs = {{"x", Tensor::of(x, Shape{1, 1, 4, 4})}, {"go", Tensor::scalar(true)}};
  for (const OldForm& form : forms) {
    const ModelFile model = ModelFile::parse(header(form.opset) + R"((float[1,1,4,4] x, bool go) => (float[k,l,m,n] y)
        <float[2,1,1,1] w = {1, 0.5}, float[4] scales = {1, 1, 2, 2}, float[0] none = {}, float low = {-1},
         float[2] s = {1, 2}, float[2] b = {0, 1}, float[2] m = {0.5, 0}, float[2] v = {1, 0.25}> {
          c = Conv(x, w) )" + form.body + " y = Abs(d) }");
    const Converted c = convert_model(model, {.half = DType::bf16, .keep_io_types = true});
    EXPECT_EQ(c.report.opset_after, form.reached) << form.body;
    EXPECT_EQ(c.type_of("w"), "bf16") << form.body;
    for (const OutputError& error : compare_outputs(model, convert(model, {.half = DType::bf16, .keep_io_types = true}),
                                                    inputs, *make_reference_executor()))
      EXPECT_LT(error.relative(), 0.02) << form.body;
  }
}

TEST(Convert, AModelWithoutOperatorsOfOnnxGetsTheSetThatItsCastsNeed) {
  const Converted c = convert_model(
      ModelFile::parse(
          "<ir_version: 10, opset_import: [\"custom\": 1]> m (float[2] x) => (float[2] y) { y = custom.F(x) }"),
      {});
  EXPECT_THAT(ops_of(c.graph()), ElementsAre("Cast", "F", "Cast"));
  EXPECT_EQ(c.report.opset_after, 13);
}

TEST(Convert, Bf16StaysWhereAnOperatorHasNoEquivalentAndSaysSo) {
  const Converted c = convert_text(R"((float[1,1,2,2] x) => (float[1,1,4,4] y)
      <float[1,1,1,1] w = {2}, float[0] roi = {}, float[4] scales = {1, 1, 2, 2}> {
        a = Conv(x, w)
        y = Resize<coordinate_transformation_mode = "tf_half_pixel_for_nn">(a, roi, scales)
      })",
                                   {.half = DType::bf16, .keep_io_types = true}, 12);
  EXPECT_EQ(c.report.opset_after, 12);
  EXPECT_EQ(c.type_of("w"), "f32");
  EXPECT_THAT(c.report.notes, ElementsAre(HasSubstr("Resize cannot be written in 13")));
}

TEST(Convert, NamesMetadataAndDocStringsStay) {
  onnx::ModelProto model;
  ASSERT_TRUE(model.ParseFromString(convert(ModelFile::parse(header() + kTwoProducts),
                                            {.keep_io_types = true, .keep_f32 = parse_node_patterns("op:MatMul")})
                                        .bytes()));
  model.set_producer_name("someone");
  model.set_doc_string("what it is");
  auto* entry = model.add_metadata_props();
  entry->set_key("author");
  entry->set_value("me");
  for (int i = 0; i < model.graph().node_size(); ++i)
    model.mutable_graph()->mutable_node(i)->set_name("node" + std::to_string(i));
  auto* info = model.mutable_graph()->add_value_info();
  info->set_name("a");
  info->mutable_type()->mutable_tensor_type()->set_elem_type(onnx::TensorProto::FLOAT);
  const Converted c = convert_model(ModelFile::from_bytes(model.SerializeAsString()), {});
  EXPECT_EQ(c.model.producer_name(), "someone");
  EXPECT_EQ(c.model.doc_string(), "what it is");
  EXPECT_EQ(c.model.metadata_props(0).value(), "me");
  std::vector<std::string> names;
  for (const auto& node : c.graph().node())
    if (node.op_type() != "Cast") names.push_back(node.name());
  EXPECT_THAT(names, ElementsAre("node0", "node1", "node2"));
  EXPECT_EQ(element_type(c.graph().value_info(0)), "f16");
}

TEST(Convert, MetadataOfAllButTheModelIsDroppedWhenAsked) {
  onnx::ModelProto model;
  ASSERT_TRUE(model.ParseFromString(convert(ModelFile::parse(header() + kTwoProducts),
                                            {.keep_io_types = true, .keep_f32 = parse_node_patterns("node:.*")})
                                        .bytes()));
  const auto annotate = [](auto& message) {
    auto* entry = message.add_metadata_props();
    entry->set_key("trace");
    entry->set_value("line 1");
    message.set_doc_string("written");
  };
  annotate(model);
  annotate(*model.mutable_graph());
  annotate(*model.mutable_graph()->mutable_node(0));
  annotate(*model.mutable_graph()->mutable_input(0));
  annotate(*model.mutable_graph()->mutable_initializer(0));
  const ModelFile file = ModelFile::from_bytes(model.SerializeAsString());
  const auto mentions = [](const std::string& bytes) {
    int count = 0;
    for (std::size_t at = bytes.find("line 1"); at != std::string::npos; at = bytes.find("line 1", at + 1)) ++count;
    return count;
  };
  EXPECT_EQ(mentions(convert_model(file, {}).bytes), 5);
  ConvertOptions options;
  options.keep_metadata = false;
  const Converted dropped = convert_model(file, options);
  EXPECT_EQ(mentions(dropped.bytes), 1);
  EXPECT_EQ(dropped.model.metadata_props(0).key(), "trace");
  EXPECT_EQ(dropped.model.doc_string(), "written");
  EXPECT_THAT(dropped.report.notes, ElementsAre(HasSubstr("bytes of metadata")));
}

TEST(Convert, MetadataOfFunctionsSubgraphsIsDroppedToo) {
  ConvertOptions options{.keep_io_types = true, .keep_functions = true};
  onnx::ModelProto model;
  ASSERT_TRUE(model.ParseFromString(convert(ModelFile::parse(R"(
          <ir_version: 10, opset_import: ["": 20, "local": 1]> test (bool c, float[2,2] x) => (float[2,2] y)
          { y = local.either(c, x) }
          <domain: "local", opset_import: ["": 20]> either (c, p) => (r)
          { r = If(c) <then_branch = t () => (a) { a = Neg(p) }, else_branch = e () => (b) { b = Abs(p) }> })"),
                                            options)
                                        .bytes()));
  for (auto& branch : *model.mutable_functions(0)->mutable_node(0)->mutable_attribute())
    branch.mutable_g()->set_doc_string("written");
  const ModelFile file = ModelFile::from_bytes(model.SerializeAsString());
  EXPECT_THAT(convert_model(file, options).bytes, HasSubstr("written"));
  options.keep_metadata = false;
  for (const bool keep_functions : {false, true}) {
    options.keep_functions = keep_functions;
    EXPECT_THAT(convert_model(file, options).bytes, ::testing::Not(HasSubstr("written"))) << keep_functions;
  }
}

TEST(Convert, ReportsTellEveryNodeAndRange) {
  ConvertOptions options;
  const Converted c = convert_text(kTwoProducts, options);
  const auto json = nlohmann::json::parse(report_json(c.report));
  ASSERT_EQ(json["nodes"].size(), 3u);
  EXPECT_EQ(json["nodes"][0]["precision"], "fp16");
  EXPECT_EQ(json["nodes"][1]["precision"], "fp32");
  EXPECT_NE(json["nodes"][1]["reason"], "");
  EXPECT_EQ(json["tensors"][0]["range"]["max"], 4);
  EXPECT_EQ(json["tensors"][0]["range"]["histogram"]["1"], 2);
  const std::string html = report_html(c.report);
  EXPECT_THAT(html, HasSubstr("<svg"));
  EXPECT_THAT(html, HasSubstr("Softmax"));
  EXPECT_EQ(html.find("https://"), std::string::npos);
  EXPECT_EQ(html.find("src="), std::string::npos);
}

TEST(Convert, NamesInReportsAreNoMarkup) {
  ConversionReport report;
  report.nodes.push_back({.name = "<script>",
                          .op = "A&B",
                          .graph = {},
                          .has_floats = true,
                          .half = true,
                          .reason = {},
                          .inputs = {},
                          .outputs = {}});
  EXPECT_EQ(report_html(report).find("<script>\""), std::string::npos);
  EXPECT_THAT(report_html(report), HasSubstr("&lt;script&gt;"));
}

TEST(Search, KeepsNoMoreNodesInF32ThanTheErrorTakes) {
  // A difference of nearly equal numbers: only the products before it matter.
  const ModelFile model = ModelFile::parse(header() + R"((float[1,2] x) => (float[1,2] y)
      <float[2,2] w = {1.0007, 1, 1, 1.0007}, float[2,2] v = {1, 1, 1, 1}, float[2,2] u = {1, 0.5, 0.5, 1}> {
        a = MatMul(x, w)
        b = MatMul(x, v)
        d = Sub(a, b)
        y = MatMul(d, u)
      })");
  const NamedTensors inputs = {{"x", Tensor::of<float>({3.001f, 5.003f}, Shape{1, 2})}};
  const std::unique_ptr<Executor> executor = make_reference_executor();
  int told = 0;
  const SearchResult result = search_precision(model, kKeepIo, inputs, *executor,
                                               {.max_error = 2e-3, .on_trial = [&](int, int, int, double) { ++told; }});
  EXPECT_LE(result.error, 2e-3);
  EXPECT_TRUE(result.complete);
  EXPECT_GT(told, 0);
  EXPECT_FALSE(result.kept.empty());
  EXPECT_LT(result.kept.size(), 4u);
  EXPECT_EQ(compare_outputs(model, result.conversion, inputs, *executor)[0].relative(), result.error);

  const std::atomic<bool> stop = true;
  const SearchResult stopped = search_precision(model, kKeepIo, inputs, *executor, {.max_error = 2e-3, .stop = &stop});
  EXPECT_LE(stopped.error, 2e-3) << "the best so far is an answer";
  EXPECT_FALSE(stopped.complete);
  EXPECT_THAT(error_of([&] { search_precision(model, {}, inputs, *executor, {.max_error = 1e-12}); }),
              HasSubstr("every node in f32"));
}

}  // namespace
}  // namespace halfstep
