// The rows of the operator table as a whole, and their cases. What the rows say is held by tests/conformance.
#include <map>
#include <set>
#include <string>

#include <gtest/gtest.h>

#include "conformance/gradient_check.h"
#include <halfstep/base/error.h>
#include <halfstep/ops/infer.h>

namespace halfstep {
namespace {

TEST(OpTable, HasEveryCaseAsItIsWritten) {
  for (const OpDef* op : op_table())
    for (std::size_t i = 0; i < op->cases.size(); ++i) EXPECT_TRUE(make_case(*op, i, DType::f32)) << case_name(*op, i);
}

TEST(OpTable, NamesEveryOperatorOnce) {
  std::map<std::string, int> rows;
  for (const OpDef* op : op_table()) ++rows[qualified_name(*op)];
  for (const auto& [name, count] : rows) EXPECT_EQ(count, 1) << name;
  for (const OpDef* op : op_table()) EXPECT_EQ(find_op(op->name, op->domain), op);
}

// A graph that is built has no other types and shapes than those inferred, and gradients take them from there. Only a
// shape that depends on values may stay open, not its rank.
TEST(OpTable, HasInferenceForEveryResult) {
  for (const OpDef* op : op_table())
    for (std::size_t i = 0; i < op->cases.size(); ++i) {
      SCOPED_TRACE(case_name(*op, i));
      Graph graph = make_case(*op, i, DType::f32)->graph;
      for (const Node& node : graph.nodes)
        for (const ValueId out : node.outputs) {
          if (out == kNoValue) continue;
          graph[out].dtype = DType::undefined;
          graph[out].shape = Shape::unranked();
        }
      infer_graph(graph);
      for (const Node& node : graph.nodes)
        for (const ValueId out : node.outputs) {
          if (out == kNoValue) continue;
          EXPECT_NE(graph[out].dtype, DType::undefined) << graph[out].name;
          EXPECT_TRUE(graph[out].shape.is_ranked()) << graph[out].name;
        }
    }
}

// So that a parameter behind it can be trained, whether or not its schema has a function body that could be. Control
// flow is trained through once it is inlined.
TEST(OpTable, HasAGradientRuleForEveryStandardOperatorButControlFlow) {
  std::set<std::string_view> without;
  for (const OpDef* op : op_table())
    if (op->domain == kOnnxDomain && !op->gradient) without.insert(op->name);
  EXPECT_EQ(without, (std::set<std::string_view>{"If", "Loop", "Scan"}));
}

// The checks must be able to fail: Tanh's gradient is not zero everywhere.
TEST(GradientCheck, FindsAWrongRule) {
  OpDef op = *find_op("Tanh");
  op.gradient = no_gradient;
  const CheckReport report = check_gradient(op, 0);
  EXPECT_EQ(report.result, CheckResult::failed);
  EXPECT_NE(report.message.find("by finite differences"), std::string::npos) << report.message;
}

TEST(ConformanceCases, AreTheSameEveryTime) {
  const OpDef& op = *find_op("Add");
  const auto first = make_case(op, 0, DType::f16), second = make_case(op, 0, DType::f16);
  ASSERT_TRUE(first && second);
  ASSERT_EQ(first->inputs.size(), 2u);
  EXPECT_EQ(first->inputs[0].dtype(), DType::f16);
  EXPECT_TRUE(identical(first->inputs[0], second->inputs[0]));
  EXPECT_FALSE(identical(first->inputs[0], first->inputs[1]));
}

TEST(ConformanceCases, RefuseAnUnknownIndex) { EXPECT_THROW(make_case(*find_op("Relu"), 99, DType::f32), Error); }

}  // namespace
}  // namespace halfstep
