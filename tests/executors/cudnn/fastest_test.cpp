// Which of cuBLASLt's algorithms is taken.
#include "executors/cudnn/fastest.h"

#include <cstdlib>

#include <gtest/gtest.h>

#include "conformance/run_graph.h"
#include "tests/executors/cudnn/emulated_executor.h"
#include "tests/executors/cudnn/emulation/emulation.h"
#include "tests/executors/cudnn/op_cases.h"
#include "tests/temporary_directory.h"

namespace halfstep::cudnn {
namespace {

using Times = std::vector<std::optional<double>>;

auto times(const Times& all, int* asked = nullptr) {
  return [&all, asked](std::size_t i) {
    if (asked) ++*asked;
    return all[i];
  };
}

TEST(Fastest, IsTheFirstOfTheLeastTime) {
  EXPECT_EQ(fastest(4, times({3.0, 1.0, 2.0, 1.0})), 1U);
  EXPECT_EQ(fastest(3, times({std::nullopt, 5.0, std::nullopt})), 1U);
  EXPECT_EQ(fastest(2, times({std::nullopt, std::nullopt})), 0U);
}

TEST(Fastest, IsKeptInAFolder) {
  const TemporaryDirectory folder;
  const Times first{2.0, 3.0, 1.0}, later{1.0, 2.0, 3.0};
  int asked = 0;
  EXPECT_EQ(fastest_known(folder / "times", "device", "this", 3, times(first, &asked)), 2U);
  EXPECT_EQ(asked, 3);
  EXPECT_EQ(fastest_known(folder / "times", "device", "this", 3, times(later, &asked)), 2U) << "it decided again";
  EXPECT_EQ(asked, 3);
  EXPECT_EQ(fastest_known(folder / "times", "device", "that", 3, times(later, &asked)), 0U);
  EXPECT_EQ(fastest_known(folder / "times", "another device", "this", 3, times(later, &asked)), 0U);
  EXPECT_EQ(fastest_known(folder / "times", "device", "this", 2, times(later, &asked)), 0U)
      << "there is none of that number";
  EXPECT_EQ(fastest_known("/proc/nothing", "device", "this", 3, times(first)), 0U)
      << "it would decide again every time";
}

TEST(Fastest, TheFileIsReadOnce) {
  const TemporaryDirectory folder;
  const std::filesystem::path file = folder / "choices.json";
  int asked = 0;
  EXPECT_EQ(fastest_known(folder.path(), "device", "this", 2, times({2.0, 1.0}, &asked)), 1U);
  ASSERT_TRUE(std::filesystem::remove(file));
  EXPECT_EQ(fastest_known(folder.path(), "device", "this", 2, times({1.0, 2.0}, &asked)), 1U);
  EXPECT_EQ(asked, 2);
  EXPECT_FALSE(std::filesystem::exists(file)) << "there was nothing to add";
  EXPECT_EQ(fastest_known(folder.path(), "device", "that", 2, times({1.0, 2.0}, &asked)), 0U);
  EXPECT_TRUE(std::filesystem::exists(file));
}

TEST(Fastest, ProductsAreTimedOnceForAMachine) {
  const TemporaryDirectory folder;
  ::setenv("HALFSTEP_KERNEL_CACHE", (folder / "kernels").c_str(), 1);
  emulation::machine().algorithms = 3;
  const OpTest test{"", "MatMul", "", {{Operand::Kind::real, {5, 7}}, {Operand::Kind::real, {7, 4}}}};
  std::vector<Tensor> values;
  const Graph graph = make_graph(test, DType::f16, values, 3);
  std::vector<int> launched;
  std::vector<Tensor> results;
  for (int turn = 0; turn < 2; ++turn) {
    const int before = emulation::products_launched();
    const auto executor = emulated_executor();
    CompiledGraph compiled(*executor, graph);
    launched.push_back(emulation::products_launched() - before);
    results.push_back(compiled.run(values)[0]);
  }
  emulation::machine().algorithms = 1;
  ::unsetenv("HALFSTEP_KERNEL_CACHE");
  EXPECT_GT(launched[0], 3);
  EXPECT_EQ(launched[1], 0);
  EXPECT_TRUE(identical(results[0], results[1]));
  EXPECT_STREQ(emulation::latest_refusal(), "");
}

}  // namespace
}  // namespace halfstep::cudnn
