// RNN, LSTM and GRU and their gradients on the emulated device against the reference kernels: by cuDNN's calls, and by
// the generated kernels where it has no such network or one of its calls fails.
#include <cstdlib>
#include <functional>
#include <string>
#include <vector>

#include <gmock/gmock.h>

#include "conformance/executor_check.h"
#include "conformance/special_check.h"
#include "tests/executors/cudnn/emulated_executor.h"
#include "tests/executors/cudnn/emulation/clock.h"
#include "tests/executors/cudnn/emulation/emulation.h"
#include "tests/executors/onednn_testing.h"
#include "tests/temporary_directory.h"
#include <halfstep/ops/op_def.h>

namespace halfstep::cudnn {
namespace {

using namespace halfstep::testing;
using ::testing::HasSubstr;
using ::testing::StartsWith;

struct Cell {
  std::string op, gradient;
  std::int64_t gates;
  Attributes attributes;
};
const std::vector<Cell>& cells() {
  static const std::vector<Cell> all = {{"RNN", "RnnGrad", 1, {}},
                                        {"LSTM", "LstmGrad", 4, {}},
                                        {"GRU", "GruGrad", 3, {{"linear_before_reset", std::int64_t{1}}}}};
  return all;
}

struct Form {
  std::int64_t directions = 1;
  bool batch_first = false;
  bool has_all = true;  ///< bias, initial states, and gradients of the last ones
  bool has_y = true;    ///< else the last states alone
  std::int64_t steps = 3, batch = 5, inputs = 7, hidden = 6;
  bool is_split = false;  ///< the gradient of Y is what a node of the host makes of Y: two parts of a step
};

/// The node and `gradients` gradient nodes of it, the first of which reads what the node left.
TestGraph recurrent_graph(const Cell& cell, const Form& f, DType dtype, int gradients = 2) {
  TestGraph t;
  const bool is_lstm = cell.op == "LSTM";
  const std::int64_t d = f.directions, n = f.batch, h = f.hidden, rows = cell.gates * h;
  const Shape state = f.batch_first ? Shape{n, d, h} : Shape{d, n, h};
  const Shape y_shape = f.batch_first ? Shape{n, f.steps, d, h} : Shape{f.steps, d, n, h};
  Attributes attributes = cell.attributes;
  attributes.set("hidden_size", h);
  if (d == 2) attributes.set("direction", std::string("bidirectional"));
  if (f.batch_first) attributes.set("layout", std::int64_t{1});
  std::vector<Expr> in = {t.input(dtype, f.batch_first ? Shape{n, f.steps, f.inputs} : Shape{f.steps, n, f.inputs}),
                          t.input(dtype, {d, rows, f.inputs}), t.input(dtype, {d, rows, h})};
  if (f.has_all) {
    in.insert(in.end(), {t.input(dtype, {d, 2 * rows}), Expr(), t.input(dtype, state)});
    if (is_lstm) in.push_back(t.input(dtype, state));
  }
  const std::size_t states = is_lstm ? 2 : 1;
  const std::vector<Expr> results = t.b.multi(cell.op, "", in, 1 + states, attributes);
  const NodeId forward = t.graph.nodes.back().id;
  for (std::size_t i = f.has_y ? 0 : 1; i < results.size(); ++i) t.output(results[i]);
  if (!f.has_y) t.graph.edit(t.graph.nodes.size() - 1)->outputs[0] = kNoValue;
  in.resize(is_lstm ? 8 : 6);
  if (f.is_split)
    in.push_back(t.b.op("ReverseSequence", {results[0], t.b.constant(Tensor::of<std::int64_t>({f.steps}))}));
  else
    in.push_back(f.has_y ? t.input(dtype, y_shape) : Expr());
  for (std::size_t i = 0; i < states; ++i) in.push_back(f.has_all || !f.has_y ? t.input(dtype, state) : Expr());
  t.b.set_context("grad", forward);
  for (int i = 0; i < gradients; ++i)
    for (Expr g : t.b.multi(cell.gradient, "ai.halfstep", in, f.has_all ? 4 + states : 3, attributes)) t.output(g);
  return t;
}

/// Runs three times, launched, captured and from the graph, on other numbers each time.
void expect_like_the_reference(const Graph& graph, Executor& executor, double tolerance, Plan* plan = nullptr,
                               const std::function<void(unsigned)>& before_run = {}) {
  emulation::latest_refusal();
  const auto store = executor.make_store();
  const auto program = executor.compile(graph, *store);
  Compiled reference(make_reference_executor(), graph);
  for (unsigned run = 0; run < 3; ++run) {
    for (std::size_t i = 0; i < graph.inputs.size(); ++i) {
      const Value& in = graph[graph.inputs[i]];
      const Tensor value = random_tensor(in.dtype, in.shape, 100 * run + static_cast<unsigned>(i) + 5);
      set_input(*reference.program, i, value);
      set_input(*program, i, value);
    }
    if (before_run) before_run(run);
    reference.program->run();
    program->run();
    for (std::size_t i = 0; i < graph.outputs.size(); ++i)
      expect_close(program->output(i), reference.program->output(i), tolerance,
                   "run " + std::to_string(run) + ", output " + std::to_string(i));
  }
  EXPECT_TRUE(emulation::guards_are_whole());
  if (plan) *plan = program->plan();
}

std::string kernel_of(const Plan& plan, const std::string& op) {
  for (const PlanEntry& entry : plan.entries)
    if (entry.op == op) return entry.kernel + ", " + entry.reason;
  return "no entry";
}

class CudnnRecurrent : public ::testing::Test {
 protected:
  ~CudnnRecurrent() override {
    emulation::machine() = {};
    emulation::duration() = {};
    emulation::latest_refusal();
    EXPECT_EQ(emulation::live_objects(), 0);
  }
};

const Form kForms[] = {{},
                       {.has_all = false},
                       {.has_y = false},
                       {.has_all = false, .has_y = false},
                       {.batch_first = true},
                       {.directions = 2},
                       {.directions = 2, .has_all = false},
                       {.directions = 2, .batch_first = true},
                       {.directions = 2, .batch_first = true, .has_y = false},
                       {.directions = 2, .has_y = false},
                       {.steps = 1, .batch = 1, .inputs = 1, .hidden = 1},
                       {.directions = 2, .steps = 4, .batch = 3, .inputs = 33, .hidden = 20}};

std::string text_of(const Cell& cell, const Form& f, DType dtype) {
  return cell.op + " of " + std::to_string(f.directions) + " directions" + (f.batch_first ? ", batch first" : "") +
         (f.has_all ? ", with bias and states" : "") + (f.has_y ? "" : ", without Y") + ", hidden " +
         std::to_string(f.hidden) + " in " + std::string(name_of(dtype));
}

TEST_F(CudnnRecurrent, AgreesWithTheReferenceBothWays) {
  for (const DType dtype : {DType::f32, DType::f16, DType::bf16})
    for (const Cell& cell : cells())
      for (const Form& form : kForms) {
        SCOPED_TRACE(text_of(cell, form, dtype));
        const TestGraph t = recurrent_graph(cell, form, dtype);
        Plan plan;
        expect_like_the_reference(t.graph, *emulated_executor(Values::separate),
                                  dtype == DType::f32 ? 1e-5 : 8 * epsilon_of(dtype), &plan);
        EXPECT_STREQ(emulation::latest_refusal(), "");
        EXPECT_THAT(kernel_of(plan, cell.op), StartsWith("cudnn: recurrent, workspace 2048 bytes, reserve "));
        EXPECT_THAT(kernel_of(plan, "ai.halfstep." + cell.gradient), StartsWith("cudnn: recurrent"));
      }
}

TEST_F(CudnnRecurrent, TakesTheCasesOfTheOperators) {
  const auto executor = emulated_executor(Values::separate);
  for (const OpDef* op : op_table()) {
    const auto is_it = [&](const Cell& cell) { return op->name == cell.op || op->name == cell.gradient; };
    if (std::ranges::none_of(cells(), is_it)) continue;
    int taken = 0;
    for (std::size_t i = 0; i < op->cases.size(); ++i)
      for (const DType dtype : kCheckedTypes)
        for (const CheckReport& report :
             {check_execution(*op, i, dtype, *executor), check_special(*op, i, dtype, *executor)}) {
          EXPECT_NE(report.result, CheckResult::failed) << report.case_name << ": " << report.message;
          taken += report.kernels == "cudnn";
        }
    EXPECT_GT(taken, 0) << op->name;
  }
}

// What lies in the weight space is a matter of the library, which the tests of its own answers compare with this one.
TEST_F(CudnnRecurrent, TheForwardPassAloneKeepsNothing) {
  for (const Cell& cell : cells()) {
    Plan plan;
    expect_like_the_reference(recurrent_graph(cell, {.directions = 2}, DType::f32, 0).graph, *emulated_executor(), 1e-5,
                              &plan);
    EXPECT_THAT(kernel_of(plan, cell.op), HasSubstr("reserve 0 bytes"));
    EXPECT_STREQ(emulation::latest_refusal(), "");
  }
}

// A gradient that reads other operands than the node did has a forward pass of its own.
TEST_F(CudnnRecurrent, ReadsNothingThatTheForwardPassLeftOfOtherOperands) {
  for (const Cell& cell : cells())
    for (const std::size_t other : {0, 1, 2, 3, 5, 6}) {
      if (other == 6 && cell.op != "LSTM") continue;
      SCOPED_TRACE(cell.op + " with another input " + std::to_string(other));
      TestGraph t = recurrent_graph(cell, {}, DType::f32, 1);
      const Shape shape = t.graph[t.graph.nodes.back().inputs[other]].shape;
      const ValueId input = t.graph.add_input("other", DType::f32, shape);
      t.graph.edit(t.graph.nodes.size() - 1)->inputs[other] = input;
      expect_like_the_reference(t.graph, *emulated_executor(Values::separate), 1e-5);
      EXPECT_STREQ(emulation::latest_refusal(), "");
    }
}

TEST_F(CudnnRecurrent, GradientsThatNobodyAsksForAreNotWritten) {
  for (const Cell& cell : cells())
    for (std::size_t wanted = 0; wanted < 4; ++wanted) {
      SCOPED_TRACE(cell.op + ", gradient " + std::to_string(wanted));
      TestGraph t = recurrent_graph(cell, {.directions = 2}, DType::f32, 1);
      const std::size_t last = t.graph.nodes.size() - 1;
      const ValueId kept = t.graph.nodes[last].outputs[wanted];
      std::erase_if(t.graph.outputs,
                    [&](ValueId id) { return id != kept && std::ranges::count(t.graph.nodes[last].outputs, id) > 0; });
      const Graph::Edit node = t.graph.edit(last);
      for (ValueId& id : node->outputs)
        if (id != kept) id = kNoValue;
      while (node->outputs.back() == kNoValue) node->outputs.pop_back();
      expect_like_the_reference(t.graph, *emulated_executor(Values::separate), 1e-5);
      EXPECT_STREQ(emulation::latest_refusal(), "");
    }
}

// Forward and backward pass are timed one by one, and either may be cuDNN's.
TEST_F(CudnnRecurrent, TheFasterOfCudnnsAndTheGeneratedKernelsIsTaken) {
  struct Times {
    double forward, backward, generated;
    const char *forward_by, *backward_by;
  };
  constexpr Times kTimes[] = {
      {1, 1, 50, "cudnn", "cudnn"}, {5000, 5000, 1, "generated", "generated"}, {1, 5000, 1, "cudnn", "generated"}};
  const TemporaryDirectory folder;
  for (const Cell& cell : cells())
    for (const Times& times : kTimes) {
      SCOPED_TRACE(cell.op + " forward by " + times.forward_by + ", backward by " + times.backward_by);
      const std::filesystem::path kept = folder / cell.op / times.forward_by / times.backward_by;
      ::setenv("HALFSTEP_KERNEL_CACHE", kept.c_str(), 1);
      emulation::duration() = [&](std::string_view kind, int call) {
        return kind != "recurrent" ? times.generated : call == 0 ? times.forward : times.backward;
      };
      Plan plan;
      expect_like_the_reference(recurrent_graph(cell, {.directions = 2}, DType::f32).graph,
                                *emulated_executor(Values::separate), 1e-5, &plan);
      EXPECT_STREQ(emulation::latest_refusal(), "");
      EXPECT_THAT(kernel_of(plan, cell.op), StartsWith(times.forward_by));
      EXPECT_THAT(kernel_of(plan, "ai.halfstep." + cell.gradient), StartsWith(times.backward_by));
      EXPECT_THAT(kernel_of(plan, cell.op), HasSubstr(" us, of 2"));
    }
  ::setenv("HALFSTEP_KERNEL_CACHE", "/proc/nothing", 1);
}

TEST_F(CudnnRecurrent, ACallThatFailsWhileItIsTimedLeavesTheNodeToTheGeneratedKernels) {
  const TemporaryDirectory folder;
  ::setenv("HALFSTEP_KERNEL_CACHE", folder.path().c_str(), 1);
  emulation::machine().failing = "cudnnRNNForward";
  emulation::duration() = [](std::string_view kind, int) { return kind == "recurrent" ? 1 : 1000; };
  Plan plan;
  expect_like_the_reference(recurrent_graph(cells()[1], {}, DType::f32).graph, *emulated_executor(), 1e-5, &plan);
  EXPECT_THAT(kernel_of(plan, "LSTM"), StartsWith("generated: recurrent"));
  EXPECT_EQ(cudaGetLastError(), cudaSuccess);
  ::setenv("HALFSTEP_KERNEL_CACHE", "/proc/nothing", 1);
}

// A network that a call refuses while it is described runs on the generated kernels, and the plan says which call.
TEST_F(CudnnRecurrent, ACallThatIsRefusedLeavesTheNodeToTheGeneratedKernels) {
  const Graph graph = recurrent_graph(cells()[1], {.directions = 2}, DType::f32).graph;
  const Compiled held(emulated_executor(), graph);  // so that its kernels are compiled once
  for (const char* call :
       {"cudnnCreateDropoutDescriptor", "cudnnSetDropoutDescriptor", "cudnnCreateRNNDescriptor",
        "cudnnSetRNNDescriptor_v8", "cudnnCreateRNNDataDescriptor", "cudnnSetRNNDataDescriptor", "descriptor",
        "cudnnGetRNNWeightSpaceSize", "cudnnGetRNNWeightParams", "cudnnGetRNNTempSpaceSizes"}) {
    SCOPED_TRACE(call);
    emulation::machine().failing = call;
    Plan plan;
    expect_like_the_reference(graph, *emulated_executor(), 1e-5, &plan);
    for (const char* op : {"LSTM", "ai.halfstep.LstmGrad"}) {
      EXPECT_THAT(kernel_of(plan, op), StartsWith("generated: recurrent")) << op;
      EXPECT_THAT(kernel_of(plan, op), HasSubstr("the machine was told to fail here")) << op;
    }
  }
}

// One that fails when it runs, whichever it is, leaves this node and all others to them from then on.
TEST_F(CudnnRecurrent, ACallThatFailsWhenItRunsLeavesAllToTheGeneratedKernels) {
  for (const Cell& cell : cells()) {
    const Compiled held(emulated_executor(), recurrent_graph(cell, {}, DType::f32).graph);
    for (const Form& form : {Form{}, Form{.directions = 2}, Form{.directions = 2, .batch_first = true}}) {
      const Graph graph = recurrent_graph(cell, form, DType::f32).graph;
      for (const char* call : {"cudnnRNNForward", "cudnnRNNBackwardData_v8", "cudnnRNNBackwardWeights_v8"}) {
        SCOPED_TRACE(text_of(cell, form, DType::f32) + ", " + call);
        emulation::machine().failing = call;
        Plan plan;
        expect_like_the_reference(graph, *emulated_executor(Values::separate), 1e-5, &plan);
        EXPECT_THAT(plan.notes, ::testing::Contains(HasSubstr("captured CUDA graph")));
        EXPECT_EQ(cudaGetLastError(), cudaSuccess) << "the next kernel would report it";
        emulation::machine().failing = "";
      }
    }
  }
}

/// Of a program of whose two parts the second has the gradient.
Plan run_split(const Cell& cell, Executor& executor, const std::function<void(unsigned)>& before_run) {
  Plan plan;
  expect_like_the_reference(recurrent_graph(cell, {.is_split = true}, DType::f32, 1).graph, executor, 1e-5, &plan,
                            before_run);
  return plan;
}

// The gradient is a captured one of cuDNN's, and the forward node, which is launched, fails in a later run.
TEST_F(CudnnRecurrent, ACapturedGradientReadsNothingOfAForwardPassThatFails) {
  for (const Cell& cell : cells()) {
    SCOPED_TRACE(cell.op);
    int captures = 0;  // that of the part with the forward node is given up
    emulation::machine().at_capture = [&] {
      emulation::machine().failing = captures++ == 0 ? "cudaStreamEndCapture" : "";
    };
    const Plan plan = run_split(cell, *emulated_executor(Values::separate), [&](unsigned run) {
      if (run != 1) return;
      EXPECT_EQ(captures, 2);
      emulation::machine().at_capture = {};
      emulation::machine().failing = "cudnnRNNForward";
    });
    emulation::machine().failing = "";
    EXPECT_STREQ(emulation::latest_refusal(), "the machine was told to fail here");
    EXPECT_THAT(plan.notes, ::testing::Contains(HasSubstr("a library's call has failed")));
    EXPECT_THAT(plan.notes, ::testing::Not(::testing::Contains(HasSubstr("launched kernel by kernel"))));
  }
}

TEST_F(CudnnRecurrent, AFailureIsThatOfOneProgram) {
  for (const Cell& cell : cells()) {
    SCOPED_TRACE(cell.op);
    const auto executor = emulated_executor(Values::separate);
    const auto store = executor->make_store();
    const Graph alone = recurrent_graph(cell, {}, DType::f32, 0).graph;
    const auto failing = executor->compile(alone, *store), other = executor->compile(alone, *store);
    run_split(cell, *executor, [&](unsigned run) {
      if (run != 2) return;
      emulation::machine().failing = "cudnnRNNForward";
      failing->run();
      emulation::machine().failing = "";
      emulation::latest_refusal();
      failing->run();
      EXPECT_STREQ(emulation::latest_refusal(), "");
    });
    EXPECT_STREQ(emulation::latest_refusal(), "");
    emulation::machine().failing = "cudnnRNNForward";
    other->run();
    emulation::machine().failing = "";
    EXPECT_STREQ(emulation::latest_refusal(), "the machine was told to fail here") << "cuDNN was not called";
  }
}

// Whichever it is, and whether the capture outlives it: the step is captured with the generated kernels.
TEST_F(CudnnRecurrent, ACallThatFailsUnderCaptureAloneLeavesAllToTheGeneratedKernels) {
  for (const Cell& cell : cells())
    for (const bool breaks : {false, true})
      for (const char* call : {"cudnnRNNForward", "cudnnRNNBackwardData_v8", "cudnnRNNBackwardWeights_v8"}) {
        SCOPED_TRACE(cell.op + ", " + call);
        emulation::machine().failing_breaks_capture = breaks;
        emulation::machine().at_capture = [call] { emulation::machine().failing = call; };
        const int launches = emulation::graph_launches();
        Plan plan;
        expect_like_the_reference(recurrent_graph(cell, {}, DType::f32).graph, *emulated_executor(Values::separate),
                                  1e-5, &plan);
        EXPECT_EQ(emulation::graph_launches() - launches, 2) << "of three runs";
        EXPECT_THAT(plan.notes, ::testing::Contains(HasSubstr("a library's call has failed")));
        EXPECT_THAT(plan.notes, ::testing::Contains(HasSubstr("the step is one launch")));
        EXPECT_THAT(plan.notes, ::testing::Not(::testing::Contains(HasSubstr("launched kernel by kernel"))));
        emulation::machine() = {};
        emulation::latest_refusal();
      }
}

// The generated kernels' memory is planned for anyway, so that as much is not too much.
TEST_F(CudnnRecurrent, MoreWorkspaceThanTheLimitLeavesTheNodeToTheGeneratedKernels) {
  for (const auto& [bytes, kernel] : {std::pair(std::size_t{256} << 20, "cudnn: recurrent"),
                                      std::pair((std::size_t{256} << 20) + 1, "generated: recurrent")}) {
    emulation::machine().recurrent_workspace = bytes;
    for (const int gradients : {0, 1}) {
      const Compiled program(emulated_executor(), recurrent_graph(cells()[1], {}, DType::f32, gradients).graph);
      EXPECT_THAT(kernel_of(program.program->plan(), "LSTM"), StartsWith(kernel)) << bytes;
      if (gradients == 0) continue;
      EXPECT_THAT(kernel_of(program.program->plan(), "ai.halfstep.LstmGrad"), StartsWith(kernel)) << bytes;
    }
  }
}

struct Refused {
  std::string op;
  Attributes attributes;
};

TEST_F(CudnnRecurrent, WhatCudnnHasNotIsComputedByTheGeneratedKernels) {
  const Refused refused[] = {
      {"LSTM", {{"direction", std::string("reverse")}}},
      {"RNN", {{"activations", std::vector<std::string>{"Relu"}}}},
      {"LSTM", {{"activations", std::vector<std::string>{"Sigmoid", "Sigmoid", "Tanh"}}}},
  };
  for (const auto& [op, attributes] : refused) {
    Cell cell = *std::ranges::find(cells(), op, &Cell::op);
    for (const auto& [name, value] : attributes) cell.attributes.set(name, value);
    Plan plan;
    expect_like_the_reference(recurrent_graph(cell, {}, DType::f32).graph, *emulated_executor(), 1e-5, &plan);
    EXPECT_THAT(kernel_of(plan, op), StartsWith("generated: recurrent"));
  }
}

TEST_F(CudnnRecurrent, OldDevicesHaveNoneInBf16) {
  emulation::machine().major = 7;
  emulation::machine().minor = 5;
  for (const DType dtype : {DType::f16, DType::bf16}) {
    Plan plan;
    expect_like_the_reference(recurrent_graph(cells()[1], {}, dtype).graph, *emulated_executor(), 8 * epsilon_of(dtype),
                              &plan);
    EXPECT_THAT(kernel_of(plan, "LSTM"), StartsWith(dtype == DType::f16 ? "cudnn: recurrent" : "generated: recurrent"));
  }
}

TEST_F(CudnnRecurrent, OldLibrariesHaveNoneInBf16) {
  emulation::machine().failing = "cuDNN 9.13";
  for (const DType dtype : {DType::f16, DType::bf16}) {
    Plan plan;
    expect_like_the_reference(recurrent_graph(cells()[1], {}, dtype).graph, *emulated_executor(), 8 * epsilon_of(dtype),
                              &plan);
    EXPECT_THAT(kernel_of(plan, "LSTM"), StartsWith(dtype == DType::f16 ? "cudnn: recurrent" : "generated: recurrent"));
  }
}

}  // namespace
}  // namespace halfstep::cudnn
