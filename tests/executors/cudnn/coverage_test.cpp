// Which nodes of whole training steps have no kernel of the device.
#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <set>
#include <utility>

#include <fmt/format.h>
#include <gtest/gtest.h>

#include "executors/cudnn/runtime_compiler.h"
#include "tests/executors/cudnn/emulated_executor.h"
#include "tests/executors/cudnn/emulation/generated.h"
#include "tests/executors/cudnn/training_steps.h"
#include <halfstep/executors/timed_program.h>

namespace halfstep::cudnn {
namespace {

/// What a step does on the host, and what it copies.
struct Coverage {
  std::size_t nodes = 0, native = 0;
  std::size_t copies = 0;                                  // between host and device, in every step
  std::size_t state_copies = 0;                            // of these those into states' memory
  double to_host = 0, largest_to_host = 0;                 // bytes, in every step
  std::map<std::string, std::vector<std::string>> others;  // operator and reason → nodes

  std::size_t on_host() const { return nodes - native; }
};

Coverage coverage_of(const std::string& name, DType precision) {
  const auto executor = emulated_executor();
  const auto store = executor->make_store();
  const auto program = executor->compile(training_step(name, precision, executor->capabilities()), *store);
  const auto& facts = dynamic_cast<const TimedProgram&>(*program).facts();
  Coverage found;
  for (std::size_t i = 0; i < facts.size(); ++i) {
    const PlanEntry& entry = program->plan().entries[i];
    if (facts[i].kind == EntryKind::conversion) {
      if (entry.reason == "when the output is asked for") continue;
      ++found.copies;
      if (entry.op == "Copy" && entry.node == "state") ++found.state_copies;
      if (entry.op == "Download") {
        const double bytes = facts[i].cost.bytes / 2;  // they are read and written
        found.to_host += bytes;
        found.largest_to_host = std::max(found.largest_to_host, bytes);
      }
      continue;
    }
    ++found.nodes;
    if (facts[i].kind == EntryKind::reference)
      found.others[entry.op + ": " + entry.reason].push_back(entry.node);
    else
      ++found.native;
  }
  return found;
}

std::string report(const std::string& name, DType precision, const Coverage& found) {
  std::string text = fmt::format("{:<32} {:<4} {:>5} nodes {:>5} native {:>4} copies {:>9} bytes to the host\n", name,
                                 name_of(precision), found.nodes, found.native, found.copies,
                                 static_cast<std::int64_t>(found.to_host));
  for (const auto& [what, nodes] : found.others) text += fmt::format("    {:>4} {}\n", nodes.size(), what);
  return text;
}

/// The nodes on the host, of the models that have any. Every other model has none.
const std::map<std::string, std::size_t> kOnHost = {};

class StepCoverage : public ::testing::TestWithParam<std::string> {};

TEST_P(StepCoverage, IsAsTheTableSays) {
  const auto row = kOnHost.find(GetParam());
  for (const DType precision : {DType::f32, DType::f16}) {
    const Coverage found = coverage_of(GetParam(), precision);
    const std::string text = report(GetParam(), precision, found);
    fmt::print("{}", text);
    EXPECT_EQ(found.on_host(), row == kOnHost.end() ? 0 : row->second) << text;
    if (found.on_host() > 0) continue;
    EXPECT_LE(found.largest_to_host, 4096) << text;
    EXPECT_EQ(found.state_copies, 0U) << "a kernel computes a state elsewhere than in its memory\n" << text;
  }
}

std::string test_name(std::string name) {
  std::ranges::replace(name, '-', '_');
  return name;
}
INSTANTIATE_TEST_SUITE_P(, StepCoverage, ::testing::ValuesIn(step_names()),
                         [](const auto& each) { return test_name(each.param); });

/// Leaves machine code where script/gpu-tables asks for it.
void keep(const std::string& name, const std::vector<char>& code) {
  if (const char* folder = std::getenv("HALFSTEP_CUBINS"))
    std::ofstream(std::filesystem::path(folder) / (name + ".cubin"), std::ios::binary)
        .write(code.data(), static_cast<std::streamsize>(code.size()));
}

/// What NVIDIA's compiler makes of the kernels that a step generates. It needs NVRTC, whose log says what is spilled
/// and whose PTX has the accesses of 16 bytes, and no device.
class StepKernels : public ::testing::TestWithParam<std::pair<const char*, DType>> {};

TEST_P(StepKernels, AreCompiledWithoutSpills) {
  ASSERT_EQ(runtime_compiler_refusal(), "");
  emulation::forget_texts();
  coverage_of(GetParam().first, GetParam().second);
  const std::vector<KernelText> texts = emulation::executor_texts();
  EXPECT_GT(texts.size(), 5U);
  struct Row {
    int kernels = 0, wide = 0;  // those that move 16 bytes at once
    int registers = 0, spilled_bytes = 0;
  };
  std::map<std::string, Row> rows;
  for (std::size_t i = 0; i < texts.size(); ++i) {
    const KernelText& text = texts[i];
    EXPECT_FALSE(compile(text, i % 2 ? 120 : 75, {}).empty()) << text.name;
    // They only wait for memory.
    static const std::set<std::string> kWaiting = {"update",           "squares",        "gather_moments", "normalize",
                                                   "gather_gradients", "input_gradient", "random_numbers"};
    const bool is_one_pass = text.name.starts_with("elementwise") || kWaiting.contains(text.name);
    for (const int capability : {80, 90}) {
      const KernelReport report = inspect(text, capability);
      keep(fmt::format("{}.{}.{}.{}", text.name, capability, GetParam().first, i), report.code);
      EXPECT_EQ(report.spilled_bytes, 0) << text.name << " for " << capability;
      if (text.name != "random_numbers") {  // sin and cos of large doubles take an array
        EXPECT_EQ(report.stack_bytes, 0) << text.name << " for " << capability << ": an array in memory";
      }
      if (is_one_pass) {
        EXPECT_GT(report.vector_accesses, 0) << text.name << " for " << capability << "\n" << text.text;
      }
      Row& row = rows[text.name];
      row.kernels += capability == 80;
      row.wide += capability == 80 && report.vector_accesses > 0;
      row.registers = std::max(row.registers, report.registers);
      row.spilled_bytes = std::max(row.spilled_bytes, report.spilled_bytes);
    }
  }
  for (const auto& [name, row] : rows)
    fmt::print("{:<32} {:>3} kernels, at most {:>3} registers and {} spilled bytes, {} move 16 bytes at once\n", name,
               row.kernels, row.registers, row.spilled_bytes, row.wide);
}
INSTANTIATE_TEST_SUITE_P(
    , StepKernels,
    ::testing::Values(std::pair("unet-resize", DType::f16), std::pair("swin-dynamo", DType::f16),
                      std::pair("deit-dynamo", DType::f32),  // whose attention is generated
                      std::pair("normalized", DType::f16), std::pair("autoencoder-dynamo", DType::f16),
                      std::pair("lstm-torchscript", DType::f16), std::pair("gpt_neo-dynamo", DType::f32)),
    [](const auto& each) { return test_name(fmt::format("{}_{}", each.param.first, name_of(each.param.second))); });

}  // namespace
}  // namespace halfstep::cudnn
