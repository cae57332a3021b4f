// What may go wrong on a machine and is to end well: order of streams, libraries that refuse, outputs nobody asks for.
#include <cstring>
#include <set>
#include <utility>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "conformance/executor_check.h"
#include "conformance/run_graph.h"
#include "executors/cudnn/descriptors.h"
#include "executors/cudnn/product.h"
#include "tests/executors/cudnn/emulated_executor.h"
#include "tests/executors/cudnn/emulation/emulation.h"
#include "tests/executors/cudnn/op_case_util.h"
#include <halfstep/base/error.h>
#include <halfstep/ops/builder.h>

namespace halfstep::cudnn {
namespace {

using namespace cases;
using testing::HasSubstr;
using testing::StartsWith;

class Faults : public testing::Test {
 protected:
  ~Faults() override {
    emulation::machine() = {};
    emulation::latest_refusal();
    EXPECT_EQ(emulation::live_objects(), 0);
  }
};

const OpTest kConvolution = {"", "Conv", "", {real({2, 3, 6, 6}), real({4, 3, 3, 3})}};
const OpTest kBiasedConvolution = {"", "Conv", "", {real({2, 3, 6, 6}), real({4, 3, 3, 3}), real({4})}};
const OpTest kDataGradient = {
    "", "ConvGradInput", kOwn, {real({2, 4, 4, 4}), real({4, 3, 3, 3})}, {{"input_shape", Ints{2, 3, 6, 6}}}};
const OpTest kPooling = {"", "MaxPool", "", {real({2, 3, 6, 6})}, {{"kernel_shape", Ints{2, 2}}}};
const OpTest kSums = {"", "GemmSums", kOwn, {real({9, 5}), real({9, 4})}, {{"transA", kOne}}, 2};
const OpTest kSlope = {"",
                       "GemmActivationGrad",
                       kOwn,
                       {real({6, 5}), real({5, 8}), real({6, 8})},
                       {{"activation", std::string("Gelu")}, {"approximate", std::string("tanh")}}};
const OpTest kProduct = {"", "MatMul", "", {real({3, 4}), real({4, 5})}};

struct OpRun {
  PlanEntry entry;
  std::string difference;  ///< from the reference
};
OpRun run_op(const OpTest& test) {
  std::vector<Tensor> values;
  const Graph graph = make_graph(test, DType::f32, values, 3);
  Plan plan;
  OpRun result;
  result.difference = execution_difference(graph, values, *emulated_executor(), 0, &plan);
  result.entry = first_node(plan);
  return result;
}

TEST_F(Faults, StateIsWhatItWasGivenWhateverOrderStreamsRunIn) {
  for (std::uint32_t seed = 0; seed < 16; ++seed) {
    emulation::machine().seed = seed;
    Graph g;
    g.opsets = {{"", kOnnxOpset}};
    Builder b(g);
    const Tensor start = Tensor::of<float>({1, 2, 3});
    Expr w = b.expr(g.add_state("w", start, StateRole::parameter)), x = b.expr(g.add_input("x", DType::f32, {3}));
    g.states[0].next = (w + x * b.constant(Tensor::of<float>({2, 4, 8}))).id();
    const auto executor = emulated_executor();
    const auto store = executor->make_store();
    const auto program = executor->compile(g, *store);
    std::ranges::fill(program->input(0).span<float>(), 1.0F);
    for (int step = 0; step < 3; ++step) program->run();
    EXPECT_TRUE(identical(store->read("w"), Tensor::of<float>({7, 14, 27}))) << "seed " << seed;
  }
}

TEST_F(Faults, ALibraryThatRefusesToPlanIsNoError) {
  for (const OpTest& test : {kConvolution, kDataGradient, kProduct}) {
    emulation::machine().failing = "heuristic";
    const OpRun run = run_op(test);
    EXPECT_THAT(run.entry.kernel, StartsWith("reference")) << test.op;
    EXPECT_THAT(run.entry.reason, testing::AnyOf(HasSubstr("no plan"), HasSubstr("to succeed on the GPU"))) << test.op;
    EXPECT_EQ(run.difference, "") << test.op;
    EXPECT_EQ(cudaGetLastError(), cudaSuccess) << test.op;
  }
}

TEST_F(Faults, TheReferenceConvolvesWhatCuDnnDoesNot) {
  for (const OpTest& test : {kConvolution, kDataGradient}) {
    emulation::machine().can_plan = false;
    const OpRun run = run_op(test);
    EXPECT_THAT(run.entry.kernel, StartsWith("reference")) << test.op;
    EXPECT_THAT(run.entry.reason, HasSubstr("has no plan for this convolution")) << test.op;
    EXPECT_EQ(run.difference, "") << test.op;
  }
}

TEST_F(Faults, AConvolutionIsPlannedAloneWhereWhatFollowsItIsRefused) {
  emulation::machine().can_fuse = false;
  const OpRun run = run_op(kBiasedConvolution);
  EXPECT_THAT(run.entry.kernel, StartsWith("cudnn: convolution, engine ")) << run.entry.reason;
  EXPECT_EQ(run.difference, "");
}

TEST_F(Faults, NothingIsCompiledForTheCaseThatAnEngineFails) {
  const int before = emulation::plans_compiled();
  EXPECT_THAT(run_op(kConvolution).entry.kernel, HasSubstr(", engine "));
  EXPECT_EQ(emulation::plans_compiled(), before);
  emulation::machine().failing_workspace = 1024;  // all engines but the one that needs a compiler
  EXPECT_EQ(run_op(kConvolution).difference, "");
  EXPECT_EQ(emulation::plans_compiled(), before + 1);
}

TEST_F(Faults, WhatIsCompiledInAnEnginesPlaceIsCompiledOnceForAllLayersThatAreAlike) {
  Graph g;
  g.opsets = {{"", kOnnxOpset}};
  Builder b(g);
  const Expr x = b.expr(g.add_input("x", DType::f32, {2, 3, 6, 6}));
  for (const char* name : {"v", "w"})
    g.outputs.push_back(b.op("Conv", {x, b.expr(g.add_input(name, DType::f32, {4, 3, 3, 3}))}).id());
  const auto executor = emulated_executor();
  const auto store = executor->make_store();
  emulation::machine().failing_workspace = 1024;
  const int before = emulation::plans_compiled();
  for (int program = 0; program < 2; ++program) executor->compile(g, *store)->run();
  EXPECT_EQ(emulation::plans_compiled(), before + 1);
}

TEST_F(Faults, APartOfAStackOfMatricesLacksWhatIsBesideTheProduct) {
  const Libraries libraries = open_libraries(0, 90);
  Product p{.a = {6, 5, false}, .b = {5, 8, false}, .type = DType::f16, .to = DType::f16, .beside = Beside::operand};
  p.last.kind = ops::Epilogue::Kind::gelu_tanh;
  const auto is_whole = [](const ProductPlan& plan) { return plan.form->is_whole; };
  EXPECT_TRUE(is_whole(plans_of(p, libraries).front()));
  EXPECT_TRUE(std::ranges::none_of(plain_plans_of(p, libraries), is_whole));
  p.beside = Beside::nothing;
  EXPECT_TRUE(std::ranges::all_of(plain_plans_of(p, libraries), is_whole));
}

TEST_F(Faults, AConvolutionIsPlannedAloneWhereOnlyThatIsOnTensorCores) {
  const auto plan_of = [](bool are_fused) {
    emulation::machine().fuses_on_tensor_cores = are_fused;
    std::vector<Tensor> values;
    const Graph graph = make_graph(kBiasedConvolution, DType::f16, values, 3);
    Plan plan;
    EXPECT_EQ(execution_difference(graph, values, *emulated_executor(), 0, &plan), "");
    return first_node(plan).reason + first_node(plan).kernel;
  };
  for (const bool are_fused : {true, false}) EXPECT_THAT(plan_of(are_fused), HasSubstr("tensor cores")) << are_fused;
}

TEST_F(Faults, EnginesOfWhichNothingIsKnownAreNotTaken) {
  for (const OpTest& test : {kConvolution, kDataGradient}) {
    emulation::machine().tells_notes = false;
    const OpRun run = run_op(test);
    EXPECT_THAT(run.entry.kernel, StartsWith("reference")) << test.op;
    EXPECT_EQ(run.difference, "") << test.op;
  }
}

TEST_F(Faults, ADescriptorThatIsRefusedIsNoErrorAndTheReasonIsCuDnnsOwn) {
  for (const OpTest& test : {kConvolution, kDataGradient}) {
    emulation::machine().failing = "descriptor";
    const OpRun run = run_op(test);
    EXPECT_THAT(run.entry.kernel, StartsWith("reference")) << test.op;
    EXPECT_THAT(run.entry.reason, HasSubstr("the machine was told to fail here")) << test.op;
    EXPECT_EQ(run.difference, "") << test.op;
  }
  const OpRun run = run_op(kPooling);
  EXPECT_THAT(run.entry.kernel, StartsWith("own: pooling"));
  EXPECT_THAT(run.entry.reason, HasSubstr("cudnnCreateTensorDescriptor"));
  EXPECT_THAT(run.entry.reason, HasSubstr("the machine was told to fail here"));
  EXPECT_EQ(run.difference, "");
}

TEST_F(Faults, TheNextPlanIsTakenWhereOneFailsWhenItRuns) {
  for (const OpTest& test : {kConvolution, kDataGradient}) {
    SCOPED_TRACE(test.op);
    emulation::machine().failing_workspace = 4096;
    EXPECT_EQ(run_op(test).difference, "");
    EXPECT_EQ(cudaGetLastError(), cudaSuccess) << "the next kernel would report it";
    emulation::machine().failing_workspace = 1;
    EXPECT_THROW(run_op(test), Error);
    EXPECT_EQ(cudaGetLastError(), cudaSuccess) << "the next kernel would report it";
  }
}

TEST_F(Faults, AProductIsApartWhereItsEpilogueFailsWhenItRuns) {
  emulation::machine().failing = "epilogue";
  for (const OpTest& test : {kSums, kSlope}) {
    std::vector<Tensor> values;
    const Graph graph = make_graph(test, DType::f16, values, 3);
    Plan plan;
    EXPECT_EQ(execution_difference(graph, values, *emulated_executor(), 0, &plan), "") << test.op;
    EXPECT_THAT(first_node(plan).kernel, StartsWith("cublaslt")) << test.op;
    EXPECT_THAT(first_node(plan).reason, HasSubstr("one kernel")) << test.op;
  }
}

TEST_F(Faults, AnOwnKernelPoolsWhatCuDnnRefusesWhenItRuns) {
  emulation::machine().failing = "pooling";
  for (const char* op : {"MaxPool", "AveragePool", "GlobalAveragePool"}) {
    OpTest pooling = kPooling;
    pooling.op = op;
    const OpRun run = run_op(pooling);
    EXPECT_THAT(run.entry.kernel, StartsWith("cudnn: pooling")) << op;
    EXPECT_EQ(run.difference, "") << op;
    EXPECT_EQ(cudaGetLastError(), cudaSuccess) << "the next kernel would report it";
  }
}

TEST_F(Faults, ManyImagesArePooledByAnOwnKernel) {
  const OpRun run = run_op({"", "MaxPool", "", {real({65536, 1, 2, 2})}, {{"kernel_shape", Ints{2, 2}}}});
  EXPECT_THAT(run.entry.kernel, StartsWith("own: pooling"));
  EXPECT_THAT(run.entry.reason, HasSubstr("fewer than 65536"));
  EXPECT_EQ(run.difference, "");
}

TEST_F(Faults, TensorsThatCuDnnDoesNotCountAreRefused) {
  const Shape large = {2, std::int64_t{1} << 15, std::int64_t{1} << 15, 1};
  try {
    tensor_descriptor(DType::f16, large);
    FAIL() << "nothing was thrown";
  } catch (const Error& e) {
    EXPECT_THAT(e.required(), HasSubstr("2^31"));
  }
  EXPECT_NO_THROW(tensor_descriptor(DType::f16, {1, std::int64_t{1} << 15, std::int64_t{1} << 15, 1}));
}

TEST_F(Faults, RowsOfMinusInfinityAndNaN) {
  constexpr float kInf = INFINITY;
  const Tensor rows = [&] {
    Tensor t =
        Tensor::of<float>({-kInf, -kInf, 1, 2, 1, -kInf, 2, -kInf, -kInf, -kInf, -kInf, 3, NAN, -kInf, -kInf, 1});
    return Tensor::view(DType::f32, {4, 4}, t.raw(), std::make_shared<Tensor>(t));
  }();
  for (const char* op : {"Softmax", "LogSoftmax"}) {
    Graph g;
    g.opsets = {{"", kOnnxOpset}};
    Builder b(g);
    g.outputs = {b.op(op, {b.expr(g.add_input("x", DType::f32, {4, 4}))}, {{"axis", std::int64_t{1}}}).id()};
    EXPECT_EQ(execution_difference(g, {rows}, *emulated_executor()), "") << op;
  }
}

TEST_F(Faults, ALargeOutputIsCopiedToTheHostWhenItIsAskedFor) {
  Graph g;
  g.opsets = {{"", kOnnxOpset}};
  Builder b(g);
  Expr x = b.expr(g.add_input("x", DType::f32, {64, 64}));
  Expr y = b.op("Relu", {x});
  g.outputs = {y.id(), b.reduce_sum(y, {0, 1}, false).id(), b.op("Neg", {y}).id()};
  for (const Values values : {Values::shared, Values::separate}) {
    const auto executor = emulated_executor(values);
    const auto store = executor->make_store();
    const auto program = executor->compile(g, *store);
    for (const float step : {1.0F, 2.0F, 3.0F}) {  // launched, captured, replayed
      std::ranges::fill(program->input(0).span<float>(), step);
      std::size_t before = emulation::bytes_to_host();
      program->run();
      EXPECT_EQ(*program->output(1).data<float>(), step * 4096);
      EXPECT_EQ(emulation::bytes_to_host() - before, sizeof(float));
      before = emulation::bytes_to_host();
      for (int read = 0; read < 2; ++read) {
        EXPECT_EQ(program->output(0).data<float>()[4095], step);
        EXPECT_EQ(program->output(2).data<float>()[0], -step);
      }
      EXPECT_EQ(emulation::bytes_to_host() - before, 2 * 64 * 64 * sizeof(float));
    }
  }
}

TEST_F(Faults, AnOutputThatIsAStateIsWhatTheStateWas) {
  Graph g;
  g.opsets = {{"", kOnnxOpset}};
  Builder b(g);
  Expr w = b.expr(g.add_state("w", Tensor(DType::f32, {64, 64}), StateRole::parameter));
  g.states[0].next = (w + 1.0).id();
  g.outputs = {w.id()};
  const auto executor = emulated_executor();
  const auto store = executor->make_store();
  const auto program = executor->compile(g, *store);
  for (const float step : {0.0F, 1.0F, 2.0F}) {
    program->run();
    EXPECT_EQ(program->output(0).data<float>()[100], step);
  }
}

TEST_F(Faults, WithoutACompilerOfKernelsNodesRunInReferenceKernels) {
  emulation::machine().can_compile = false;
  EXPECT_FALSE(emulated_executor()->capabilities().chains.holds);
  const OpRun run = run_op({"", "Sin", "", {real({3, 4})}});
  EXPECT_THAT(run.entry.kernel, StartsWith("reference"));
  EXPECT_THAT(run.entry.reason, HasSubstr("kernels are not generated"));
  EXPECT_EQ(run.difference, "");
  const auto executor = emulated_executor();
  for (const Fusion& fusion : executor->capabilities().fusions) {
    EXPECT_THAT(fusion.fused, testing::AnyOf("FusedGemm", "FusedMatMul", "FusedConv", "ConvGradWeight"));
    EXPECT_TRUE(fusion.activations.empty() || fusion.op == "Conv") << fusion.fused << " would run on the CPU";
  }
  for (const bool has_epilogues : {true, false}) {
    emulation::machine().has_epilogues = has_epilogues;
    const OpRun sums = run_op(kSums);
    EXPECT_THAT(sums.entry.kernel, StartsWith(has_epilogues ? "cublaslt" : "reference")) << sums.entry.reason;
    EXPECT_EQ(sums.difference, "");
  }
}

TEST_F(Faults, ALackOfMemoryIsNotTakenForAnErrorOfTheNextKernel) {
  OpTest pooling = kPooling;
  pooling.outputs = 2;  // by a kernel that nvcc compiled
  emulation::machine().memory = 64;
  EXPECT_THROW(run_op(pooling), Error);
  emulation::machine().memory = std::size_t{4} << 30;
  const OpRun run = run_op(pooling);
  EXPECT_THAT(run.entry.kernel, StartsWith("own: pooling"));
  EXPECT_EQ(run.difference, "");
}

/// A normalization's gradients, of which the first `dropped` are not asked for.
Graph normalization_gradients(std::size_t dropped, std::vector<Tensor>& values, std::int64_t rows = 9) {
  const OpTest test = {"", "LayerNormalizationGrad", kOwn, {real({rows, 70}), real({rows, 70}), real({70})}, {}, 3};
  Graph graph = make_graph(test, DType::f32, values, 3);
  graph.outputs.erase(graph.outputs.begin(), graph.outputs.begin() + static_cast<std::ptrdiff_t>(dropped));
  for (std::size_t i = 0; i < dropped; ++i) graph.edit(std::size_t{0})->outputs[i] = kNoValue;
  return graph;
}

TEST_F(Faults, GradientsThatNobodyAsksForAreNotWritten) {
  for (const std::int64_t rows : {9, 150})
    for (std::size_t dropped = 0; dropped < 3; ++dropped) {
      std::vector<Tensor> values;
      const Graph graph = normalization_gradients(dropped, values, rows);
      Plan plan;
      EXPECT_EQ(execution_difference(graph, values, *emulated_executor(), 1e-5, &plan), "") << dropped;
      EXPECT_THAT(first_node(plan).kernel, StartsWith("generated")) << first_node(plan).reason;
    }
}

TEST_F(Faults, KernelsGoOnWhereADeviceTakesNoMoreBlocks) {
  emulation::machine().most_blocks = 1;
  std::vector<Tensor> values;
  const Graph graph = normalization_gradients(0, values, 150);
  EXPECT_EQ(execution_difference(graph, values, *emulated_executor(), 1e-5), "");
  std::set<std::string> seen;
  for (const OpTest& test : op_tests()) {
    if (!test.kernel.starts_with("generated") || !seen.insert(test.op).second) continue;
    std::vector<Tensor> operands;
    const Graph one = make_graph(test, DType::f32, operands, 3);
    EXPECT_EQ(execution_difference(one, operands, *emulated_executor(), 1e-5), "") << test.op;
  }
}

TEST_F(Faults, AKernelThatTheCompilerRefusesIsNoError) {
  const OpTest transpose = {"", "Transpose", "", {real({3, 70, 33})}, {{"perm", Ints{0, 2, 1}}}};
  const OpTest normalization = {"", "InstanceNormalization", "", {real({2, 3, 4, 4}), real({3}), real({3})}};
  for (const OpTest& test : {transpose, normalization}) {
    emulation::machine().failing = "compile";
    const OpRun run = run_op(test);
    EXPECT_EQ(run.entry.kernel, "reference") << test.op;
    EXPECT_THAT(run.entry.reason, HasSubstr("the machine was told to fail here")) << test.op;
    EXPECT_EQ(run.difference, "") << test.op;
  }
}

}  // namespace
}  // namespace halfstep::cudnn
