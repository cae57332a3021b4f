// Channels beside each other: a convolution in a half type gives them so, and what follows takes them as they lie.
#include <algorithm>
#include <cmath>
#include <cstring>
#include <random>

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "conformance/run_graph.h"
#include "executors/cudnn/tensor_order.h"
#include "tests/executors/cudnn/emulated_executor.h"
#include "tests/executors/cudnn/emulation/emulation.h"
#include "tests/executors/cudnn/training_steps.h"
#include <halfstep/onnx_io/load.h>
#include <halfstep/ops/builder.h>
#include <halfstep/ops/infer.h>
#include <halfstep/ops/op_def.h>

namespace halfstep::cudnn {
namespace {

using testing::AnyOf;
using testing::HasSubstr;

Tensor random_tensor(DType dtype, Shape shape, unsigned seed) {
  std::mt19937 random(seed);
  Tensor t(DType::f32, std::move(shape));
  for (float& v : t.span<float>()) v = std::uniform_real_distribution<float>(-0.5F, 0.5F)(random);
  return convert(t, dtype);
}

void expect_near(const Tensor& got, const Tensor& want, double bound, const std::string& what) {
  ASSERT_EQ(got.shape(), want.shape()) << what;
  const std::vector<double> g = to_doubles(got), w = to_doubles(want);
  for (std::size_t i = 0; i < g.size(); ++i)
    ASSERT_LE(std::abs(g[i] - w[i]), bound * std::max(1.0, std::abs(w[i]))) << what << ", element " << i;
}

/// Names of the values that are copied into another order.
std::vector<std::string> reordered(const Plan& plan) {
  std::vector<std::string> names;
  for (const PlanEntry& entry : plan.entries)
    if (entry.op == "Reorder") names.push_back(entry.node);
  return names;
}

/// What is computed from c and d, which convolutions give: [2, 8, 4, 4]. r is of the same shape, and lies row-major.
struct Follower {
  const char* name;
  const char* nodes;
  std::vector<const char*> outputs;  ///< with their types
};
const Follower kFollowers[] = {
    {"unary", "y = Sigmoid(c)", {"float16[2,8,4,4] y"}},
    {"cast", "y = Cast<to = 1>(c)", {"float[2,8,4,4] y"}},
    {"both", "y = Add(c, d)", {"float16[2,8,4,4] y"}},
    {"row_major_operand", "y = Add(r, c)", {"float16[2,8,4,4] y"}},
    {"by_channel", "y = Mul(c, k)", {"float16[2,8,4,4] y"}},
    {"by_image_and_channel", "p = GlobalAveragePool(d) y = Mul(c, p)", {"float16[2,8,4,4] y"}},
    {"by_place", "y = Mul(q, c)", {"float16[2,8,4,4] y"}},
    {"of_one_image", "y = Sub(c, o)", {"float16[2,8,4,4] y"}},
    {"max_pool", "y = MaxPool<kernel_shape = [2, 2], strides = [2, 2]>(c)", {"float16[2,8,2,2] y"}},
    {"max_pool_own",
     "y = MaxPool<kernel_shape = [3, 3], strides = [2, 2], pads = [0, 0, 1, 1]>(c)",
     {"float16[2,8,2,2] y"}},
    {"max_pool_indices",
     "y, z = MaxPool<kernel_shape = [2, 2], strides = [2, 2]>(c)",
     {"float16[2,8,2,2] y", "int64[2,8,2,2] z"}},
    {"average_pool_own",
     "y = AveragePool<kernel_shape = [3, 3], strides = [2, 2], pads = [0, 0, 1, 1]>(c)",
     {"float16[2,8,2,2] y"}},
    {"global", "y = GlobalMaxPool(c)", {"float16[2,8,1,1] y"}},
    {"max_pool_grad",
     "p = MaxPool<kernel_shape = [2, 2], strides = [2, 2]>(d) "
     "y = ai.halfstep.MaxPoolGrad<kernel_shape = [2, 2], strides = [2, 2]>(p, c)",
     {"float16[2,8,4,4] y"}},
    {"average_pool_grad",
     "p = MaxPool<kernel_shape = [2, 2]>(d) "
     "y = ai.halfstep.AveragePoolGrad<kernel_shape = [2, 2], input_shape = [2, 8, 4, 4]>(p)",
     {"float16[2,8,4,4] y"}},
    {"normalization", "y = BatchNormalization(c, s, b, m, v)", {"float16[2,8,4,4] y"}},
    {"normalization_trained",
     "y, mm, vv = BatchNormalization<training_mode = 1>(c, s, b, m, v)",
     {"float16[2,8,4,4] y", "float[8] mm", "float[8] vv"}},
    {"normalization_clamped",
     "y, mm, vv = ai.halfstep.FusedBatchNormalization<training_mode = 1, activation = \"Relu\">(c, s, b, m, v)",
     {"float16[2,8,4,4] y", "float[8] mm", "float[8] vv"}},
    {"normalization_added",
     "y, mm, vv = ai.halfstep.FusedBatchNormalization<training_mode = 1, activation = \"Relu\">(c, s, b, m, v, d)",
     {"float16[2,8,4,4] y", "float[8] mm", "float[8] vv"}},
    {"normalization_gradient",
     "y, ds, db = ai.halfstep.BatchNormalizationGrad<training_mode = 1>(c, d, s)",
     {"float16[2,8,4,4] y", "float[8] ds", "float[8] db"}},
    {"normalization_gradient_clamped",
     "y, ds, db = ai.halfstep.BatchNormalizationGrad<training_mode = 1, activation = \"Relu\">(c, d, s, , , b)",
     {"float16[2,8,4,4] y", "float[8] ds", "float[8] db"}},
    {"normalization_gradient_of_inference",
     "y, ds, db = ai.halfstep.BatchNormalizationGrad(c, d, s, m, v)",
     {"float16[2,8,4,4] y", "float[8] ds", "float[8] db"}},
    {"group_normalization", "y = GroupNormalization<num_groups = 2>(c, f, f)", {"float16[2,8,4,4] y"}},
    {"instance_normalization", "y = InstanceNormalization(c, f, f)", {"float16[2,8,4,4] y"}},
    {"concat", "y = Concat<axis = 1>(c, d)", {"float16[2,16,4,4] y"}},
    {"split", "y, z = Split<axis = 1, num_outputs = 2>(c)", {"float16[2,4,4,4] y", "float16[2,4,4,4] z"}},
    {"slice", "y = Slice(c, begin, end, axes)", {"float16[2,8,2,4] y"}},
    {"pad", "y = Pad(c, pads)", {"float16[2,8,6,6] y"}},
    {"sum_by_channel", "y = ReduceSum(c, places)", {"float16[1,8,1,1] y"}},
    {"mean_of_planes", "y = ReduceMean<keepdims = 0>(c, plane)", {"float16[2,8] y"}},
    {"convolution", "y = Conv(c, u)", {"float16[2,8,2,2] y"}},
    {"fused_convolution",
     "y = ai.halfstep.FusedConv<activation = \"Relu\", pads = [1, 1, 1, 1]>(c, u, f, d)",
     {"float16[2,8,4,4] y"}},
    {"data_gradient", "y = ai.halfstep.ConvGradInput<input_shape = [2, 8, 6, 6]>(c, u)", {"float16[2,8,6,6] y"}},
    {"weight_gradient",
     "y = ai.halfstep.ConvGradWeight<kernel_shape = [1, 1], weight_shape = [8, 8, 1, 1]>(c, d)",
     {"float16[8,8,1,1] y"}},
    {"transposed", "y = ConvTranspose<strides = [2, 2]>(c, u, f)", {"float16[2,8,9,9] y"}},
    {"resized", "y = Resize<mode = \"linear\">(c, , scales)", {"float16[2,8,8,8] y"}},
    {"loss", "y, z = SoftmaxCrossEntropyLoss(c, classes)", {"float16 y", "float16[2,8,4,4] z"}},
    {"loss_gradient",
     "e, l = SoftmaxCrossEntropyLoss(c, classes) y = ai.halfstep.SoftmaxCrossEntropyGrad(e, l, classes)",
     {"float16[2,8,4,4] y"}},
    {"identity", "i = Identity(c) y = Neg(i)", {"float16[2,8,4,4] y"}},
};
void PrintTo(const Follower& f, std::ostream* os) { *os << f.name; }

class Followers : public testing::TestWithParam<Follower> {
 protected:
  Followers() { emulation::latest_refusal(); }
  ~Followers() override { EXPECT_STREQ(emulation::latest_refusal(), ""); }
};

TEST_P(Followers, TakeChannelsAsTheyLie) {
  const Follower& follower = GetParam();
  std::vector<int> classes;
  for (int i = 0; i < 32; ++i) classes.push_back(i * 5 % 8);
  const std::string text = fmt::format(
      "<ir_version: 10, opset_import: [\"\": 23, \"ai.halfstep\": 1]> g (float16[2,3,6,6] x, float16[8,3,3,3] w, "
      "float16[8,3,3,3] ww, float16[2,8,4,4] r, float16[8,1,1] k, float16[4,4] q, float16[1,8,4,4] o, float[8] s, "
      "float[8] b, float[8] m, float[8] v, float16[8,8,3,3] u, float16[8] f) => ({}) "
      "<int64[1] begin = {{1}}, int64[1] end = {{3}}, int64[1] axes = {{2}}, int64[8] pads = {{0, 0, 1, 1, 0, 0, 1, "
      "1}}, int64[3] places = {{0, 2, 3}}, int64[2] plane = {{2, 3}}, float[4] scales = {{1, 1, 2, 2}}, int64[2,4,4] "
      "classes = {{{}}}> "
      "{{ c = Conv(x, w) d = Conv(x, ww) {} }}",
      fmt::join(follower.outputs, ", "), fmt::join(classes, ", "), follower.nodes);
  Graph graph = parse_model(text).graph;
  infer_graph(graph);
  std::vector<Tensor> values;
  for (const ValueId id : graph.inputs)
    values.push_back(random_tensor(graph[id].dtype, graph[id].shape, static_cast<unsigned>(values.size()) + 1));
  for (float& variance : values[10].span<float>()) variance = std::abs(variance) + 0.25F;

  const auto executor = emulated_executor(Values::separate);
  CompiledGraph compiled(*executor, graph);
  const std::vector<Tensor> got = compiled.run(values);
  EXPECT_TRUE(emulation::guards_are_whole());
  const std::vector<Tensor> want = run_graph(*make_reference_executor(), graph, values);
  for (std::size_t i = 0; i < got.size(); ++i) expect_near(got[i], want[i], 0x1p-8, follower.outputs[i]);
  // Only what comes from the host, or goes there.
  for (const std::string& name : reordered(compiled.program().plan()))
    EXPECT_THAT(name, AnyOf("x", "w", "ww", "u", "r", "o", "y", "z")) << "is reordered";
  for (const PlanEntry& entry : compiled.program().plan().entries) {
    EXPECT_NE(entry.kernel, "reference") << entry.op << ": " << entry.reason;
    if (entry.op == "Conv") {
      EXPECT_THAT(entry.reason, HasSubstr("channels last"));
    }
  }
}

INSTANTIATE_TEST_SUITE_P(, Followers, testing::ValuesIn(kFollowers),
                         [](const auto& each) { return std::string(each.param.name); });

/// SGD with momentum on the weights of a convolution that is computed in f16.
Graph step_of_a_convolution() {
  Graph g;
  g.opsets = {{"", kOnnxOpset}, {std::string(kOwnDomain), kOwnOpset}};
  Builder b(g);
  const Expr x = b.expr(g.add_input("x", DType::f16, {2, 3, 6, 6}));
  const Expr w = b.expr(g.add_state("w", random_tensor(DType::f32, {8, 3, 3, 3}, 2), StateRole::parameter));
  const Expr momentum = b.expr(g.add_state("momentum", Tensor(DType::f32, {8, 3, 3, 3}), StateRole::optimizer));
  const Expr y = b.op("Conv", {x, b.cast(w, DType::f16)});
  const Expr gradient = b.cast(b.own("ConvGradWeight", {y, x},
                                     {{"kernel_shape", std::vector<std::int64_t>{3, 3}},
                                      {"weight_shape", std::vector<std::int64_t>{8, 3, 3, 3}}}),
                               DType::f32);
  const std::vector<Expr> norm = b.multi("GlobalNorm", kOwnDomain, {gradient}, 2);
  const std::vector<Expr> next = b.multi(
      "SgdStep", kOwnDomain,
      {b.scalar(0.01, DType::f32), b.scalar(1, DType::i64), norm[1], b.scalar(1, DType::f32), w, gradient, momentum}, 2,
      {{"momentum", 0.9F}, {"dampening", 0.0F}, {"nesterov", std::int64_t{0}}, {"weight_decay", 0.1F}});
  g.states[0].next = next[0].id();
  g.states[1].next = next[1].id();
  g.outputs = {norm[0].id()};
  return g;
}

TEST(ChannelsLast, WeightsOfConvolutionsAreStatesInThatOrder) {
  const Graph graph = step_of_a_convolution();
  const auto executor = emulated_executor(), reference = make_reference_executor();
  CompiledGraph step(*executor, graph), wanted(*reference, graph);
  const Tensor x = random_tensor(DType::f16, {2, 3, 6, 6}, 1);
  for (int i = 0; i < 3; ++i) {
    const Tensor norm = step.run({x})[0];
    expect_near(norm, wanted.run({x})[0], 0x1p-8, "norm");
  }
  for (const char* state : {"w", "momentum"})
    expect_near(step.store().read(state), wanted.store().read(state), 0x1p-8, state);
  EXPECT_EQ(reordered(step.program().plan()), std::vector<std::string>{"x"});

  // What is given is what is read, and what a step begins with.
  const Tensor given = random_tensor(DType::f32, {8, 3, 3, 3}, 5);
  step.store().write("w", given);
  wanted.store().write("w", given);
  EXPECT_TRUE(identical(step.store().read("w"), given));
  expect_near(step.run({x})[0], wanted.run({x})[0], 0x1p-8, "norm");
}

TEST(ChannelsLast, LayoutsOfDegenerateTensorsAreRowMajor) {
  for (const Shape& shape : {Shape{2, 1, 3, 3}, Shape{2, 5, 1, 1}, Shape{2, 5}, Shape{}})
    EXPECT_TRUE(layout_in(TensorOrder::channels_last, shape).is_row_major()) << shape.to_string();
  const core::Layout layout = layout_in(TensorOrder::channels_last, {2, 3, 4, 5});
  EXPECT_EQ(layout.order().strides, (core::Dims{60, 1, 15, 3}));
  EXPECT_EQ(in_memory_order(layout, {3, 1, 1}), (Shape{1, 1, 1, 3}));
  EXPECT_EQ(layout_like(layout, {3, 4, 5}).order().strides, (core::Dims{1, 15, 3}));
  EXPECT_TRUE(layout_like(layout, {2, 3, 1, 1}).is_row_major());
}

/// Values that a training step copies into another order: its batch, in the U-Net what its loss reads and writes, and
/// random numbers, which are drawn row-major.
struct Reorders {
  const char* model;
  std::size_t most;
};
const Reorders kReorders[] = {
    {"resnet-torchscript", 1}, {"mobilenetv2-torchscript", 1}, {"unet", 4}, {"normalized", 2}};

TEST(ChannelsLast, StepsChangeHardlyAnyLayout) {
  for (const auto& [model, most] : kReorders) {
    const auto executor = emulated_executor();
    const auto store = executor->make_store();
    const auto program = executor->compile(training_step(model, DType::f16, executor->capabilities()), *store);
    const std::vector<std::string> names = reordered(program->plan());
    fmt::print("{} reorders {}\n", model, fmt::join(names, ", "));
    EXPECT_LE(names.size(), most) << model;
  }
}

TEST(ChannelsLast, GradientsOfNormalizationsOfGroupsAreThoseOfTheReference) {
  const auto executor = emulated_executor(Values::separate), reference = make_reference_executor();
  const Graph graph = training_step("normalized", DType::f16, executor->capabilities());
  CompiledGraph step(*executor, graph), wanted(*reference, graph);
  std::vector<Tensor> values;
  for (const ValueId id : graph.inputs) {
    const Value& value = graph[id];
    values.push_back(is_float(value.dtype) ? random_tensor(value.dtype, value.shape, values.size() + 1)
                                           : convert(Tensor::of<float>({1, 3}), value.dtype));
  }
  for (const State& state : graph.states) {
    if (state.role != StateRole::parameter) continue;
    const Value& value = graph[state.value];
    for (CompiledGraph* each : {&step, &wanted})
      each->store().write(value.name,
                          random_tensor(value.dtype, value.shape, static_cast<unsigned>(value.name.size())));
  }
  const std::vector<Tensor> got = step.run(values), want = wanted.run(values);
  for (std::size_t i = 0; i < got.size(); ++i) expect_near(got[i], want[i], 0x1p-6, graph[graph.outputs[i]].name);
  for (const State& state : graph.states) {
    if (state.role == StateRole::copy) continue;  // which has no name of its own in a store
    expect_near(step.store().read(graph[state.value].name), wanted.store().read(graph[state.value].name), 0x1p-6,
                graph[state.value].name);
  }
  EXPECT_TRUE(emulation::guards_are_whole());
}

}  // namespace
}  // namespace halfstep::cudnn
