// What cuDNN plans for devices that are described: every convolution of whole training steps has an engine.
#include <algorithm>
#include <cstdlib>
#include <fstream>
#include <iterator>
#include <set>
#include <sstream>

#include <dlfcn.h>
#include <fmt/format.h>
#include <fmt/ranges.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "executors/cudnn/batch_normalization_graph.h"
#include "tests/executors/cudnn/training_steps.h"
#include "tests/paths.h"
#include "tests/temporary_directory.h"
#include <halfstep/base/error.h>
#include <halfstep/executors/registry.h>
#include <halfstep/onnx_io/load.h>
#include <halfstep/ops/infer.h>

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

/// Before cuDNN looks for one of that name.
void load_driver() {
  static void* const driver = dlopen(HALFSTEP_NO_DEVICE_LIBRARY, RTLD_NOW | RTLD_GLOBAL);
  EXPECT_NE(driver, nullptr) << dlerror();
}

std::unique_ptr<Executor> planner(const std::string& text, const ExecutorOptions& options = {}) {
  load_driver();
  return make_described_executor("", HALFSTEP_CUDNN_PLUGIN, text, options);
}

Plan plan_of(Executor& executor, const std::string& model, DType precision) {
  const auto store = executor.make_store();
  return executor.compile(training_step(model, precision, executor.capabilities()), *store)->plan();
}

struct Device {
  const char* name;
  std::vector<const char*> models;
  std::size_t least_of_resnet;  ///< convolutions in f16 that are on tensor cores, of 62
};
// Depthwise convolutions are many, and planned for one device; bf16, where a device has it, for one model.
const Device kDevices[] = {
    {"t4", {"resnet-torchscript", "unet"}, 53},
    {"a100", {"resnet-torchscript", "unet"}, 58},
    {"l4", {"resnet-torchscript", "unet"}, 60},
    {"h100", {"resnet-torchscript", "unet", "mobilenetv2-torchscript"}, 61},
    {"b200", {"resnet-torchscript", "unet"}, 52},
    {"rtx5090", {"resnet-torchscript", "unet"}, 53},
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
        EXPECT_GT(on_tensor_cores, precision == DType::f16 ? convolutions / 2 : 0);
        if (model == "resnet-torchscript") {
          EXPECT_GE(on_tensor_cores, GetParam().least_of_resnet);
        }
      }
      fmt::print("{} | {} {} | {} convolutions, {} on tensor cores | engines {} | {} bytes\n", GetParam().name, model,
                 name_of(precision), convolutions, on_tensor_cores, fmt::join(engines, " "), workspace);
    }
}

INSTANTIATE_TEST_SUITE_P(, Planning, testing::ValuesIn(kDevices), [](const auto& each) { return each.param.name; });

/// Convolutions of all kinds; T is the type.
const char* const kConvolutions[] = {
    "(T[2,6,20] x, T[8,6,3] w, T[8] b) => (T[2,8,18] y) { y = Conv(x, w, b) }",
    "(T[2,5,9,9] x, T[7,5,3,3] w) => (T[2,7,5,5] y) { y = Conv<strides = [2, 2], pads = [1, 1, 1, 1]>(x, w) }",
    "(T[2,1,28,28] x, T[8,1,5,5] w, T[8] b) => (T[2,8,24,24] y) { y = Conv(x, w, b) }",
    "(T[2,3,67,67] x, T[16,3,11,11] w) => (T[2,16,15,15] y) { y = Conv<strides = [4, 4]>(x, w) }",
    "(T[2,8,9,9] x, T[8,8,3,3] w) => (T[2,8,9,9] y) { y = Conv<dilations = [2, 2], pads = [2, 2, 2, 2]>(x, w) }",
    "(T[2,8,9,9] x, T[8,8,2,2] w) => (T[2,8,9,9] y) { y = Conv<pads = [0, 0, 1, 1]>(x, w) }",
    "(T[2,12,9,9] x, T[8,3,3,3] w) => (T[2,8,7,7] y) { y = Conv<group = 4>(x, w) }",
    "(T[2,6,9,9] x, T[6,1,3,3] w) => (T[2,6,7,7] y) { y = Conv<group = 6>(x, w) }",
    "(T[2,6,9,9] x, T[12,1,3,3] w) => (T[2,12,4,4] y) { y = Conv<group = 6, strides = [2, 2]>(x, w) }",
    "(T[2,4,6,6,6] x, T[8,4,3,3,3] w, T[8] b) => (T[2,8,4,4,4] y) { y = Conv(x, w, b) }",
    "(T[2,8,9,9] x, T[8,8,1,1] w, T[8] b, T[2,8,9,9] r) => (T[2,8,9,9] y) "
    "{ y = ai.halfstep.FusedConv<activation = \"Relu\">(x, w, b, r) }",
    "(T[2,8,9,9] x, T[8,8,1,1] w, T[2,8,9,9] r) => (T[2,8,9,9] y) { y = ai.halfstep.FusedConv(x, w, , r) }",
    "(T[2,8,9,9] x, T[8,8,3,3] w) => (T[2,8,7,7] y) { y = ai.halfstep.FusedConv<activation = \"Relu\">(x, w) }",
    "(T[2,8,9,9] x, T[8,4,2,2] w, T[4] b) => (T[2,4,18,18] y) { y = ConvTranspose<strides = [2, 2]>(x, w, b) }",
    "(T[2,8,9,9] x, T[8,2,3,3] w) => (T[2,4,11,11] y) { y = ConvTranspose<group = 2>(x, w) }",
    "(T[2,8,9] x, T[8,4,4] w) => (T[2,4,18] y) { y = ConvTranspose<strides = [2], pads = [1, 1]>(x, w) }",
    "(T[2,4,5,5,5] x, T[4,3,2,2,2] w) => (T[2,3,10,10,10] y) { y = ConvTranspose<strides = [2, 2, 2]>(x, w) }",
};
const char* const kConvolutionGradients[] = {
    "(T[2,8,18] dy, T[2,6,20] x, T[8,6,3] w) kernel_shape = [3] | 2,6,20 | 8,6,3",
    "(T[2,7,5,5] dy, T[2,5,9,9] x, T[7,5,3,3] w) strides = [2, 2], pads = [1, 1, 1, 1], kernel_shape = [3, 3]"
    " | 2,5,9,9 | 7,5,3,3",
    "(T[2,8,24,24] dy, T[2,1,28,28] x, T[8,1,5,5] w) kernel_shape = [5, 5] | 2,1,28,28 | 8,1,5,5",
    "(T[2,16,15,15] dy, T[2,3,67,67] x, T[16,3,11,11] w) strides = [4, 4], kernel_shape = [11, 11]"
    " | 2,3,67,67 | 16,3,11,11",
    "(T[2,8,9,9] dy, T[2,8,9,9] x, T[8,8,3,3] w) dilations = [2, 2], pads = [2, 2, 2, 2], kernel_shape = [3, 3]"
    " | 2,8,9,9 | 8,8,3,3",
    "(T[2,8,9,9] dy, T[2,8,9,9] x, T[8,8,2,2] w) pads = [0, 0, 1, 1], kernel_shape = [2, 2] | 2,8,9,9 | 8,8,2,2",
    "(T[2,8,7,7] dy, T[2,12,9,9] x, T[8,3,3,3] w) group = 4, kernel_shape = [3, 3] | 2,12,9,9 | 8,3,3,3",
    "(T[2,6,7,7] dy, T[2,6,9,9] x, T[6,1,3,3] w) group = 6, kernel_shape = [3, 3] | 2,6,9,9 | 6,1,3,3",
    "(T[2,12,4,4] dy, T[2,6,9,9] x, T[12,1,3,3] w) group = 6, strides = [2, 2], kernel_shape = [3, 3]"
    " | 2,6,9,9 | 12,1,3,3",
    "(T[2,8,4,4,4] dy, T[2,4,6,6,6] x, T[8,4,3,3,3] w) kernel_shape = [3, 3, 3] | 2,4,6,6,6 | 8,4,3,3,3",
};

/// The graph of both gradients; that of the weights in f32.
std::string gradients_of(const std::string& text) {
  std::vector<std::string> parts;
  std::istringstream in(text);
  for (std::string part; std::getline(in, part, '|');) parts.push_back(part);
  const std::size_t operands = parts[0].find(')') + 1;
  const std::string x = parts[1].substr(1, parts[1].size() - 2), w = parts[2].substr(1);
  return fmt::format(
      "{} => (T[{}] dx, float[{}] dw) {{ dx = ai.halfstep.ConvGradInput<{}, input_shape = [{}]>(dy, w) "
      "dw = ai.halfstep.ConvGradWeight<{}, weight_shape = [{}], to = 1>(dy, x) }}",
      parts[0].substr(0, operands), x, w, parts[0].substr(operands), x, parts[0].substr(operands), w);
}

TEST_P(Planning, FindsAnEngineForEveryKindOfConvolution) {
  const auto executor = planner(description(GetParam().name));
  std::vector<std::string> graphs(std::begin(kConvolutions), std::end(kConvolutions));
  for (const char* text : kConvolutionGradients) graphs.push_back(gradients_of(text));
  for (const DType dtype : {DType::f32, DType::f16, DType::bf16}) {
    if (!executor->capabilities().native.contains({OpClass::convolution, dtype})) continue;
    for (std::string text : graphs) {
      const std::string type = dtype == DType::f32 ? "float" : dtype == DType::f16 ? "float16" : "bfloat16";
      for (std::size_t at = 0; (at = text.find("T[", at)) != std::string::npos;) text.replace(at, 1, type);
      SCOPED_TRACE(fmt::format("{} {}", GetParam().name, text));
      Graph graph = parse_model("<ir_version: 10, opset_import: [\"\": 28, \"ai.halfstep\": 1]> g " + text).graph;
      infer_graph(graph);
      const auto store = executor->make_store();
      const auto program = executor->compile(graph, *store);
      for (const PlanEntry& entry : program->plan().entries)
        if (entry.op.find("Conv") != std::string::npos) {
          EXPECT_THAT(entry.kernel, HasSubstr(", engine ")) << entry.op << ": " << entry.reason;
        }
    }
  }
}

/// Pooling, of more than cuDNN counts.
struct LargePooling {
  const char* graph;
  const char* reason;  ///< why it is not cuDNN's; empty where it is never asked
};
const LargePooling kLargePooling[] = {
    {"(float16[65536,1,2,2] x) => (float16[65536,1,1,1] y) { y = MaxPool<kernel_shape = [2, 2]>(x) }", "65536 images"},
    {"(float16[65536,1,2,2] x) => (float16[65536,1,1,1] y) { y = GlobalAveragePool(x) }", "65536 images"},
    {"(float16[2,4096,512,512] x) => (float16[2,4096,256,256] y) "
     "{ y = MaxPool<kernel_shape = [2, 2], strides = [2, 2]>(x) }",
     "2^31 elements"},
    {"(float16[2,4096,512,512] x) => (float16[2,4096,256,256] y, int64[2,4096,256,256] i) "
     "{ y, i = MaxPool<kernel_shape = [2, 2], strides = [2, 2]>(x) }",
     "no indices"},
    {"(float16[2,4096,256,256] dy, float16[2,4096,512,512] x) => (float16[2,4096,512,512] y) "
     "{ y = ai.halfstep.MaxPoolGrad<kernel_shape = [2, 2], strides = [2, 2]>(dy, x) }",
     ""},
    {"(float16[65536,1,1,1] dy) => (float16[65536,1,2,2] y) "
     "{ y = ai.halfstep.AveragePoolGrad<kernel_shape = [2, 2], input_shape = [65536, 1, 2, 2]>(dy) }",
     ""},
};

TEST(DescribedDevices, PoolingThatIsTooLargeForCudnnHasOwnKernels) {
  const auto executor = planner(description("h100"));
  for (const auto& [text, reason] : kLargePooling) {
    Graph graph =
        parse_model("<ir_version: 10, opset_import: [\"\": 23, \"ai.halfstep\": 1]> g " + std::string(text)).graph;
    infer_graph(graph);
    const auto store = executor->make_store();
    const Plan plan = executor->compile(graph, *store)->plan();
    const auto pooling = std::ranges::find_if(
        plan.entries, [](const PlanEntry& entry) { return entry.op.find("Pool") != std::string::npos; });
    ASSERT_NE(pooling, plan.entries.end());
    EXPECT_EQ(pooling->kernel, "own: pooling") << text << ": " << pooling->reason;
    EXPECT_THAT(pooling->reason, HasSubstr(reason)) << text;
  }
}

/// Attention of four heads of 64 features, forward and backward.
Plan plan_of_attention(Executor& executor, DType dtype) {
  const std::string config =
      "<extents = [2, 4, 1, 128, 128, 64, 64], q = [0, 32768, 8192, 0, 64], k = [0, 32768, 8192, 0, 64], "
      "v = [0, 32768, 8192, 0, 64], y = [0, 32768, 64, 0, 256], scale = 0.125, causal = 1, y_shape = [2, 128, 256]>";
  const std::string type = dtype == DType::f32 ? "float" : dtype == DType::f16 ? "float16" : "bfloat16";
  Graph graph = parse_model(fmt::format(R"(<ir_version: 10, opset_import: ["": 28, "ai.halfstep": 1]>
      test ({0}[2,4,128,64] q, {0}[2,4,128,64] k, {0}[2,4,128,64] v, {0}[2,128,256] dy) =>
        ({0}[2,128,256] y, {0}[2,4,128,64] dq, {0}[2,4,128,64] dk, {0}[2,4,128,64] dv) {{
        y, s = ai.halfstep.FusedAttention{1}(q, k, v)
        dq, dk, dv = ai.halfstep.AttentionGrad{1}(dy, q, k, v, , s, y) }})",
                                        type, config))
                    .graph;
  infer_graph(graph);
  const auto store = executor.make_store();
  return executor.compile(graph, *store)->plan();
}

TEST_P(Planning, ComputesAttentionByCudnnWhereTheDeviceHasIt) {
  const auto executor = planner(description(GetParam().name));
  const bool is_new = std::string(GetParam().name) != "t4";
  for (const DType dtype : {DType::f32, DType::f16, DType::bf16}) {
    if (dtype == DType::bf16 && std::string(GetParam().name) != "h100") continue;
    for (const PlanEntry& entry : plan_of_attention(*executor, dtype).entries) {
      if (entry.op.find("Attention") == std::string::npos) continue;
      fmt::print("{} | {} | {} | {} | {}\n", GetParam().name, name_of(dtype), entry.op, entry.kernel, entry.reason);
      EXPECT_THAT(entry.kernel, StartsWith(is_new && dtype != DType::f32 ? "cudnn: attention" : "generated: attention"))
          << entry.reason;
      EXPECT_THAT(entry.reason, Not(HasSubstr("not deterministic")));
    }
  }
}

PlanTarget described(const std::string& device) {
  load_driver();
  return {nullptr, std::make_shared<const BackendDescriptor>(device_properties(description(device)))};
}

/// Programs of a described device have none of them, as they are taken where they are measured to be faster.
TEST_P(Planning, FindsAnEngineForBatchNormalizationWhereTheDeviceHasIt) {
  const std::string device = GetParam().name;
  const PlanTarget target = described(device);
  struct Case {
    const char* name;
    bool is_gradient, addition, relu;
  };
  const Case cases[] = {{"forward", false, false, false},
                        {"forward with ReLU", false, false, true},
                        {"forward with addition and ReLU", false, true, true},
                        {"gradient", true, false, false},
                        {"gradient with ReLU", true, false, true}};
  for (const DType dtype : {DType::f16, DType::bf16, DType::f32})
    for (const Case& each : cases) {
      if (dtype != DType::f16 && !(device == "h100" && each.relu && !each.addition)) continue;
      SCOPED_TRACE(fmt::format("{} {}", name_of(dtype), each.name));
      const BatchNormalizationProblem p{dtype, {32, 64, 56, 56}, each.addition, each.relu};
      const std::vector<ExecutionPlan> plans =
          (each.is_gradient ? plan_batch_normalization_grad : plan_batch_normalization)(target, p, {}, 1);
      ASSERT_EQ(plans.empty(), device == "t4");
      if (plans.empty()) continue;
      EXPECT_THAT(plans[0].notes, Not(HasSubstr("not deterministic")));
      const ExecutionPlan::Built built = plans[0].built();
      EXPECT_NE(built.plan, nullptr);
      fmt::print("{} | {} | {} | engine {} | {}, {} bytes\n", device, name_of(dtype), each.name, plans[0].engine,
                 plans[0].notes, built.workspace);
    }
}

/// Odd extents, of any number of axes.
TEST(DescribedDevices, BatchNormalizationsOfOddExtentsHaveAnEngine) {
  const PlanTarget target = described("h100");
  for (const Shape& x : {Shape{3, 24, 5, 7}, Shape{300, 24}, Shape{2, 16, 3, 4, 5}}) {
    const auto forward = plan_batch_normalization(target, {DType::f16, x, true, true}, {}, 1),
               gradient = plan_batch_normalization_grad(target, {DType::f16, x, false, true}, {}, 1);
    EXPECT_TRUE(!forward.empty() && forward[0].built().plan) << x.to_string();
    EXPECT_TRUE(!gradient.empty() && gradient[0].built().plan) << x.to_string();
  }
}

TEST(DescribedDevices, Tf32PutsConvolutionsOfF32OnTensorCores) {
  const auto executor = planner(description("h100"), {.fp32_math = Fp32Math::tf32});
  const Plan plan = plan_of(*executor, "unet", DType::f32);
  EXPECT_THAT(plan.notes, testing::Contains(HasSubstr("TF32")));
  EXPECT_TRUE(std::ranges::any_of(
      plan.entries, [](const PlanEntry& entry) { return entry.reason.find("tensor cores") != std::string::npos; }));
  try {
    planner(description("t4"), {.fp32_math = Fp32Math::tf32});
    ADD_FAILURE() << "a T4 has no units for TF32";
  } catch (const Error& e) {
    EXPECT_THAT(e.found(), HasSubstr("compute capability 8.0"));
  }
}

TEST(DescribedDevices, WithoutDeterminismThePlanSaysSo) {
  const auto executor = planner(description("a100"), {.deterministic = false});
  EXPECT_THAT(plan_of(*executor, "unet", DType::f16).notes, testing::Contains(HasSubstr("other bits on every run")));
}

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

TEST(DescribedDevices, NothingIsTimedAndNothingKept) {
  const TemporaryDirectory folder;
  ::setenv("HALFSTEP_KERNEL_CACHE", folder.path().c_str(), 1);
  const auto executor = planner(description("h100"));
  for (const Plan& plan : {plan_of(*executor, "unet", DType::f16), plan_of_attention(*executor, DType::f16)})
    for (const PlanEntry& entry : plan.entries) EXPECT_THAT(entry.reason, Not(HasSubstr("measured"))) << entry.op;
  ::unsetenv("HALFSTEP_KERNEL_CACHE");
  EXPECT_THAT(folder.names(), testing::IsEmpty());
}

TEST(DescribedDevices, WhatDescribesNoDeviceIsRefused) {
  for (const char* text : {"", "{}", "[1, 2]", "{\"deviceVer\": \"new\"}"}) EXPECT_THROW(planner(text), Error) << text;
  std::string old = description("t4");
  old.replace(old.find("750"), 3, "600");
  EXPECT_THROW(planner(old), Error);
}

}  // namespace
}  // namespace halfstep::cudnn
