// Gradient operators take gradients of the shape of what they differentiate, optimizers operands that fit each other.
#include <map>
#include <string>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <onnx/defs/schema.h>

#include "conformance/cases.h"
#include <halfstep/base/error.h>
#include <halfstep/ops/infer.h>
#include <halfstep/ops/optimizers/optimizer_def.h>

namespace halfstep {
namespace {

/// `shape` with another extent on each axis in turn, and with one more axis.
std::vector<Shape> other_shapes(const Shape& shape) {
  std::vector<Shape> result;
  for (std::size_t axis = 0; axis < shape.rank(); ++axis) {
    result.push_back(shape);
    ++result.back()[axis];
  }
  std::vector<std::int64_t> longer = shape.dims();
  longer.push_back(2);
  result.emplace_back(longer);
  return result;
}

/// Calls `f(graph, index)` for the nodes of the operator in its cases.
template <class F>
void for_each_node(const OpDef& op, const F& f) {
  for (std::size_t i = 0; i < op.cases.size(); ++i) {
    SCOPED_TRACE(case_name(op, i));
    const auto made = make_case(op, i, DType::f32);
    ASSERT_TRUE(made);
    for (std::size_t n = 0; n < made->graph.nodes.size(); ++n)
      if (made->graph.nodes[n].is(op.name, op.domain)) f(made->graph, n);
  }
}

/// Inference refuses the node with any other shape of this operand.
void expect_one_shape(const Graph& graph, std::size_t node, std::size_t operand) {
  const ValueId id = graph.nodes[node].input(operand);
  Graph changed = graph;
  EXPECT_NO_THROW(infer_node(changed, changed.nodes[node]));
  for (const Shape& shape : other_shapes(graph[id].shape)) {
    changed[id].shape = shape;
    EXPECT_THROW(infer_node(changed, changed.nodes[node]), Error)
        << "operand " << operand << " of shape " << shape.to_string() << " for " << graph[id].shape.to_string();
  }
}

TEST(GradientOperators, TakeGradientsOfTheForwardResultsShapes) {
  register_schemas();
  std::map<std::string, int> checked;
  for (const OpDef* op : op_table()) {
    if (op->domain != kOwnDomain || op->name.find("Grad") == std::string_view::npos) continue;
    const onnx::OpSchema* schema =
        onnx::OpSchemaRegistry::Schema(std::string(op->name), kOwnOpset, std::string(op->domain));
    ASSERT_TRUE(schema) << op->name;
    // A product with the slope of an activation behind it: its gradients are matrices of their own shapes.
    if (schema->inputs().at(0).GetName() == "A") continue;
    checked[std::string(op->name)] = 0;
    for_each_node(*op, [&](const Graph& graph, std::size_t n) {
      for (std::size_t i = 0; i < graph.nodes[n].inputs.size(); ++i) {
        const std::string& name = schema->inputs().at(i).GetName();
        if (graph.nodes[n].input(i) == kNoValue || !(name.starts_with("dY") || name == "dloss")) continue;
        expect_one_shape(graph, n, i);
        ++checked[std::string(op->name)];
      }
    });
  }
  EXPECT_GE(checked.size(), 20u);
  EXPECT_THAT(checked, ::testing::Each(::testing::Pair(::testing::_, ::testing::Gt(0))));
}

TEST(GradientOperators, TakeGradientsWhereTheForwardShapeIsComputed) {
  Graph graph = parse_case(
      "(float[n,3] dy, int64[1] s, int64[1] e) => (float[4,3] dx) "
      "{ dx = ai.halfstep.SliceGrad<input_shape = [4, 3]>(dy, s, e) }");
  EXPECT_NO_THROW(infer_graph(graph));
  EXPECT_EQ(graph[graph.outputs[0]].shape, (Shape{4, 3}));
}

TEST(OptimizerOperators, TakeOperandsOfTheParametersShapes) {
  for (const OptimizerDef& row : optimizers()) {
    const OpDef& op = *find_op(row.op, kOwnDomain);
    for_each_node(op, [&](const Graph& graph, std::size_t n) {
      const StepOperands operands(graph.nodes[n]);
      for (std::size_t i = operands.gradient(0); i < graph.nodes[n].inputs.size(); ++i) expect_one_shape(graph, n, i);
      Graph changed = graph;
      for (std::size_t i = 0; i < StepOperands::kScalars; ++i) {
        const ValueId id = graph.nodes[n].input(i);
        changed[id].shape = Shape{2};
        EXPECT_THROW(infer_node(changed, changed.nodes[n]), Error) << "scalar " << i;
        changed[id].shape = graph[id].shape;
      }
    });
  }
}

}  // namespace
}  // namespace halfstep
