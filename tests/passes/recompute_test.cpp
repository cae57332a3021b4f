// Activations that are computed again: less lives at once, and no bit of a result is another.
#include <algorithm>
#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "tests/passes/pass_testing.h"
#include "tests/paths.h"
#include <halfstep/onnx_io/load.h>
#include <halfstep/passes/prepared_model.h>
#include <halfstep/passes/step/recompute.h>

namespace halfstep::testing {
namespace {

// Each value of these graphs has 64 bytes.

struct Small {
  const char* what;
  const char* text;
  std::size_t before, least;  // bytes
};
const Small kSmall[] = {
    {"a chain that is read backwards",
     "(float[4,4] x) => (float[4,4] y) { a = Exp(x) b = Sin(a) c = Cos(b) d = Tanh(c) e = Mul(d, c) f = Mul(e, b) "
     "g = Mul(f, a) y = Neg(g) }",
     5 * 64, 3 * 64},
    {"a chain with a residual",
     "(float[4,4] x) => (float[4,4] y) { a = Exp(x) b = Sin(a) c = Add(a, b) d = Cos(c) e = Add(c, d) f = Tanh(e) "
     "g = Mul(f, e) h = Mul(g, c) i = Mul(h, b) j = Mul(i, a) y = Neg(j) }",
     6 * 64, 4 * 64},
    {"views of a value are made again with it",
     "(float[4,4] x) => (float[16] y) <int64[1] flat = {16}> { a = Exp(x) r = Reshape(a, flat) b = Sin(r) c = Cos(b) "
     "d = Tanh(c) e = Mul(d, c) f = Mul(e, b) g = Mul(f, r) y = Neg(g) }",
     5 * 64, 3 * 64},
    {"a product",
     "(float[4,4] x) => (float[4,4] y) { a = MatMul(x, x) b = Sin(a) c = Cos(b) d = Tanh(c) e = Mul(d, c) f = Mul(e, "
     "b) "
     "y = Mul(f, a) }",
     5 * 64, 3 * 64},
    {"numbers that are drawn without a counter are not drawn anew",
     "(float[4,4] x) => (float[4,4] y) { a = RandomNormalLike(x) b = Tanh(x) c = Tanh(b) d = Mul(c, b) y = Mul(d, a) }",
     4 * 64, 4 * 64},
    {"nothing to win", "(float[4,4] x) => (float[4,4] y) { a = Exp(x) b = Sin(a) y = Neg(b) }", 2 * 64, 2 * 64},
};

TEST(Recompute, ReachesTheLeastAndKeepsResults) {
  Tensor x(DType::f32, {4, 4});
  for (std::int64_t i = 0; i < 16; ++i) x.data<float>()[i] = 0.1f * static_cast<float>(i) - 0.7f;
  for (const Small& c : kSmall) {
    SCOPED_TRACE(c.what);
    const Graph whole = parse(c.text);
    EXPECT_EQ(most_live_bytes(whole), c.before);
    const Graph least = run_pipeline(whole, {recompute(1)});
    EXPECT_EQ(most_live_bytes(least), c.least);
    if (c.before == c.least) {
      EXPECT_EQ(least.nodes.size(), whole.nodes.size());
    }
    if (std::string(c.text).find("Random") != std::string::npos) continue;
    Compiled first(whole), second(least);
    for (Compiled* each : {&first, &second}) {
      each->set("x", x);
      each->program->run();
    }
    EXPECT_TRUE(identical(first.program->output(0), second.program->output(0)));
  }
}

TEST(Recompute, CopiesTakeTheScratchOfTheirNodes) {
  Graph whole = parse(kSmall[0].text);
  for (std::size_t n = 0; n < whole.nodes.size(); ++n) whole.edit(n)->name = whole.nodes[n].op;
  const Graph least = run_pipeline(whole, {recompute(1)});
  std::size_t copies = 0;
  for (const Node& node : least.nodes) {
    if (!node.name.ends_with(".again")) continue;
    ++copies;
    const std::string original = node.name.substr(0, node.name.find(".again"));
    EXPECT_GT(most_live_bytes(least, {{original, {10'000}}}), 10'000u);
    EXPECT_EQ(most_live_bytes(least, {{original, {10'000}}}),
              most_live_bytes(least, {{original, {10'000}}, {node.name, {10'000}}}))
        << node.name;
  }
  EXPECT_GT(copies, 0u);
}

TEST(Recompute, WhatAKernelDoesNotReadNeedNotBeKept) {
  // The last node would have b live, and given again, until it runs.
  Graph whole = parse(
      "(float[4,4] x) => (float[4,4] y) { a = Exp(x) b = Sin(a) c = Cos(b) d = Tanh(c) e = Mul(d, c) y = Mul(e, b) }");
  for (std::size_t n = 0; n < whole.nodes.size(); ++n) whole.edit(n)->name = "node" + std::to_string(n);
  const KernelUses kernels{{whole.nodes.back().name, {.unread = {1}}}};
  EXPECT_EQ(most_live_bytes(whole), 4 * 64u);
  EXPECT_EQ(most_live_bytes(whole, kernels), 3 * 64u);
  EXPECT_GT(run_pipeline(whole, {recompute(3 * 64)}).nodes.size(), whole.nodes.size());
  EXPECT_EQ(run_pipeline(whole, {recompute(3 * 64, kernels)}).nodes.size(), whole.nodes.size());
}

TEST(Recompute, WhatACopyDoesNotReadIsNotGivenAgain) {
  // Of what waits for the end, a and c = Mul(a, b), the product does not read b.
  Graph whole = parse(
      "(float[4,4] x) => (float[4,4] y) { a = Exp(x) b = Sin(a) c = Mul(a, b) d = Cos(c) e = Tanh(d) f = Mul(e, d) "
      "g = Mul(f, c) h = Mul(g, a) y = Neg(h) }");
  for (std::size_t n = 0; n < whole.nodes.size(); ++n) whole.edit(n)->name = "node" + std::to_string(n);
  const KernelUses kernels{{"node2", {.unread = {1}}}};
  EXPECT_EQ(most_live_bytes(whole, kernels), 5 * 64u);
  const Graph least = run_pipeline(whole, {recompute(1, kernels)});
  EXPECT_EQ(most_live_bytes(least, kernels), 3 * 64u);
  EXPECT_EQ(std::ranges::count(ops_of(least), "Sin"), 1);
}

TEST(Recompute, RepeatsNoMoreThanIsAskedFor) {
  const Graph whole = parse(kSmall[0].text);
  std::size_t nodes = whole.nodes.size();
  for (std::size_t limit = kSmall[0].before; limit >= kSmall[0].least; limit -= 64) {
    const Graph less = run_pipeline(whole, {recompute(limit)});
    EXPECT_LE(most_live_bytes(less), limit);
    EXPECT_GE(less.nodes.size(), nodes);
    nodes = less.nodes.size();
    if (limit == kSmall[0].before) {
      EXPECT_EQ(nodes, whole.nodes.size());
    }
  }
}

TEST(Recompute, TheCheapestComesFirst) {
  // Of two values that wait for the end one is a product, the other a function of an element.
  const Graph less =
      run_pipeline(parse("(float[64,64] x) => (float[64,64] y) { a = MatMul(x, x) b = Exp(x) c = Tanh(x) "
                         "d = Tanh(c) e = Mul(d, c) f = Mul(e, a) y = Mul(f, b) }"),
                   {recompute(4 * 64 * 64 * 4)});
  const std::vector<std::string> ops = ops_of(less);
  EXPECT_EQ(std::ranges::count(ops, "MatMul"), 1);
}

// Whole training steps.

constexpr std::int64_t kRows = 4;

/// By the mean square of the model's first output.
Graph step_of(const Graph& model, const Capabilities& capabilities) {
  StepOptions options{.shapes = {.by_name = {}, .batch = kRows}};
  const PreparedModel prepared(model, {.parameters = ParameterSelection{}});
  const Graph inference = prepared.lower(Purpose::prediction, options, capabilities);
  options.loss.terms = {
      {.loss = "mean_squared_error", .label_dtype = DType::f32, .label_shape = inference[inference.outputs[0]].shape}};
  return prepared.lower(Purpose::training, options, capabilities);
}

void fill(Tensor tensor) {
  if (tensor.dtype() == DType::f32)
    for (std::int64_t i = 0; i < tensor.count(); ++i) tensor.data<float>()[i] = 0.1f * static_cast<float>(i % 7 - 3);
  if (tensor.dtype() == DType::i64)
    for (std::int64_t i = 0; i < tensor.count(); ++i) tensor.data<std::int64_t>()[i] = i % 11;
}

/// All outputs of three steps, and the states after them.
std::map<std::string, Tensor> results_of(const Graph& graph, Executor& executor) {
  const auto store = executor.make_store();
  const auto program = executor.compile(graph, *store);
  for (std::size_t i = 0; i < graph.inputs.size(); ++i) {
    fill(program->input(i));
    if (graph.inputs[i] == graph.find(StepRole::learning_rate)) *program->input(i).data<float>() = 1e-2f;
  }
  std::map<std::string, Tensor> results;
  for (int step = 0; step < 3; ++step) {
    program->run();
    for (std::size_t i = 0; i < graph.outputs.size(); ++i)
      results[std::to_string(step) + " " + graph[graph.outputs[i]].name] = program->output(i).clone();
  }
  for (const std::string& name : store->names()) results[name] = store->read(name);
  return results;
}

void expect_same_step(const Graph& model, Executor& executor) {
  const Graph whole = step_of(model, executor.capabilities());
  const auto expected = results_of(whole, executor);
  for (const double share : {0.7, 0.0}) {
    const auto limit = static_cast<std::size_t>(share * static_cast<double>(most_live_bytes(whole)));
    const Graph less = run_pipeline(whole, {recompute(limit)});
    EXPECT_GT(less.nodes.size(), whole.nodes.size());
    EXPECT_LT(most_live_bytes(less), most_live_bytes(whole));
    const auto found = results_of(less, executor);
    ASSERT_EQ(found.size(), expected.size());
    for (const auto& [name, tensor] : expected)
      EXPECT_TRUE(identical(found.at(name), tensor)) << executor.name() << ", " << share << ", " << name;
  }
}

TEST(Recompute, RunningStatisticsMoveOnce) {
  const Graph model = parse(
      "(float[N,2,8,8] x) => (float[N,4,8,8] y) <float[4,2,1,1] w = {1, 2, -1, 0.5, 0.25, -2, 3, 1}, "
      "float[4,4,1,1] v = {1, 0, 2, -1, 0.5, 1, -1, 2, 1, 3, 0, 1, -2, 1, 1, 0.5}, float[4] s = {1, 2, 1, 2}, "
      "float[4] b = {0, 1, 0, 1}, float[4] m1 = {0, 0, 0, 0}, float[4] v1 = {1, 1, 1, 1}, "
      "float[4] m2 = {0, 0, 0, 0}, float[4] v2 = {1, 1, 1, 1}> "
      "{ c = Conv(x, w) n = BatchNormalization(c, s, b, m1, v1) r = Relu(n) d = Conv(r, v) "
      "o = BatchNormalization(d, s, b, m2, v2) q = Relu(o) y = Add(q, r) }");
  const auto reference = make_reference_executor(), onednn = make_onednn_executor();
  for (Executor* executor : {reference.get(), onednn.get()}) expect_same_step(model, *executor);
}

class RecomputeInZoo : public ::testing::TestWithParam<std::string> {};

TEST_P(RecomputeInZoo, GivesTheSameBits) {
  const LoadedModel model = load_model(test::source_dir() / "models" / "zoo" / GetParam() / "model.onnx");
  const auto onednn = make_onednn_executor();
  expect_same_step(model.graph, *onednn);
}

INSTANTIATE_TEST_SUITE_P(, RecomputeInZoo,
                         ::testing::Values("bert-dynamo", "convnext-torchscript", "resnet-torchscript",
                                           "mobilenetv2-torchscript", "gpt_neo-dynamo"),
                         [](const auto& test) {
                           std::string name = test.param;
                           std::ranges::replace(name, '-', '_');
                           return name;
                         });

}  // namespace
}  // namespace halfstep::testing
