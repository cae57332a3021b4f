// Every operator of the table, in every element type of the device, against its reference kernel. Own kernels are the
// texts and the functors that the device runs; cuDNN and cuBLASLt are emulated.
#include <cmath>
#include <cstring>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "conformance/run_graph.h"
#include "conformance/special_check.h"
#include "executors/cudnn/kernel_table.h"
#include "tests/executors/cudnn/emulated_executor.h"
#include "tests/executors/cudnn/emulation/emulation.h"
#include "tests/executors/cudnn/op_cases.h"
#include <halfstep/base/error.h>

namespace halfstep::cudnn {
namespace {

using testing::HasSubstr;
using testing::StartsWith;

std::vector<Tensor> run(Executor& executor, const Graph& graph, const std::vector<Tensor>& values,
                        Plan* plan = nullptr) {
  CompiledGraph compiled(executor, graph);
  if (plan) *plan = compiled.program().plan();
  return compiled.run(values);
}

/// Spacing of the type's numbers around 1, doubled: one rounding of the reference's, one of the kernel's.
double tolerance(DType dtype) { return dtype == DType::f16 ? 0x1p-9 : dtype == DType::bf16 ? 0x1p-6 : 2e-6; }

struct Instance {
  OpTest test;
  DType dtype;
};
std::string name_of(const Instance& i) {
  return i.test.op + "_" + i.test.name + "_" + std::string(halfstep::name_of(i.dtype));
}
void PrintTo(const Instance& i, std::ostream* os) { *os << name_of(i); }

std::vector<Instance> instances() {
  std::vector<Instance> all;
  for (const OpTest& test : op_tests())
    for (DType dtype : test.dtypes) all.push_back({test, dtype});
  return all;
}

class KernelTest : public testing::TestWithParam<Instance> {
 protected:
  KernelTest() { emulation::latest_refusal(); }  // of tests before
};

TEST_P(KernelTest, AgreesWithTheReference) {
  const auto& [test, dtype] = GetParam();
  std::vector<Tensor> values;
  const Graph graph = make_graph(test, dtype, values, 17);
  Plan plan;
  const auto executor = emulated_executor(Values::separate);
  const std::vector<Tensor> got = run(*executor, graph, values, &plan);
  EXPECT_TRUE(emulation::guards_are_whole());
  const std::vector<Tensor> want = run(*make_reference_executor(), graph, values);
  EXPECT_THAT(first_node(plan).kernel, StartsWith(test.kernel)) << first_node(plan).reason;
  ASSERT_EQ(got.size(), want.size());
  for (std::size_t k = 0; k < got.size(); ++k) {
    ASSERT_EQ(got[k].dtype(), want[k].dtype());
    ASSERT_EQ(got[k].shape(), want[k].shape());
    // A result in f32 of half operands went through half when the library cannot write f32 itself.
    const double bound = tolerance(got[k].dtype() == DType::f32 ? DType::f32 : dtype);
    const std::vector<double> g = to_doubles(got[k]), w = to_doubles(want[k]);
    for (std::size_t i = 0; i < g.size(); ++i)
      ASSERT_LE(std::abs(g[i] - w[i]), bound * std::max(1.0, std::abs(w[i])))
          << "output " << k << ", element " << i << ": " << g[i] << " for " << w[i];
  }
  EXPECT_STREQ(emulation::latest_refusal(), "");
}

TEST_P(KernelTest, AgreesWithTheReferenceOnSpecialNumbers) {
  const auto& [test, dtype] = GetParam();
  std::vector<Tensor> values;
  const Graph graph = make_graph(test, dtype, values, 17);
  // Half types take cuBLASLt's slope, which nothing defines where Z is infinite.
  const OpenNaN open{.with_infinity = test.op == "GemmActivationGrad" && is_half(dtype)};
  EXPECT_EQ(special_difference(graph, graph, values, *emulated_executor(), open), "");
}

INSTANTIATE_TEST_SUITE_P(, KernelTest, testing::ValuesIn(instances()),
                         [](const auto& each) { return name_of(each.param); });

TEST(Products, AreApartFromWhatCublasLtDoesNotTake) {
  for (const Instance& instance : instances()) {
    const auto& [test, dtype] = instance;
    if (!test.op.starts_with("Gemm") && test.op != "FusedGemm") continue;
    SCOPED_TRACE(name_of(instance));
    std::vector<Tensor> values;
    const Graph graph = make_graph(test, dtype, values, 19);
    const std::vector<Tensor> want = run(*make_reference_executor(), graph, values);
    emulation::machine().has_epilogues = false;
    const std::vector<Tensor> got = run(*emulated_executor(Values::separate), graph, values);
    emulation::machine().has_epilogues = true;
    for (std::size_t k = 0; k < got.size(); ++k) {
      const std::vector<double> g = to_doubles(got[k]), w = to_doubles(want[k]);
      for (std::size_t i = 0; i < g.size(); ++i)
        ASSERT_LE(std::abs(g[i] - w[i]), 2 * tolerance(dtype) * std::max(1.0, std::abs(w[i]))) << k << ", " << i;
    }
  }
}

struct Refused {
  OpTest test;
  const char* reason;
  DType dtype = DType::f32;
};

TEST(KernelTable, WhatIsRefusedRunsInTheReferenceAndThePlanSaysWhy) {
  using Kind = Operand::Kind;
  const std::vector<std::int64_t> two = {2, 2};
  const Refused refused[] = {
      {{"",
        "MaxPool",
        "",
        {{Kind::real, {1, 1, 4, 4}}},
        {{"kernel_shape", two}, {"storage_order", std::int64_t{1}}},
        2},
       "column-major"},
      {{"", "Add", "", {{Kind::real, {3}}, {Kind::real, {3}}}}, "f64", DType::f64},
      {{"", "MatMul", "", {{Kind::real, {2, 1, 3, 4}}, {Kind::real, {1, 2, 4, 3}}}}, "broadcast on both sides"},
      {{"", "LRN", "", {{Kind::real, {1, 3, 2, 2}}}, {{"size", std::int64_t{3}}}}, "no kernel of its own"},
  };
  for (const auto& [test, reason, dtype] : refused) {
    std::vector<Tensor> values;
    const Graph graph = make_graph(test, dtype, values, 5);
    Plan plan;
    const std::vector<Tensor> got = run(*emulated_executor(), graph, values, &plan);
    const std::vector<Tensor> want = run(*make_reference_executor(), graph, values);
    EXPECT_THAT(first_node(plan).kernel, StartsWith("reference"));
    EXPECT_THAT(first_node(plan).reason, HasSubstr(reason));
    for (std::size_t k = 0; k < got.size(); ++k) EXPECT_TRUE(identical(got[k], want[k])) << test.op;
  }
}

TEST(GlobalNorm, FindsTheOneElementThatIsNotFinite) {
  const OpTest test{
      "", "GlobalNorm", std::string(kOwnDomain), {{Operand::Kind::f32, {5}}, {Operand::Kind::f32, {40000}}}, {}, 2};
  for (const float bad : {INFINITY, -INFINITY, NAN}) {
    std::vector<Tensor> values;
    const Graph graph = make_graph(test, DType::f32, values, 3);
    values[1].data<float>()[39999] = bad;
    EXPECT_FALSE(*run(*emulated_executor(), graph, values)[1].data<bool>());
  }
}

}  // namespace
}  // namespace halfstep::cudnn
