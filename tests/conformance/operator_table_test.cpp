// The operator table as documentation.
#include "conformance/operator_table.h"

#include <fstream>
#include <iterator>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/paths.h"

namespace halfstep {
namespace {

using ::testing::Contains;
using ::testing::Not;
using ::testing::StartsWith;

TEST(OperatorTable, EveryRowHasACase) {
  for (const OpDef* op : op_table()) EXPECT_FALSE(op->cases.empty()) << op->domain << "." << op->name;
}

TEST(OperatorTable, ListsVersionsOfAnOperator) {
  EXPECT_EQ(operator_versions("Relu", ""), "1, 6, 13, 14");
  EXPECT_EQ(operator_versions("ReluGrad", kOwnDomain), "1");
}

TEST(OperatorTable, ListsTypesTheReferenceRuns) {
  const std::vector<DType> add = element_types(*find_op("Add"));
  EXPECT_THAT(add, Contains(DType::i32));
  EXPECT_THAT(add, Contains(DType::bf16));
  EXPECT_THAT(element_types(*find_op("Tanh")), Not(Contains(DType::i32)));
  for (const char* op : {"Where", "RandomNormal"}) EXPECT_THAT(element_types(*find_op(op)), Contains(DType::f32)) << op;
}

TEST(OperatorTable, TellsKernelsOfAnExecutor) {
  EXPECT_EQ(kernel_names(*find_op("Relu"), *make_reference_executor()).forward, "reference");
  EXPECT_THAT(kernel_names(*find_op("Relu"), *make_onednn_executor()).forward, StartsWith("native"));
  EXPECT_EQ(kernel_names(*find_op("Equal"), *make_reference_executor()).backward, "zero");
}

TEST(OperatorTable, IsTheOneInTheDocumentation) {
  std::ifstream file(test::source_dir() / "docs/operators.md");
  const std::string written(std::istreambuf_iterator<char>(file), {});
  EXPECT_TRUE(written == operators_markdown(*make_onednn_executor()))
      << "docs/operators.md is out of date: halfstep check --executor onednn --markdown >docs/operators.md";
}

}  // namespace
}  // namespace halfstep
