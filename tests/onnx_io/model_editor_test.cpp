// A model's message changed by plain values.
#include "onnx_io/model_editor.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <onnx/onnx_pb.h>

#include "onnx_io/convert.h"
#include <halfstep/base/error.h>
#include <halfstep/onnx_io/load.h>

namespace halfstep {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;
using Held = ModelEditor::Value;

ModelEditor editor_of(const std::string& text) {
  return ModelEditor(
      to_proto(parse_model("<ir_version: 10, opset_import: [\"\": 20]> g " + text).graph).SerializeAsString());
}

// What it says of itself after a journey through its bytes.
ModelEditor again(const ModelEditor& editor) { return ModelEditor(editor.bytes()); }

TEST(ModelEditor, ChangesAttributes) {
  ModelEditor editor = editor_of(
      "(float[2,3] x) => (float[3,2] y) { a = Gelu<approximate = \"tanh\">(x) y = Transpose<perm = [1, 0]>(a) }");
  ASSERT_EQ(editor.node_count(), 2u);
  EXPECT_THAT(editor.attribute_names(1), ElementsAre("perm"));
  EXPECT_EQ(editor.attribute(0, "approximate"), Held("tanh"));
  EXPECT_EQ(editor.attribute(0, "axis"), Held());
  const std::pair<std::string, Held> values[] = {{"perm", std::vector<std::int64_t>{1, 2, 0}},
                                                 {"i", std::int64_t{-3}},
                                                 {"f", 0.5F},
                                                 {"s", std::string("text")},
                                                 {"fs", std::vector<float>{1, 2}}};
  for (const auto& [name, value] : values) editor.set_attribute(1, name, value);
  editor.remove_attribute(0, "approximate");
  editor.remove_attribute(0, "axis");
  const ModelEditor changed = again(editor);
  for (const auto& [name, value] : values) EXPECT_EQ(changed.attribute(1, name), value) << name;
  EXPECT_THAT(changed.attribute_names(0), IsEmpty());
  EXPECT_THAT(changed.attribute_names(1), ElementsAre("perm", "i", "f", "s", "fs"));
}

TEST(ModelEditor, ChangesBodies) {
  ModelEditor editor = editor_of(R"((bool condition, float[2] x) => (float[2] y) {
      y = If (condition) <then_branch = t () => (float[2] p) { q = Neg(x) p = Abs(q) },
                          else_branch = e () => (float[2] r) { r = Exp(x) }> })");
  ASSERT_EQ(editor.node_count(), 4u);
  auto body = std::get<ModelEditor::BodyNames>(editor.attribute(0, "then_branch"));
  EXPECT_THAT(body.inputs, IsEmpty());
  EXPECT_THAT(body.outputs, ElementsAre("p"));
  body.outputs.clear();
  editor.set_attribute(0, "then_branch", body);
  EXPECT_THAT(std::get<ModelEditor::BodyNames>(again(editor).attribute(0, "then_branch")).outputs, IsEmpty());
  editor.remove_attribute(0, "then_branch");  // and its two nodes
  EXPECT_EQ(editor.node_count(), 2u);
  EXPECT_EQ(again(editor).node_count(), 2u);
  EXPECT_THAT(editor.operands(1), ElementsAre("x"));
}

TEST(ModelEditor, ChangesOperandsAndInputs) {
  ModelEditor editor = editor_of("(float[2] a, float[2] b) => (float[2] y) { y = Sub(a, b) }");
  editor.set_operands(0, {"b", "a"});
  editor.set_opset(18);
  editor.declare_input(0, DType::f64, {3});
  editor.declare_input(1, DType::f64, {3});
  editor.declare_output(0, DType::f64);
  editor.make_initializer(1, Tensor::of<double>({1, 2, 3}));
  EXPECT_THAT(again(editor).inputs(), ElementsAre("a"));
  EXPECT_THAT(again(editor).operands(0), ElementsAre("b", "a"));
  EXPECT_EQ(again(editor).opset(), 18);
  const Graph graph = load_model_from_bytes(editor.bytes()).graph;
  ASSERT_EQ(graph.inputs.size(), 1u);
  EXPECT_EQ(graph[graph.inputs[0]].dtype, DType::f64);
  EXPECT_EQ(graph[graph.find("b")].constant.count(), 3);
}

TEST(ModelEditor, RefusesWhatIsNoModel) { EXPECT_THROW(ModelEditor("no model"), Error); }

}  // namespace
}  // namespace halfstep
