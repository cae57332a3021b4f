#include "onnx_io/convert.h"

#include <onnx/checker.h>

#include "onnx_io/lift.h"
#include "tests/onnx_io/test_util.h"
#include <halfstep/onnx_io/load.h>
#include <halfstep/ops/op_def.h>

namespace halfstep {
namespace {

using test::error_of;
using test::parse_proto;
using testing::HasSubstr;

const std::string kHeader = "<ir_version: 10, opset_import: [\"\": 20]> ";

TEST(FromProto, KeepsNamesOfValuesAndNodes) {
  const Graph graph = from_proto(parse_proto(kHeader + R"(model (float[N, 4] x) => (float[N, 4] y)
      <float[4] b = {1.0, 2.0, 3.0, 4.0}> { [first] h = Add(x, b) [second] y = Relu(h) })"));
  EXPECT_EQ(graph.name, "model");
  EXPECT_EQ(graph.opsets.at(""), 20);
  ASSERT_EQ(graph.nodes.size(), 2u);
  EXPECT_EQ(graph.nodes[0].name, "first");
  EXPECT_EQ(graph[graph.nodes[0].outputs[0]].name, "h");
  EXPECT_EQ(graph[graph.inputs.at(0)].shape, Shape({Shape::kUnknown, 4}));
  const Value& b = graph[graph.find("b")];
  EXPECT_TRUE(b.is_constant());
  EXPECT_TRUE(b.is_initializer);
  EXPECT_EQ(to_doubles(b.constant), (std::vector<double>{1, 2, 3, 4}));
}

TEST(FromProto, TakesInitializersThatAreInputsAsConstants) {
  onnx::ModelProto model = parse_proto(
      "<ir_version: 3, opset_import: [\"\": 9]> m (float[1] x, float[1] w) => (float[1] y) "
      "<float[1] v = {2.0}> { y = Mul(x, w) }");
  model.mutable_graph()->mutable_initializer(0)->set_name("w");
  const Graph graph = from_proto(model);
  ASSERT_EQ(graph.inputs.size(), 1u);
  EXPECT_EQ(graph[graph.inputs[0]].name, "x");
  EXPECT_TRUE(graph[graph.find("w")].is_constant());
}

TEST(FromProto, ReadsEveryFormOfConstantNode) {
  struct {
    const char* attribute;
    DType dtype;
    Shape shape;
    std::vector<double> elements;
  } const cases[] = {
      {"value = float[2] {1.5, 2.5}", DType::f32, {2}, {1.5, 2.5}}, {"value_float = 3.5", DType::f32, {}, {3.5}},
      {"value_floats = [1.0, 2.0]", DType::f32, {2}, {1, 2}},       {"value_int = 7", DType::i64, {}, {7}},
      {"value_ints = [7, 8, 9]", DType::i64, {3}, {7, 8, 9}},
  };
  for (const auto& c : cases) {
    const Graph graph = from_proto(parse_proto(kHeader + "m () => (float y) { y = Constant<" + c.attribute + ">() }"));
    EXPECT_TRUE(graph.nodes.empty());
    const Value& value = graph[graph.outputs.at(0)];
    EXPECT_FALSE(value.is_initializer);
    ASSERT_EQ(value.constant.dtype(), c.dtype) << c.attribute;
    EXPECT_EQ(value.constant.shape(), c.shape) << c.attribute;
    EXPECT_EQ(to_doubles(value.constant), c.elements) << c.attribute;
  }
}

TEST(FromProto, RefusesWhatAGraphCannotHold) {
  auto base = [] {
    return parse_proto(kHeader + "m (float[2] x) => (float[2] y) <float[2] w = {1.0, 2.0}> { y = Add(x, w) }");
  };
  struct {
    const char* name;
    void (*damage)(onnx::GraphProto&);
    const char* text;
  } const cases[] = {
      {"undefined input", [](onnx::GraphProto& g) { g.mutable_node(0)->set_input(1, "nowhere"); }, "'nowhere'"},
      {"undefined output", [](onnx::GraphProto& g) { g.mutable_output(0)->set_name("nowhere"); }, "'nowhere'"},
      {"defined twice", [](onnx::GraphProto& g) { *g.add_node() = onnx::NodeProto(g.node(0)); }, "'y' twice"},
      {"initializer twice", [](onnx::GraphProto& g) { *g.add_initializer() = onnx::TensorProto(g.initializer(0)); },
       "'w' twice"},
      {"nameless initializer", [](onnx::GraphProto& g) { g.mutable_initializer(0)->clear_name(); }, "empty"},
      {"sequence input",
       [](onnx::GraphProto& g) {
         g.mutable_input(0)
             ->mutable_type()
             ->mutable_sequence_type()
             ->mutable_elem_type()
             ->mutable_tensor_type()
             ->set_elem_type(1);
       },
       "input 'x'"},
      {"unknown element type",
       [](onnx::GraphProto& g) { g.mutable_input(0)->mutable_type()->mutable_tensor_type()->set_elem_type(77); }, "77"},
      {"sparse initializer", [](onnx::GraphProto& g) { g.add_sparse_initializer(); }, "sparse"},
      {"shape larger than data", [](onnx::GraphProto& g) { g.mutable_initializer(0)->set_dims(0, 1LL << 40); },
       "tensor 'w'"},
      {"shape that overflows",
       [](onnx::GraphProto& g) {
         for (int i = 0; i < 4; ++i) g.mutable_initializer(0)->add_dims(1LL << 40);
       },
       "63 bits"},
      {"negative extent", [](onnx::GraphProto& g) { g.mutable_initializer(0)->set_dims(0, -2); }, "-2"},
      {"attribute twice",
       [](onnx::GraphProto& g) {
         for (int i = 0; i < 2; ++i) {
           auto& a = *g.mutable_node(0)->add_attribute();
           a.set_name("axis");
           a.set_type(onnx::AttributeProto::INT);
         }
       },
       "'axis' twice"},
      {"attribute of an exotic type",
       [](onnx::GraphProto& g) {
         auto& a = *g.mutable_node(0)->add_attribute();
         a.set_name("type");
         a.set_type(onnx::AttributeProto::TYPE_PROTO);
       },
       "'type'"},
  };
  for (const auto& c : cases) {
    onnx::ModelProto model = base();
    c.damage(*model.mutable_graph());
    EXPECT_THAT(error_of([&] { from_proto(model); }), HasSubstr(c.text)) << c.name;
  }
}

TEST(ToProto, WritesWhatFromProtoReads) {
  const char* const texts[] = {
      "m (float[N, 4] x) => (float[N, 4] y) <float[4] b = {1.0, 2.0, 3.0, 4.0}> { y = Add(x, b) }",
      "m (float[2, 3] x) => (float[3, 2] y, float[2, 3] z) { y = Transpose<perm=[1, 0]>(x) z = Relu(x) }",
      "m (float[2] x) => (float[2] y) { y = Clip(x, , m) m = Constant<value_float=6.0>() }",
      "m (bool c, float[2] x) => (float[2] y) { y = If (c) <then_branch = t () => (float[2] a) { a = Relu(x) }, "
      "else_branch = e () => (float[2] b) { b = Neg(x) }> }",
  };
  for (const char* text : texts) {
    onnx::ModelProto original = parse_proto(kHeader + text);
    // The third names a value before it is defined, which a Constant node may not be; put it first.
    if (original.graph().node_size() == 2 && original.graph().node(1).op_type() == "Constant")
      original.mutable_graph()->mutable_node()->SwapElements(0, 1);
    const Graph graph = from_proto(original);
    const onnx::ModelProto written = to_proto(graph);
    EXPECT_NO_THROW(onnx::checker::check_model(written)) << text;
    EXPECT_EQ(written.opset_import(0).version(), 20);
    const Graph again = from_proto(written);
    EXPECT_EQ(to_text(again), to_text(graph)) << text;
    EXPECT_EQ(to_proto(again).SerializeAsString(), written.SerializeAsString()) << text;
  }
}

TEST(ToProto, TellsInitializersFromConstantNodes) {
  Graph graph;
  const ValueId x = graph.add_input("x", DType::f32, {2});
  const ValueId w = graph.add_constant("w", Tensor::of<float>({1, 2})),
                c = graph.add_constant("c", Tensor::of<float>({3, 4}));
  graph[w].is_initializer = true;
  graph.add_node("Sum", kOnnxDomain, {x, w, c}, 1, {}, "sum");
  graph[graph.nodes[0].outputs[0]].dtype = DType::f32;
  graph.outputs = graph.nodes[0].outputs;
  const Graph again = from_proto(to_proto(graph));
  EXPECT_TRUE(again[again.find("w")].is_initializer);
  EXPECT_FALSE(again[again.find("c")].is_initializer);
  EXPECT_TRUE(identical(again[again.find("c")].constant, graph[c].constant));
}

TEST(ToProto, KeepsStates) {
  Graph graph;
  const ValueId x = graph.add_input("x", DType::f32, {2});
  const ValueId w = graph.add_state("a weight", Tensor::of<float>({1, 2}), StateRole::parameter);
  const ValueId scale = graph.add_state("scale", Tensor::scalar(8.0f), StateRole::loss_scale);
  for (const auto& [a, b] : {std::pair{x, w}, std::pair{w, scale}}) {
    graph.add_node("Mul", kOnnxDomain, {a, b}, 1);
    Value& out = graph[graph.nodes.back().outputs[0]];
    out.dtype = DType::f32;
    out.shape = {2};
  }
  graph.outputs = graph.nodes[0].outputs;
  graph.states[0].next = graph.nodes[1].outputs[0];
  graph.states[0].gradient = graph.nodes[0].outputs[0];
  verify(graph);

  const onnx::ModelProto model = to_proto(graph);
  EXPECT_NO_THROW(onnx::checker::check_model(model));
  EXPECT_EQ(model.graph().input_size(), 3);
  EXPECT_EQ(model.graph().initializer_size(), 2);
  ASSERT_EQ(model.graph().output_size(), 2);  // the gradient is an output already

  const Graph again = from_proto(model);
  verify(again);
  ASSERT_EQ(again.states.size(), 2u);
  EXPECT_EQ(again.inputs.size(), 1u);
  EXPECT_EQ(again.outputs.size(), 1u);
  EXPECT_EQ(again[again.states[0].value].name, "a weight");
  EXPECT_EQ(again.states[0].role, StateRole::parameter);
  EXPECT_EQ(again[again.states[0].next].name, graph[graph.states[0].next].name);
  EXPECT_EQ(again[again.states[0].gradient].name, graph[graph.states[0].gradient].name);
  EXPECT_TRUE(identical(again.states[0].initial, graph.states[0].initial));
  EXPECT_EQ(again.states[1].role, StateRole::loss_scale);
  EXPECT_EQ(again.states[1].next, kNoValue);
}

TEST(ToProto, RenamesSubgraphValuesThatClash) {
  Graph graph = from_proto(parse_proto(kHeader + R"(m (bool c, float[2] x) => (float[2] y) {
      y = If (c) <then_branch = t () => (float[2] a) { h = Relu(x) a = Neg(h) },
                  else_branch = e () => (float[2] b) { b = Neg(x) }> })"));
  graph.rename(graph.find("y"), "h");
  const onnx::ModelProto model = to_proto(graph);
  EXPECT_NO_THROW(onnx::checker::check_model(model)) << model.DebugString();
}

TEST(ToProto, ImportsTheDomainsItsNodesNeed) {
  Graph graph;
  const ValueId x = graph.add_input("x", DType::f32, {2});
  graph.add_node("Anything", kOwnDomain, {x}, 1);
  graph.outputs = graph.nodes[0].outputs;
  std::map<std::string, std::int64_t> imports;
  const onnx::ModelProto model = to_proto(graph);
  for (const auto& import : model.opset_import()) imports[import.domain()] = import.version();
  EXPECT_EQ(imports, (std::map<std::string, std::int64_t>{{"", kOnnxOpset}, {"ai.halfstep", kOwnOpset}}));
}

TEST(FromProto, RefusesMetadataOfStatesThatAreNotThere) {
  onnx::ModelProto model = parse_proto(kHeader + "m (float[2] x) => (float[2] y) { y = Relu(x) }");
  auto* entry = model.add_metadata_props();
  entry->set_key("ai.halfstep.state.w");
  entry->set_value("parameter");
  EXPECT_THAT(error_of([&] { from_proto(model); }), HasSubstr("ai.halfstep.state.w"));
}

// What runs a step writes the next value where the state lies.
TEST(FromProto, RefusesStatesWhoseNextValuesOrGradientsDoNotFit) {
  const struct {
    const char* output;  // of a known type, or one that follows from inference
    const char* node;
    const char* key;
    const char* error;
  } cases[] = {
      {"float[2] n", "n = Relu(w)", "next", ""},
      {"float[K] n", "n = Relu(w)", "next", ""},
      {"float[2] n", "n = Relu(w)", "gradient", ""},
      {"float16[2] n", "n = Cast<to = 10>(w)", "gradient", ""},
      {"float[4] n", "n = Concat<axis = 0>(w, w)", "next", "f32 [4] as the next value of 'w' of f32 [2]"},
      {"float[K] n", "n = Concat<axis = 0>(w, w)", "next", "f32 [4] as the next value of 'w' of f32 [2]"},
      {"float[1,2] n", "n = Unsqueeze(w, zero)", "next", "f32 [1, 2] as the next value of 'w' of f32 [2]"},
      {"int64[2] n", "n = Cast<to = 7>(w)", "next", "i64 [2] as the next value of 'w' of f32 [2]"},
      {"float16[2] n", "n = Cast<to = 10>(w)", "next", "f16 [2] as the next value of 'w' of f32 [2]"},
      {"float[4] n", "n = Concat<axis = 0>(w, w)", "gradient", "f32 [4] as the gradient of 'w' of f32 [2]"},
      {"int64[2] n", "n = Cast<to = 7>(w)", "gradient", "i64 [2] as the gradient of 'w' of f32 [2]"},
  };
  for (const auto& c : cases) {
    onnx::ModelProto model =
        parse_proto(kHeader + "m (float[2] x) => (float[2] y, " + c.output +
                    ") <float[2] w = {1, 2}, int64[1] zero = {0}> { y = Mul(x, w) " + c.node + " }");
    for (const auto& [key, value] : {std::pair{"state", "parameter"}, std::pair{c.key, "n"}}) {
      auto* entry = model.add_metadata_props();
      entry->set_key(std::string("ai.halfstep.") + key + ".w");
      entry->set_value(value);
    }
    const std::string error = error_of([&] { load_model_from_bytes(model.SerializeAsString()); });
    EXPECT_EQ(error.empty(), *c.error == '\0') << error;
    EXPECT_THAT(error, HasSubstr(c.error)) << c.output << " " << c.node << " " << c.key;
  }
}

}  // namespace
}  // namespace halfstep
