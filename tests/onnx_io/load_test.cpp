#include <algorithm>
#include <random>

#include <onnx/checker.h>

#include "onnx_io/convert.h"
#include "onnx_io/lift.h"
#include "tests/onnx_io/test_util.h"
#include <halfstep/onnx_io/load.h>
#include <halfstep/ops/op_def.h>

namespace halfstep {
namespace {

using test::error_of;
using test::kZoo;
using test::parse_proto;
using test::read_bytes;
using testing::AllOf;
using testing::HasSubstr;

class Zoo : public testing::TestWithParam<std::string> {};

TEST_P(Zoo, LoadsInTheNewestForm) {
  const auto path = kZoo / GetParam() / "model.onnx";
  const LoadedModel loaded = load_model(path);
  verify(loaded.graph);
  EXPECT_EQ(loaded.graph.opsets.at(""), kOnnxOpset);
  EXPECT_NE(loaded.source, nullptr);
  for (const Node& node : loaded.graph.nodes) EXPECT_NE(find_op(node.op, node.domain), nullptr) << node.op;
  const onnx::ModelProto file = test::read_proto(path);
  EXPECT_EQ(loaded.graph[loaded.graph.inputs.at(0)].name, file.graph().input(0).name());
  for (const auto& initializer : file.graph().initializer()) {
    const ValueId id = loaded.graph.find(initializer.name());
    ASSERT_NE(id, kNoValue) << initializer.name();
    EXPECT_TRUE(loaded.graph[id].is_initializer);
  }
}

TEST_P(Zoo, SurvivesTheWayThroughAFileUnchanged) {
  const LoadedModel loaded = load_model(kZoo / GetParam() / "model.onnx");
  const onnx::ModelProto written = to_proto(loaded.graph);
  EXPECT_NO_THROW(onnx::checker::check_model(written, /*full_check=*/true));
  const LoadedModel again = load_model_from_bytes(written.SerializeAsString());
  EXPECT_EQ(to_proto(again.graph).SerializeAsString(), written.SerializeAsString());
}

INSTANTIATE_TEST_SUITE_P(, Zoo, testing::ValuesIn(test::kZooCases), [](const auto& test) {
  std::string name = test.param;
  std::replace(name.begin(), name.end(), '-', '_');
  return name;
});

TEST(Load, AcceptsTheVersionsItSays) {
  auto model = [](std::int64_t ir, std::int64_t opset) {
    return "<ir_version: " + std::to_string(ir) + ", opset_import: [\"\": " + std::to_string(opset) +
           "]> m (float[2] x) => (float[2] y) { y = Relu(x) }";
  };
  for (std::int64_t ir = 3; ir <= 14; ++ir) EXPECT_EQ(error_of([&] { parse_model(model(ir, 13)); }), "") << ir;
  for (std::int64_t opset = kOldestOnnxOpset; opset <= kOnnxOpset; ++opset)
    EXPECT_EQ(error_of([&] { parse_model(model(8, opset)); }), "") << opset;
  EXPECT_THAT(error_of([&] { parse_model(model(2, 13)); }), AllOf(HasSubstr("3 to 14"), HasSubstr("got 2")));
  EXPECT_THAT(error_of([&] { parse_model(model(15, 13)); }), AllOf(HasSubstr("3 to 14"), HasSubstr("got 15")));
  EXPECT_THAT(error_of([&] { parse_model(model(8, 0)); }), AllOf(HasSubstr("1 to 28"), HasSubstr("got 0")));
  EXPECT_THAT(error_of([&] { parse_model(model(8, 29)); }), AllOf(HasSubstr("1 to 28"), HasSubstr("got 29")));
}

TEST(Load, ReportsAllUnsupportedOperatorsAtOnce) {
  const std::string error = error_of([] {
    parse_model(R"(<ir_version: 8, opset_import: ["": 17, "com.example": 1]> m (float[2] x) => (float[2] y) {
        [one] a = com.example.Frobnicate(x) b = StringNormalizer(a) [two] c = com.example.Frobnicate(b) y = Relu(c) })");
  });
  EXPECT_THAT(error, AllOf(HasSubstr("com.example.Frobnicate (nodes 'one', 'two')"),
                           HasSubstr("StringNormalizer (node 'giving b')")));
  EXPECT_THAT(error, testing::Not(HasSubstr("Relu")));
}

TEST(Load, ReportsUnsupportedOperatorsOfSubgraphs) {
  EXPECT_THAT(
      error_of([] {
        parse_model(
            R"(<ir_version: 8, opset_import: ["": 17, "com.example": 1]> m (bool c, float[2] x) => (float[2] y) {
                    y = If (c) <then_branch = t () => (float[2] a) { [inner] a = com.example.Deep(x) },
                                else_branch = e () => (float[2] b) { b = Neg(x) }> })");
      }),
      HasSubstr("com.example.Deep (node 'inner')"));
}

TEST(Load, InlinesModelLocalFunctions) {
  const LoadedModel loaded = parse_model(R"(
      <ir_version: 8, opset_import: ["": 17, "local": 1]> m (float[2] x) => (float[2] y) { y = local.Twice(x) }
      <domain: "local", opset_import: ["": 17]> Twice (a) => (b) { c = Relu(a) b = Add(c, c) })");
  ASSERT_EQ(loaded.graph.nodes.size(), 2u);
  EXPECT_EQ(loaded.graph.nodes[0].op, "Relu");
  EXPECT_EQ(loaded.graph.nodes[1].op, "Add");
}

TEST(Load, RefusesFunctionsThatMultiplyWithoutEnd) {
  std::string text =
      "<ir_version: 8, opset_import: [\"\": 17, \"l\": 1]> m (float[2] x) => (float[2] y) { y = l.F0(x) }\n";
  for (int i = 0; i < 40; ++i)
    text += "<domain: \"l\", opset_import: [\"\": 17, \"l\": 1]> F" + std::to_string(i) + " (a) => (c) { b = l.F" +
            std::to_string(i + 1) + "(a) c = l.F" + std::to_string(i + 1) + "(b) }\n";
  text += "<domain: \"l\", opset_import: [\"\": 17]> F40 (a) => (b) { b = Relu(a) }";
  EXPECT_THAT(error_of([&] { parse_model(text); }), HasSubstr("once its functions are inlined"));
}

TEST(Load, RefusesFunctionsThatCallThemselves) {
  EXPECT_NE(error_of([&] {
              parse_model(R"(
      <ir_version: 8, opset_import: ["": 17, "l": 1]> m (float[2] x) => (float[2] y) { y = l.F(x) }
      <domain: "l", opset_import: ["": 17, "l": 1]> F (a) => (b) { b = l.F(a) })");
            }),
            "");
}

TEST(Load, ReplacesOperatorsWithoutARowByTheirFunctionBodies) {
  struct {
    const char* op;
    const char* call;
  } const cases[] = {{"Celu", "Celu<alpha=2.0>(x)"},
                     {"HardSwish", "HardSwish(x)"},
                     {"Mish", "Mish(x)"},
                     {"Shrink", "Shrink<bias=0.5>(x)"},
                     {"ThresholdedRelu", "ThresholdedRelu(x)"},
                     {"Softsign", "Softsign(x)"},
                     {"MeanVarianceNormalization", "MeanVarianceNormalization<axes=[0]>(x)"}};
  for (const auto& c : cases) {
    const std::string text =
        std::string("<ir_version: 10, opset_import: [\"\": 22]> m (float[2,3,4,5] x) => (float[2,3,4,5] y) { y = ") +
        c.call + " }";
    LoadedModel loaded;
    ASSERT_EQ(error_of([&] { loaded = parse_model(text); }), "") << c.op;
    verify(loaded.graph);
    for (const Node& node : loaded.graph.nodes)
      EXPECT_NE(find_op(node.op, node.domain), nullptr) << c.op << ": " << node.op;
    const Value& y = loaded.graph[loaded.graph.outputs.at(0)];
    EXPECT_EQ(y.name, "y");
    EXPECT_EQ(y.dtype, DType::f32) << c.op;
    EXPECT_EQ(y.shape, Shape({2, 3, 4, 5})) << c.op;
    EXPECT_NO_THROW(onnx::checker::check_model(to_proto(loaded.graph), true)) << c.op;
  }
}

TEST(Load, TellsWhatTheCheckerFound) {
  EXPECT_THAT(
      error_of([] {
        parse_model("<ir_version: 8, opset_import: [\"\": 17]> m (float[2] x) => (float[2] y) { y = Relu(x, x) }");
      }),
      AllOf(HasSubstr("a valid ONNX model"), HasSubstr("Relu")));
}

TEST(Load, TellsOperandsThatDoNotFit) {
  EXPECT_THAT(error_of([] {
                parse_model(
                    "<ir_version: 8, opset_import: [\"\": 17]> m (float[2,3] x, float[4,5] w) => (float[2,5] y) "
                    "{ [product] y = MatMul(x, w) }");
              }),
              AllOf(HasSubstr("MatMul 'product'"), HasSubstr("[2, 3]"), HasSubstr("[4, 5]")));
}

TEST(LoadFile, TellsWhatTheFileIs) {
  const test::TempFolder folder;
  struct {
    const char* name;
    std::string bytes;
    const char* text;
  } const cases[] = {
      {"empty.onnx", "", "an empty file"},
      {"torch.onnx", std::string("PK\x03\x04") + std::string(100, '\xff'), "ZIP archive"},
      {"keras.onnx", std::string("\x89HDF\r\n\x1a\n") + std::string(100, '\xff'), "HDF5"},
      {"lfs.onnx", "version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n", "Git LFS"},
      {"text.onnx", "this is no model at all, only a text", "no whole protobuf message"},
      {"nograph.onnx", std::string("\x08\x08", 2), "without a graph"},
  };
  for (const auto& c : cases) {
    test::write_bytes(folder / c.name, c.bytes);
    EXPECT_THAT(error_of([&] { load_model(folder / c.name); }),
                AllOf(HasSubstr(c.text), HasSubstr(c.bytes.empty() ? "" : c.name)));
  }
  EXPECT_THAT(error_of([&] { load_model(folder / "missing.onnx"); }), HasSubstr("', which does not exist\n"));
  EXPECT_THAT(error_of([&] { load_model(folder.path()); }), HasSubstr("a folder"));
  // A sparse file: 3 GB that take no room.
  test::write_bytes(folder / "big.onnx", "x");
  std::filesystem::resize_file(folder / "big.onnx", 3'000'000'000);
  EXPECT_THAT(error_of([&] { load_model(folder / "big.onnx"); }), HasSubstr("2 GB"));
}

TEST(LoadFile, RefusesEveryTruncation) {
  const std::string whole = read_bytes(kZoo / "lenet-torchscript" / "model.onnx");
  std::vector<std::size_t> lengths;
  for (std::size_t i = 0; i < 64; ++i) lengths.push_back(i);
  for (std::size_t i = 1; i < 200; ++i) lengths.push_back(whole.size() * i / 200);
  for (std::size_t i = 1; i < 64; ++i) lengths.push_back(whole.size() - i);
  for (std::size_t length : lengths)
    EXPECT_NE(error_of([&] { load_model_from_bytes(whole.substr(0, length)); }), "") << length;
}

// Damage either still gives a model, or an Error; nothing else may happen.
TEST(LoadFile, TakesDamageWithoutCrashing) {
  std::mt19937 random(20240229);
  for (const char* name : {"mlp-keras", "lenet-torchscript", "squeezenet-torchscript"}) {
    const std::string whole = read_bytes(kZoo / name / "model.onnx");
    onnx::ModelProto small;
    ASSERT_TRUE(small.ParseFromString(whole));
    // Weights are most of a file's bytes, and harmless: damage a copy in which they are small, too.
    for (auto& tensor : *small.mutable_graph()->mutable_initializer()) {
      if (tensor.raw_data().size() <= 64) continue;
      tensor.clear_dims();
      tensor.add_dims(2);
      tensor.set_raw_data(std::string(8, '\0'));
    }
    int loaded = 0, refused = 0;
    for (const std::string& source : {whole, small.SerializeAsString()}) {
      for (int round = 0; round < 150; ++round) {
        std::string damaged = source;
        for (int flips = 1 + static_cast<int>(random() % 4); flips > 0; --flips)
          damaged[random() % damaged.size()] = static_cast<char>(random());
        try {
          load_model_from_bytes(damaged);
          ++loaded;
        } catch (const Error&) {
          ++refused;
        }
      }
    }
    EXPECT_EQ(loaded + refused, 300);
    EXPECT_GT(refused, 0) << name;
  }
}

}  // namespace
}  // namespace halfstep
