// BatchNormalization in training by cuDNN's graph API, on an emulated machine where every kernel takes as long, and the
// generated ones are three.
#include <cmath>
#include <cstdlib>
#include <limits>

#include <fmt/format.h>
#include <fmt/ranges.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "conformance/run_graph.h"
#include "tests/executors/cudnn/emulated_executor.h"
#include "tests/executors/cudnn/emulation/emulation.h"
#include "tests/executors/onednn_testing.h"
#include "tests/temporary_directory.h"
#include <halfstep/onnx_io/load.h>
#include <halfstep/ops/infer.h>

namespace halfstep::cudnn {
namespace {

using ::halfstep::testing::expect_close;
using ::halfstep::testing::random_tensor;
using ::testing::StartsWith;

constexpr const char* kForward = "ai.halfstep.FusedBatchNormalization";
constexpr const char* kGradient = "ai.halfstep.BatchNormalizationGrad";
constexpr const char* kPlanned = "cudnn: batch normalization";
constexpr const char* kGenerated = "generated: normalization";

/// A normalization and its gradient of one X, which a convolution by 1 gives, so that channels lie beside each other.
struct Form {
  const char* name;
  const char* attributes;       ///< of the forward node, beside those of all
  const char* grad_attributes;  ///< of the gradient
  bool addition = false;
};
const Form kForms[] = {
    {"alone", "", ""},
    {"relu", ", activation = \"Relu\"", ", activation = \"Relu\""},
    {"addition_and_relu", ", activation = \"Relu\"", "", true},
};
const Shape kShapes[] = {{3, 24, 5, 7}, {300, 24}, {2, 8, 9}, {2, 16, 3, 4, 5}, {2, 8}, {1, 1032, 3, 1}};

Graph graph_of(const Form& form, const Shape& x, DType dtype) {
  const std::string element = dtype == DType::f32 ? "float" : dtype == DType::f16 ? "float16" : "bfloat16";
  const std::string type = fmt::format("{}[{}]", element, fmt::join(x.dims(), ",")),
                    parameter = fmt::format("float[{}]", x[1]);
  std::string weights = fmt::format("{}[{}", element, x[1]);
  for (std::size_t axis = 1; axis < x.rank(); ++axis) weights += ",1";
  const bool has_places = x.rank() > 2;
  const std::string text = fmt::format(
      "<ir_version: 10, opset_import: [\"\": 28, \"ai.halfstep\": 1]> "
      "g ({0} x, {1} s, {1} b, {1} m, {1} v, {0} dy{2}{3}) => ({0} y, {1} mm, {1} vv, {0} dx, {1} ds, {1} db) {{ {4} "
      "y, mm, vv = ai.halfstep.FusedBatchNormalization<training_mode = 1, momentum = 0.75, epsilon = 0.001{5}>"
      "({6}, s, b, m, v{7}) "
      "dx, ds, db = ai.halfstep.BatchNormalizationGrad<training_mode = 1, epsilon = 0.001{8}>(dy, {6}, s, , , b) }}",
      type, parameter, form.addition ? ", " + type + " r" : "", has_places ? ", " + weights + "] w" : "",
      has_places ? fmt::format("c = Conv<group = {}>(x, w)", x[1]) : "", form.attributes, has_places ? "c" : "x",
      form.addition ? ", r" : "", form.grad_attributes);
  Graph graph = parse_model(text).graph;
  infer_graph(graph);
  const std::size_t last = graph.nodes.size() - 1;
  graph.edit(last)->forward = graph.nodes[last - 1].id;
  return graph;
}

std::vector<Tensor> operands_of(const Graph& graph) {
  std::vector<Tensor> values;
  for (const ValueId id : graph.inputs) {
    const Value& in = graph[id];
    values.push_back(random_tensor(in.dtype, in.shape, static_cast<unsigned>(values.size() + 1)));
    if (in.name == "v")
      for (float& variance : values.back().span<float>()) variance = std::abs(variance) + 0.25F;
    if (in.name == "w")
      values.back() = convert(Tensor::of(std::vector<float>(static_cast<std::size_t>(in.shape.count()), 1)), in.dtype)
                          .reshaped(in.shape);
  }
  return values;
}

/// With a folder where choices are kept.
class PlannedNormalization : public ::testing::Test {
 protected:
  PlannedNormalization() {
    ::setenv("HALFSTEP_KERNEL_CACHE", (folder_ / "kernels").c_str(), 1);
    emulation::latest_refusal();
  }
  ~PlannedNormalization() override {
    EXPECT_TRUE(emulation::guards_are_whole());
    ::unsetenv("HALFSTEP_KERNEL_CACHE");
    emulation::machine() = {};
  }

  static std::string kernel_of(const Program& program, const char* op) {
    for (const PlanEntry& entry : program.plan().entries)
      if (entry.op == op) return entry.kernel;
    return "";
  }
  /// Which kernels both nodes have.
  static void expect_kernels(const Graph& graph, const char* forward, const char* gradient) {
    const auto executor = emulated_executor();
    CompiledGraph compiled(*executor, graph);
    EXPECT_THAT(kernel_of(compiled.program(), kForward), StartsWith(forward));
    EXPECT_THAT(kernel_of(compiled.program(), kGradient), StartsWith(gradient));
  }
  static void expect_reference(CompiledGraph& compiled, const Graph& graph, const std::vector<Tensor>& values,
                               double tolerance) {
    const std::vector<Tensor> got = compiled.run(values), want = run_graph(*make_reference_executor(), graph, values);
    for (std::size_t i = 0; i < got.size(); ++i) expect_close(got[i], want[i], tolerance, graph[graph.outputs[i]].name);
  }

 private:
  TemporaryDirectory folder_;
};

double tolerance_of(DType dtype) { return dtype == DType::f32 ? 4e-6 : dtype == DType::f16 ? 0x1p-9 : 0x1p-6; }

class PlannedForms : public PlannedNormalization, public ::testing::WithParamInterface<Form> {};
void PrintTo(const Form& form, std::ostream* os) { *os << form.name; }

TEST_P(PlannedForms, AgreeWithTheReference) {
  for (const Shape& x : kShapes)
    for (const DType dtype : {DType::f32, DType::f16, DType::bf16}) {
      if (dtype == DType::f32 && x.rank() > 2) continue;  // its convolutions give planes
      if (dtype == DType::bf16 && x.rank() != 4) continue;
      SCOPED_TRACE(x.to_string() + " " + std::string(name_of(dtype)));
      const Graph graph = graph_of(GetParam(), x, dtype);
      const auto executor = emulated_executor(Values::separate);
      CompiledGraph compiled(*executor, graph);
      EXPECT_THAT(kernel_of(compiled.program(), kForward), StartsWith(kPlanned));
      EXPECT_THAT(kernel_of(compiled.program(), kGradient), StartsWith(kPlanned));
      expect_reference(compiled, graph, operands_of(graph), tolerance_of(dtype));
    }
  EXPECT_STREQ(emulation::latest_refusal(), "");
}

/// Channels of NaN, of both infinities, of one value, of what half types cannot hold, of zeros of both signs.
TEST_P(PlannedForms, AgreeWithTheReferenceOnSpecialValues) {
  constexpr float kInfinity = std::numeric_limits<float>::infinity();
  for (const DType dtype : {DType::f32, DType::f16}) {
    SCOPED_TRACE(name_of(dtype));
    const Graph graph = graph_of(GetParam(), {5, 16}, dtype);
    std::vector<Tensor> values = operands_of(graph);
    Tensor x = convert(values[0], DType::f32);
    const auto put = [&](std::int64_t row, std::int64_t channel, float value) {
      x.data<float>()[row * 16 + channel] = value;
    };
    put(2, 0, std::nanf(""));
    put(1, 1, kInfinity);
    put(4, 2, -kInfinity);
    for (std::int64_t row = 0; row < 5; ++row) {
      put(row, 3, 0.75F);
      put(row, 4, static_cast<float>(row) * 1e-7F);
      put(row, 5, static_cast<float>(row) * 10000);
      put(row, 6, row % 2 == 0 ? 0.0F : -0.0F);
    }
    values[0] = convert(x, dtype);
    const auto executor = emulated_executor(Values::separate);
    CompiledGraph compiled(*executor, graph);
    EXPECT_THAT(kernel_of(compiled.program(), kForward), StartsWith(kPlanned));
    expect_reference(compiled, graph, values, tolerance_of(dtype));
  }
}

INSTANTIATE_TEST_SUITE_P(, PlannedForms, ::testing::ValuesIn(kForms),
                         [](const auto& each) { return std::string(each.param.name); });

TEST_F(PlannedNormalization, ReadsWhatTheOtherKernelsSave) {
  const Graph graph = graph_of(kForms[1], {3, 24, 5, 7}, DType::f16);
  Graph unread = graph;  // by cuDNN's gradient, which writes that of X
  unread.edit(unread.nodes.size() - 1)->outputs[0] = kNoValue;
  unread.outputs.erase(unread.outputs.begin() + 3);
  const auto executor = emulated_executor(Values::separate);
  CompiledGraph compiled(*executor, unread);
  EXPECT_THAT(kernel_of(compiled.program(), kForward), StartsWith(kPlanned));
  EXPECT_THAT(kernel_of(compiled.program(), kGradient), StartsWith(kGenerated));
  expect_reference(compiled, unread, operands_of(unread), tolerance_of(DType::f16));
}

TEST_F(PlannedNormalization, IsNotTakenWhereItsReluMakesZeroOfNaN) {
  emulation::machine().keeps_nan = false;
  expect_kernels(graph_of(kForms[0], {4, 24}, DType::f16), kPlanned, kPlanned);
  expect_kernels(graph_of(kForms[1], {4, 24}, DType::f16), kGenerated, kPlanned);
  expect_kernels(graph_of(kForms[2], {4, 24}, DType::f16), kGenerated, kPlanned);
}

TEST_F(PlannedNormalization, IsTakenInTheFormsThatCudnnHas) {
  const Form addition{"", "", "", true},
      clip{"", ", activation = \"Clip\", min = -0.5, max = 0.5", ", activation = \"Clip\", min = -0.5, max = 0.5"};
  expect_kernels(graph_of(addition, {4, 24}, DType::f16), kGenerated, kPlanned);
  expect_kernels(graph_of(clip, {4, 24}, DType::f16), kGenerated, kGenerated);
  expect_kernels(graph_of(kForms[1], {4, 20}, DType::f16), kGenerated, kGenerated);
  expect_kernels(graph_of(kForms[1], {4, 20}, DType::f32), kPlanned, kPlanned);
  expect_kernels(graph_of(kForms[1], {2, 8, 5, 7}, DType::f32), kGenerated, kGenerated);  // planes
  emulation::machine().major = 7, emulation::machine().minor = 5;
  expect_kernels(graph_of(kForms[1], {4, 24}, DType::f16), kGenerated, kGenerated);
}

TEST_F(PlannedNormalization, IsNotTakenWhereNothingKeepsTimes) {
  ::setenv("HALFSTEP_KERNEL_CACHE", "/proc/nothing", 1);
  const int before = emulation::plans_compiled();
  expect_kernels(graph_of(kForms[1], {4, 24}, DType::f16), kGenerated, kGenerated);
  EXPECT_EQ(emulation::plans_compiled(), before);
}

TEST_F(PlannedNormalization, GivesWayWhereCudnnRefuses) {
  const Graph graph = graph_of(kForms[1], {4, 24}, DType::f16);
  emulation::machine().can_plan = false;
  expect_kernels(graph, kGenerated, kGenerated);
}

TEST_F(PlannedNormalization, GivesWayWhereItsPlanCannotBeMade) {
  emulation::machine().failing = "plan";
  expect_kernels(graph_of(kForms[1], {4, 24}, DType::f16), kGenerated, kGenerated);
}

TEST_F(PlannedNormalization, GivesWayWhereItsPlansFailWhenTheyAreTimed) {
  const Graph graph = graph_of(kForms[1], {4, 24}, DType::f16);
  emulation::machine().failing_workspace = 1;
  expect_kernels(graph, kGenerated, kGenerated);
}

TEST_F(PlannedNormalization, GivesWayWhereItsPlansFailWhenTheyRun) {
  const Graph graph = graph_of(kForms[2], {4, 24}, DType::f16);
  const auto executor = emulated_executor(Values::separate);
  CompiledGraph compiled(*executor, graph);
  EXPECT_THAT(kernel_of(compiled.program(), kForward), StartsWith(kPlanned));
  EXPECT_THAT(kernel_of(compiled.program(), kGradient), StartsWith(kPlanned));
  emulation::machine().failing_workspace = 1;
  expect_reference(compiled, graph, operands_of(graph), tolerance_of(DType::f16));
}

}  // namespace
}  // namespace halfstep::cudnn
