// What cuDNN plans for devices that are described: every convolution of whole training steps has an engine.
#include <algorithm>
#include <fstream>
#include <iterator>
#include <set>

#include <dlfcn.h>
#include <fmt/format.h>
#include <fmt/ranges.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/executors/cudnn/training_steps.h"
#include "tests/paths.h"
#include <halfstep/base/error.h>
#include <halfstep/executors/registry.h>

namespace halfstep::cudnn {
namespace {

using testing::HasSubstr;
using testing::Not;
using testing::StartsWith;

std::string description(const std::string& device) {
  const auto path = test::source_dir() / "tests" / "executors" / "cudnn" / "devices" / (device + ".json");
  std::ifstream file(path);
  return {std::istreambuf_iterator<char>(file), {}};
}

std::unique_ptr<Executor> planner(const std::string& text) {
  // Before cuDNN looks for one of that name.
  static void* const driver = dlopen(HALFSTEP_NO_DEVICE_LIBRARY, RTLD_NOW | RTLD_GLOBAL);
  EXPECT_NE(driver, nullptr) << dlerror();
  return make_described_executor("", HALFSTEP_CUDNN_PLUGIN, text);
}

Plan plan_of(Executor& executor, const std::string& model, DType precision) {
  const auto store = executor.make_store();
  return executor.compile(training_step(model, precision, executor.capabilities()), *store)->plan();
}

struct Device {
  const char* name;
  std::vector<const char*> models;
};
// Depthwise convolutions are many, and planned for one device; bf16, where a device has it, for one model.
const Device kDevices[] = {
    {"t4", {"resnet-torchscript", "unet"}},   {"a100", {"resnet-torchscript", "unet"}},
    {"l4", {"resnet-torchscript", "unet"}},   {"h100", {"resnet-torchscript", "unet", "mobilenetv2-torchscript"}},
    {"b200", {"resnet-torchscript", "unet"}}, {"rtx5090", {"resnet-torchscript", "unet"}},
};
void PrintTo(const Device& device, std::ostream* os) { *os << device.name; }

class Planning : public testing::TestWithParam<Device> {};

TEST_P(Planning, FindsAnEngineForEveryConvolution) {
  const auto executor = planner(description(GetParam().name));
  const bool has_bf16 = executor->capabilities().native.contains({OpClass::convolution, DType::bf16});
  for (const std::string model : GetParam().models)
    for (const DType precision : {DType::f32, DType::f16, DType::bf16}) {
      if (precision == DType::bf16 && !(has_bf16 && model == "unet")) continue;
      SCOPED_TRACE(fmt::format("{} {}", model, name_of(precision)));
      const Plan plan = plan_of(*executor, model, precision);
      std::set<std::string> engines;
      std::size_t convolutions = 0, on_tensor_cores = 0, workspace = 0;
      for (const PlanEntry& entry : plan.entries) {
        EXPECT_NE(entry.kernel, "reference") << entry.op << ": " << entry.reason;
        if (entry.op.find("Conv") == std::string::npos) continue;
        ++convolutions;
        EXPECT_THAT(entry.kernel, StartsWith("cudnn: ")) << entry.op << ": " << entry.reason;
        EXPECT_THAT(entry.kernel, HasSubstr(", engine ")) << entry.op << ": " << entry.reason;
        EXPECT_THAT(entry.reason, Not(HasSubstr("not deterministic")));
        const bool uses_tensor_cores = entry.reason.find("tensor cores") != std::string::npos;
        if (precision == DType::f32) {
          EXPECT_FALSE(uses_tensor_cores) << entry.op << ": f32 would be rounded to TF32";
        }
        on_tensor_cores += uses_tensor_cores ? 1 : 0;
        workspace = std::max(workspace, entry.scratch_bytes);
        engines.insert(entry.kernel.substr(entry.kernel.find(", engine ") + 9));
      }
      EXPECT_GT(convolutions, 0U);
      if (precision != DType::f32) {
        EXPECT_GT(on_tensor_cores, 0U);
      }
      fmt::print("{} | {} {} | {} convolutions, {} on tensor cores | engines {} | {} bytes\n", GetParam().name, model,
                 name_of(precision), convolutions, on_tensor_cores, fmt::join(engines, " "), workspace);
    }
}

INSTANTIATE_TEST_SUITE_P(, Planning, testing::ValuesIn(kDevices), [](const auto& each) { return each.param.name; });

TEST(DescribedDevices, ProgramsOfADescribedDeviceDoNotRun) {
  const auto executor = planner(description("h100"));
  EXPECT_EQ(executor->capabilities().device, "NVIDIA H100 80GB HBM3");
  EXPECT_EQ(executor->capabilities().auto_precision, DType::f16);
  const auto store = executor->make_store();
  const auto program =
      executor->compile(training_step("mlp-torchscript", DType::f16, executor->capabilities()), *store);
  EXPECT_THAT(program->plan().notes, testing::Contains(HasSubstr("cannot run")));
  EXPECT_THROW(program->run(), Error);
}

TEST(DescribedDevices, WhatDescribesNoDeviceIsRefused) {
  for (const char* text : {"", "{}", "[1, 2]", "{\"deviceVer\": \"new\"}"}) EXPECT_THROW(planner(text), Error) << text;
  std::string old = description("t4");
  old.replace(old.find("750"), 3, "600");
  EXPECT_THROW(planner(old), Error);
}

}  // namespace
}  // namespace halfstep::cudnn
