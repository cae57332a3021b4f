// NVIDIA's own compiler takes every kernel that the operators of the table generate.
#include <set>

#include <gtest/gtest.h>

#include "conformance/executor_check.h"
#include "executors/cudnn/kernel_cache.h"
#include "executors/cudnn/kernel_table.h"
#include "executors/cudnn/runtime_compiler.h"
#include "tests/executors/cudnn/emulated_executor.h"
#include "tests/executors/cudnn/emulation/generated.h"
#include "tests/executors/cudnn/op_cases.h"
#include <halfstep/base/error.h>
#include <halfstep/ops/op_def.h>

namespace halfstep::cudnn {
namespace {

constexpr int kCapabilities[] = {75, 80, 90, 100, 120};

/// The operators with kernels that are more than a chain's, of which every formula is compiled elsewhere.
std::vector<std::string> operators() {
  std::set<std::string> names;
  for (const core::KernelRow& row : kernel_table())
    if (row.makers.back() != make_generated) names.emplace(row.op);
  return {names.begin(), names.end()};
}

/// Compiles what the test asked for and none before did: of one name for all architectures, and then for one after the
/// other.
void compile_new_texts() {
  static std::set<std::string> texts, names;
  static std::size_t number = 0;
  for (const KernelText& text : emulation::executor_texts()) {
    if (!texts.insert(text.text).second) continue;
    const bool is_first = names.insert(text.name).second;
    ++number;
    for (std::size_t i = 0; i < std::size(kCapabilities); ++i) {
      if (!is_first && i != number % std::size(kCapabilities)) continue;
      try {
        EXPECT_FALSE(compile(text, kCapabilities[i], {}).empty());
      } catch (const Error& e) {
        ADD_FAILURE() << text.name << " for " << kCapabilities[i] << ": " << e.found();
      }
    }
  }
}

class GeneratedTexts : public ::testing::TestWithParam<std::string> {};

TEST_P(GeneratedTexts, AreTakenByNvrtc) {
  ASSERT_EQ(runtime_compiler_refusal(), "");
  emulation::forget_texts();
  const auto executor = emulated_executor();
  bool is_tested = false;
  for (const OpTest& test : op_tests()) {
    if (test.op != GetParam()) continue;
    is_tested = true;
    for (const DType dtype : test.dtypes) {
      std::vector<Tensor> values;
      const Graph graph = make_graph(test, dtype, values, 3);
      const auto store = executor->make_store();
      executor->compile(graph, *store);
    }
  }
  for (const OpDef* op : op_table()) {
    if (is_tested || op->name != GetParam()) continue;
    for (std::size_t i = 0; i < op->cases.size(); ++i) {
      const CheckResult result = check_execution(*op, i, DType::f32, *executor).result;
      EXPECT_NE(result, CheckResult::failed) << "case " << i;
    }
  }
  compile_new_texts();
}

TEST(KernelCache, TellsApartKernelsOfOneText) {
  class Kernel final : public LoadedKernel {
   public:
    void launch(unsigned, unsigned, std::span<const std::byte>, cudaStream_t) const override {}
  };
  KernelCache cache;
  int made = 0;
  const auto get = [&](const char* name, const char* text, int capability, int device) {
    return cache.get({name, "A", text}, capability, device, [&] {
      ++made;
      return std::make_shared<const Kernel>();
    });
  };
  const auto first = get("k", "text", 80, 0);
  EXPECT_EQ(get("k", "text", 80, 0), first);
  EXPECT_EQ(made, 1);
  const auto others = {get("l", "text", 80, 0), get("k", "other", 80, 0), get("k", "text", 90, 0),
                       get("k", "text", 80, 1)};
  for (const auto& other : others) EXPECT_NE(other, first);
  EXPECT_EQ(made, 5);
  get("m", "text", 80, 0);
  get("m", "text", 80, 0);
  EXPECT_EQ(made, 7) << "nobody held it";
}

INSTANTIATE_TEST_SUITE_P(, GeneratedTexts, ::testing::ValuesIn(operators()),
                         [](const auto& each) { return each.param; });

}  // namespace
}  // namespace halfstep::cudnn
