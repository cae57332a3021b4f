// Every row of the operator table: its gradient rule against finite differences, and the oneDNN executor against the
// reference executor, in every case and element type.
#include <algorithm>
#include <map>
#include <set>
#include <string>

#include <gtest/gtest.h>

#include "executors/conformance/executor_check.h"
#include "executors/conformance/gradient_check.h"
#include "executors/conformance/special_check.h"
#include "graph/error.h"

namespace halfstep {
namespace {

std::string test_name(const ::testing::TestParamInfo<const OpDef*>& info) {
  std::string name = qualified_name(*info.param);
  std::replace_if(
      name.begin(), name.end(), [](unsigned char c) { return !std::isalnum(c); }, '_');
  return name;
}

class Conformance : public ::testing::TestWithParam<const OpDef*> {};

TEST_P(Conformance, GradientRuleMatchesFiniteDifferences) {
  const OpDef& op = *GetParam();
  for (std::size_t i = 0; i < op.cases.size(); ++i) {
    const CheckReport report = check_gradient(op, i);
    EXPECT_TRUE(report.ok()) << op.cases[i].text << "\n" << report.message;
  }
}

TEST_P(Conformance, OneDnnMatchesReference) {
  const OpDef& op = *GetParam();
  const std::unique_ptr<Executor> onednn = make_onednn_executor();
  for (std::size_t i = 0; i < op.cases.size(); ++i) {
    for (DType dtype : kCheckedTypes) {
      const CheckReport report = check_execution(op, i, dtype, *onednn);
      EXPECT_TRUE(report.ok()) << op.cases[i].text << " in " << name_of(dtype) << "\n" << report.message;
      if (dtype == DType::f32) {
        EXPECT_NE(report.result, CheckResult::not_applicable)
            << op.cases[i].text;  // every case exists as it is written
      }
    }
  }
}

TEST_P(Conformance, OneDnnMatchesReferenceOnSpecialNumbers) {
  const OpDef& op = *GetParam();
  const std::unique_ptr<Executor> onednn = make_onednn_executor();
  for (std::size_t i = 0; i < op.cases.size(); ++i) {
    for (DType dtype : kCheckedTypes) {
      const CheckReport report = check_special(op, i, dtype, *onednn);
      EXPECT_TRUE(report.ok()) << op.cases[i].text << " in " << name_of(dtype) << "\n" << report.message;
    }
  }
}

INSTANTIATE_TEST_SUITE_P(OpTable, Conformance, ::testing::ValuesIn(op_table().begin(), op_table().end()), test_name);

TEST(OpTable, NamesEveryOperatorOnce) {
  std::map<std::string, int> rows;
  for (const OpDef* op : op_table()) ++rows[qualified_name(*op)];
  for (const auto& [name, count] : rows) EXPECT_EQ(count, 1) << name;
  for (const OpDef* op : op_table()) EXPECT_EQ(find_op(op->name, op->domain), op);
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
