// What the products of matrices refuse, when shapes are inferred and when they run.
#include "ops/matmul/product.h"

#include <gtest/gtest.h>

#include "tests/ops/run_op.h"
#include <halfstep/base/error.h>

namespace halfstep::ops {
namespace {

struct Refused {
  const char* op;
  Shape a, b;
};

class RefusedProduct : public ::testing::TestWithParam<Refused> {};

TEST_P(RefusedProduct, IsRefusedByInferenceAndByTheKernel) {
  const auto& [op, a, b] = GetParam();
  const std::string name(op);
  const std::vector<Tensor> operands{Tensor(DType::f32, a), Tensor(DType::f32, b)};
  EXPECT_THROW(run_own(name, operands, 1), Error);

  Node node;
  node.op = name;
  node.domain = kOwnDomain;
  std::vector<Tensor> results(1);
  KernelCall call{node, operands, results};
  EXPECT_THROW(find_op(name, kOwnDomain)->reference(call), Error);
}

INSTANTIATE_TEST_SUITE_P(
    All, RefusedProduct,
    ::testing::Values(Refused{"FusedMatMul", {2, 3}, {4, 5}}, Refused{"FusedMatMul", {3}, {3, 5}},
                      Refused{"FusedMatMul", {2, 3, 4}, {3, 4, 5}}, Refused{"FusedGemm", {2, 3}, {4, 5}},
                      Refused{"FusedGemm", {2, 3, 4}, {2, 4, 5}}, Refused{"GemmActivation", {2, 3}, {4, 5}},
                      Refused{"GemmSums", {2, 3}, {4, 5}}, Refused{"GemmSums", {2, 3, 4}, {2, 4, 5}}),
    [](const auto& each) { return std::string(each.param.op) + std::to_string(each.index); });

}  // namespace
}  // namespace halfstep::ops
