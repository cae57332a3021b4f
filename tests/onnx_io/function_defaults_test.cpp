// Attributes of local functions that calls leave out, and what functions add up to.
#include <gmock/gmock.h>

#include "onnx_io/inlined_size.h"
#include "tests/onnx_io/test_util.h"
#include <halfstep/onnx_io/load.h>

namespace halfstep {
namespace {

using test::error_of;
using testing::HasSubstr;

std::string model_of(const std::string& graph, const std::string& functions) {
  return R"(<ir_version: 9, opset_import: ["": 17, "l": 1]> m )" + graph + functions;
}

constexpr const char* kCall = "(float[4] x) => (float[4] y) { y = l.F(x) }";
constexpr const char* kF = R"(<domain: "l", opset_import: ["": 17]>
    F <slope: float = 0.5> (a) => (b) { b = LeakyRelu<alpha: float = @slope>(a) })";

/// The alpha of the first LeakyRelu in the graph or its first node's first body.
float alpha_of(const Graph& graph) {
  for (const Node& node : graph.nodes) {
    if (node.is("LeakyRelu")) return node.attributes.get_float("alpha", -1);
    if (const Attribute* body = node.attributes.find("then_branch"))
      return alpha_of(*std::get<std::shared_ptr<const Graph>>(*body));
  }
  return -2;
}

TEST(FunctionDefaults, StandInForWhatCallsLeaveOut) {
  const struct {
    const char* name;
    std::string graph, functions;
    float alpha;
  } cases[] = {
      {"left out", kCall, kF, 0.5F},
      {"given", "(float[4] x) => (float[4] y) { y = l.F<slope = 0.25>(x) }", kF, 0.25F},
      {"in a body",
       "(bool c, float[4] x) => (float[4] y) { y = If(c) <then_branch = t () => (float[4] p) { p = l.F(x) }, "
       "else_branch = e () => (float[4] q) { q = Relu(x) }> }",
       kF, 0.5F},
      {"in a function", "(float[4] x) => (float[4] y) { y = l.G(x) }",
       std::string(kF) + R"(<domain: "l", opset_import: ["": 17, "l": 1]> G (a) => (b) { b = l.F(a) })", 0.5F},
      {"passed on by default", "(float[4] x) => (float[4] y) { y = l.G(x) }",
       std::string(kF) + R"(<domain: "l", opset_import: ["": 17, "l": 1]>
           G <other: float = 0.125> (a) => (b) { b = l.F<slope: float = @other>(a) })",
       0.125F},
      {"passed on as given", "(float[4] x) => (float[4] y) { y = l.G<other = 0.75>(x) }",
       std::string(kF) + R"(<domain: "l", opset_import: ["": 17, "l": 1]>
           G <other> (a) => (b) { b = l.F<slope: float = @other>(a) })",
       0.75F},
  };
  for (const auto& c : cases) EXPECT_EQ(alpha_of(parse_model(model_of(c.graph, c.functions)).graph), c.alpha) << c.name;
}

TEST(FunctionDefaults, MakeConstantsToo) {
  const Graph graph = parse_model(model_of(kCall, R"(<domain: "l", opset_import: ["": 17]>
      F <v: float = 0.5> (a) => (b) { c = Constant<value_float: float = @v>() b = Mul(a, c) })"))
                          .graph;
  ASSERT_EQ(graph.nodes.size(), 1u);
  EXPECT_EQ(to_doubles(graph[graph.nodes[0].inputs.at(1)].constant), std::vector<double>{0.5});
}

// The inner default counts only where the outer call has no value, which the inner call cannot tell.
TEST(FunctionDefaults, AreRefusedWhereTheyDependOnTheCaller) {
  const std::string functions = std::string(kF) + R"(<domain: "l", opset_import: ["": 17, "l": 1]>
      G <other> (a) => (b) { b = l.F<slope: float = @other>(a) })";
  EXPECT_THAT(error_of([&] { parse_model(model_of("(float[4] x) => (float[4] y) { y = l.G(x) }", functions)); }),
              HasSubstr("a value for 'slope' wherever 'F' is called"));
}

TEST(InlinedSize, BoundsTheBytesThatCallsMultiply) {
  onnx::ModelProto model = test::parse_proto(model_of(kCall, R"(<domain: "l", opset_import: ["": 17]>
      F (a) => (b) { c = Constant<value = float[1] {1}>() b = Mul(a, c) })"));
  constexpr int kBytes = 1 << 20;
  onnx::TensorProto& value = *model.mutable_functions(0)->mutable_node(0)->mutable_attribute(0)->mutable_t();
  value.clear_float_data();
  value.set_dims(0, kBytes / 4);
  value.set_raw_data(std::string(kBytes, '\0'));
  const onnx::NodeProto call = model.graph().node(0);
  const auto calls = [&](int count) {
    while (model.graph().node_size() < count) {
      onnx::NodeProto& more = *model.mutable_graph()->add_node() = call;
      more.set_output(0, "y" + std::to_string(model.graph().node_size()));
    }
    return error_of([&] { check_inlined_size(model); });
  };
  EXPECT_EQ(calls(100), "");
  EXPECT_THAT(calls(600), HasSubstr("grows by at most"));
}

}  // namespace
}  // namespace halfstep
