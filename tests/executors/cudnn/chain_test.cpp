// Generated elementwise kernels: every operator in every type, alone and in chains, run by the host.
#include <algorithm>
#include <random>
#include <set>

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "conformance/executor_check.h"
#include "conformance/run_graph.h"
#include "conformance/special_check.h"
#include "executors/cudnn/chain_text.h"
#include "executors/cudnn/kernel_table.h"
#include "tests/executors/cudnn/emulated_executor.h"
#include "tests/executors/cudnn/emulation/emulation.h"
#include "tests/executors/cudnn/op_cases.h"
#include "tests/random_chains.h"
#include <halfstep/onnx_io/load.h>
#include <halfstep/ops/infer.h>
#include <halfstep/ops/op_def.h>
#include <halfstep/ops/op_traits.h>
#include <halfstep/passes/pipelines.h>

namespace halfstep::cudnn {
namespace {

using ::testing::StartsWith;

Graph parse(const std::string& text) {
  Graph graph = parse_model("<ir_version: 10, opset_import: [\"\": 28, \"ai.halfstep\": 1]> test " + text).graph;
  infer_graph(graph);
  return graph;
}

/// The operators that a generated kernel takes, alone or first, and all others that op_tests() has nothing of.
std::vector<std::string> generated_operators() {
  std::set<std::string> tested;
  for (const OpTest& test : op_tests()) tested.insert(test.op);
  std::vector<std::string> names;
  for (const core::KernelRow& row : kernel_table())
    if (row.makers.back() == make_generated || !tested.contains(std::string(row.op))) names.emplace_back(row.op);
  return names;
}

class GeneratedOperator : public ::testing::TestWithParam<std::string> {
 protected:
  GeneratedOperator() { emulation::machine().failing = "cudnnCreateRNNDescriptor"; }  // else those are cuDNN's
  ~GeneratedOperator() override {
    emulation::machine() = {};
    EXPECT_TRUE(emulation::guards_are_whole());
  }
};

TEST_P(GeneratedOperator, AgreesWithTheReference) {
  const OpDef* op = nullptr;
  for (const OpDef* row : op_table())
    if (row->name == GetParam()) op = row;
  ASSERT_NE(op, nullptr);
  const auto executor = emulated_executor(Values::separate);
  std::size_t applied = 0, native = 0;
  for (std::size_t i = 0; i < op->cases.size(); ++i)
    for (const DType dtype : kCheckedTypes)
      for (const CheckReport& report :
           {check_execution(*op, i, dtype, *executor), check_special(*op, i, dtype, *executor)}) {
        EXPECT_NE(report.result, CheckResult::failed) << report.case_name << ": " << report.message;
        if (report.result != CheckResult::passed || report.kind != CheckKind::execution) continue;
        ++applied;
        native += report.kernels == "own" || report.kernels == "generated" ? 1 : 0;
      }
  if (applied && GetParam() != "BitwiseNot") {  // whose cases are of bytes
    EXPECT_GT(native, 0U);
  }
}

INSTANTIATE_TEST_SUITE_P(, GeneratedOperator, ::testing::ValuesIn(generated_operators()),
                         [](const auto& each) { return each.param; });

TEST(GeneratedOperators, AreAllElementwiseOnes) {
  // Unsigned integers alone, which the device has no kernels for; a view; random numbers.
  const std::vector<std::string> others = {"BitShift", "Identity", "Dropout"};
  const std::vector<std::string> generated = generated_operators();
  const auto is_in = [](const std::vector<std::string>& list, std::string_view name) {
    return std::ranges::find(list, name) != list.end();
  };
  for (const OpDef* op : op_table()) {
    if (op->traits.elementwise == Elementwise::none || is_in(others, op->name)) continue;
    const bool has_kernel = is_in(generated, op->name);
    EXPECT_TRUE(has_kernel) << op->name;
  }
}

/// What the graph's chains give, against the reference executor's nodes. Returns how many chains there are.
std::size_t expect_chains(const Graph& graph, const std::string& what) {
  const auto executor = emulated_executor(Values::separate);
  const Graph fused = run_pipeline(graph, {fuse_chains(executor->capabilities().chains)});
  std::vector<Tensor> inputs;
  std::mt19937 random(7);
  for (const ValueId id : graph.inputs) {
    Tensor t(DType::f32, graph[id].shape);
    for (float& v : t.span<float>()) v = std::uniform_real_distribution<float>(-2, 2)(random);
    inputs.push_back(convert(t, graph[id].dtype));
  }
  Plan plan;
  EXPECT_EQ(execution_difference(fused, inputs, *executor, 0, &plan), "") << what;
  EXPECT_TRUE(emulation::guards_are_whole()) << what;
  std::size_t chains = 0;
  for (const PlanEntry& entry : plan.entries) {
    if (entry.op != "ai.halfstep.ElementwiseChain") continue;
    EXPECT_THAT(entry.kernel, StartsWith("generated")) << entry.reason;
    ++chains;
  }
  return chains;
}

TEST(GeneratedChains, AgreeWithTheReference) {
  const Shape shapes[] = {{2, 3, 4}, {3, 17, 65}, {1, 1, 1}, {40, 1, 9}, {70, 5, 2}, {3, 4, 16}};
  for (unsigned seed = 0; seed < 12; ++seed) {
    const Shape& shape = shapes[seed % std::size(shapes)];
    const std::string what = fmt::format("seed {}, shape {}", seed, shape.to_string());
    EXPECT_GT(expect_chains(halfstep::testing::RandomChains(seed, shape).make(20), what), 0U) << what;
  }
}

TEST(GeneratedChains, WalkBroadcastOperandsInEveryWay) {
  struct Case {
    const char* what;
    const char* shape;
    const char* operand;
  };
  const Case cases[] = {
      {"packed rows", "4,6,16", "16"},
      {"rows of another length", "4,6,15", "15"},
      {"columns", "4,6,16", "6,1"},
      {"columns, shorter than a vector", "4,6,3", "6,1"},
      {"planes", "4,6,16", "4,1,16"},
      {"outer and inner", "4,6,16", "4,6,1"},
      {"a middle axis", "4,6,16", "1,6,1"},
      {"one element", "4,6,16", "1"},
      {"the same under fewer axes", "1,6,16", "6,16"},
  };
  for (const Case& c : cases)
    for (const char* type : {"float", "float16"}) {
      const std::string text = fmt::format(
          "({2}[{0}] x, {2}[{1}] b) => ({2}[{0}] y, {2}[{0}] z) {{ s = Add(x, b) y = Relu(s) t = Mul(y, b) z = Exp(t) "
          "}}",
          c.shape, c.operand, type);
      EXPECT_EQ(expect_chains(parse(text), c.what), 1U) << c.what;
    }
}

TEST(GeneratedChains, GiveTypesOfDifferentWidths) {
  EXPECT_EQ(expect_chains(parse("(float[3,37] x, float16[3,37] h, bfloat16[37] b) => (float[3,37] y, float16[3,37] z, "
                                "bool[3,37] c, int64[3,37] i) { f = Cast<to = 1>(h) g = Cast<to = 1>(b) s = Add(f, x) "
                                "y = Mul(s, g) z = Cast<to = 10>(y) c = Less(y, x) i = Cast<to = 7>(y) }"),
                          "widths"),
            1U);
}

TEST(GeneratedChains, DivideByAnyExtent) {
  for (const std::int64_t extent : {std::int64_t{2}, std::int64_t{3}, std::int64_t{7}, std::int64_t{641},
                                    std::int64_t{65536}, std::int64_t{1000003}, std::int64_t{1} << 30}) {
    // Two axes, of which the outer one is broadcast: the inner extent is divided by.
    Graph body;
    const ValueId x = body.add_input("x", DType::f32, {2, extent}), b = body.add_input("b", DType::f32, {2, 1});
    const ValueId y = body.add_value("y", DType::f32, {2, extent});
    body.define({y}, "Add", "", {x, b});
    body.outputs = {y};
    const ChainArguments a = chain_text(body, [](std::size_t) { return true; }).arguments;
    ASSERT_EQ(a.extents[1], extent);
    for (const std::uint64_t i : {std::uint64_t{0}, std::uint64_t{1}, std::uint64_t(extent - 1), std::uint64_t(extent),
                                  std::uint64_t(extent + 1), std::uint64_t{123456789}, (std::uint64_t{1} << 31) - 1}) {
      const auto sum = static_cast<std::uint32_t>((i * a.multipliers[1] >> 32) + i);
      EXPECT_EQ(sum >> a.shifts[1], i / static_cast<std::uint64_t>(extent)) << i << " / " << extent;
    }
  }
}

TEST(GeneratedChains, UpdateAStateWhereItLies) {
  Graph g = parse("(float[33] x) => (float y) { y = ReduceSum<keepdims = 0>(x) }");
  Builder b(g);
  Expr w = b.expr(g.add_state("w", Tensor(DType::f32, {33}), StateRole::parameter));
  g.states[0].next = ((w * 0.5 + b.expr(g.inputs[0])) * 2.0).id();
  const auto executor = emulated_executor(Values::separate);
  const Graph fused = run_pipeline(g, {fuse_chains(executor->capabilities().chains)});
  const auto store = executor->make_store();
  const auto program = executor->compile(fused, *store);
  std::ranges::fill(program->input(0).span<float>(), 1.0F);
  for (int step = 0; step < 3; ++step) program->run();
  const Tensor found = store->read("w");
  for (const float v : found.span<float>()) EXPECT_EQ(v, 6.0F);
  EXPECT_TRUE(std::ranges::none_of(program->plan().entries, [](const PlanEntry& e) { return e.op == "Copy"; }));
}

}  // namespace
}  // namespace halfstep::cudnn
