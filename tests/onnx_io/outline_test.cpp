// What is told of a model that cannot be loaded.
#include "onnx_io/outline.h"

#include <fstream>

#include "onnx_io/declared.h"
#include "tests/onnx_io/test_util.h"
#include <halfstep/onnx_io/load.h>

namespace halfstep {
namespace {

using test::error_of;
using test::parse_proto;
using testing::ElementsAre;
using testing::HasSubstr;

TEST(Outline, NamesWhatIsThereAndWhatIsNotSupported) {
  const test::TempFolder folder;
  const onnx::ModelProto proto = parse_proto(
      "<ir_version: 10, opset_import: [\"\": 20, \"com.example\": 1]> foreign (float[N,2] x) => (float[N,2] y) "
      "<float[2,2] w = {1,2,3,4}> { one = Constant<value_float = 1.0>() h = MatMul(x, w) [odd] a = com.example.Odd(h) "
      "[odder] b = com.example.Odd(a) y = Add(b, one) }");
  std::ofstream(folder / "model.onnx", std::ios::binary) << proto.SerializeAsString();

  const ModelOutline outline = outline_of(folder / "model.onnx");
  ASSERT_EQ(outline.inputs.size(), 1u);
  EXPECT_EQ(outline.inputs[0].type, "f32");
  EXPECT_EQ(outline.inputs[0].shape.to_string(), "[?, 2]");
  ASSERT_EQ(outline.outputs.size(), 1u);
  EXPECT_EQ(outline.outputs[0].name, "y");
  EXPECT_EQ(outline.operators,
            (std::map<std::string, std::int64_t>{{"Add", 1}, {"MatMul", 1}, {"com.example.Odd", 2}}));
  EXPECT_EQ(outline.tensors, 1);
  EXPECT_EQ(outline.elements, 4);
  ASSERT_EQ(outline.unsupported.nodes().size(), 1u);
  EXPECT_EQ(outline.unsupported.nodes().begin()->first, std::pair(std::string("com.example"), std::string("Odd")));
  EXPECT_THAT(outline.unsupported.nodes().begin()->second, ElementsAre("odd", "odder"));
  const std::string error = error_of([&] { load_model(folder / "model.onnx"); });
  EXPECT_THAT(error, HasSubstr("halfstep check --markdown lists them"));
}

TEST(Outline, OfWhatIsNoModelIsRefused) {
  const test::TempFolder folder;
  std::ofstream(folder / "model.onnx") << "no model at all";
  EXPECT_THROW(outline_of(folder / "model.onnx"), Error);
}

TEST(Exporters, AreToldByTheProducersName) {
  const std::pair<const char*, Exporter> cases[] = {
      {"pytorch", Exporter::pytorch}, {"tf2onnx", Exporter::keras},       {"keras2onnx", Exporter::keras},
      {"", Exporter::unknown},        {"PaddlePaddle", Exporter::paddle}, {"onnx-example", Exporter::unknown}};
  for (const auto& [producer, exporter] : cases) {
    onnx::ModelProto proto =
        parse_proto("<ir_version: 10, opset_import: [\"\": 20]> produced (float[2] x) => (float[2] y) { y = Relu(x) }");
    proto.set_producer_name(producer);
    EXPECT_EQ(exporter_of(*load_model_from_bytes(proto.SerializeAsString()).source), exporter) << producer;
  }
}

}  // namespace
}  // namespace halfstep
