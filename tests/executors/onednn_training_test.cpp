// What a training step is made of beyond products and convolutions: normalization, dropout, losses, optimizers; and a
// whole step, which must not allocate.
#include "tests/allocations.h"
#include "tests/executors/onednn_testing.h"

namespace halfstep::testing {
namespace {

constexpr DType kFloats[] = {DType::f32, DType::bf16, DType::f16};
constexpr DType f32 = DType::f32;
using Ints = std::vector<std::int64_t>;

TEST(OneDnnBatchNormalization, TrainsLikeReference) {
  for (DType dtype : kFloats) {
    for (const Shape& shape : {Shape{4, 6, 5, 5}, Shape{4, 16, 8, 8}, Shape{16, 10}, Shape{3, 4, 7}}) {
      SCOPED_TRACE(std::string(name_of(dtype)) + shape.to_string());
      TestGraph t;
      Expr x = t.input(dtype, shape), dy = t.input(dtype, shape);
      const Shape c{shape[1]};
      Expr scale = t.state("scale", c, 1, 0.5, 1.5), shift = t.state("shift", c, 2);
      Expr mean = t.state("mean", c, 3), variance = t.state("variance", c, 4, 0.5, 1.5);
      const Attributes attributes = {{"training_mode", std::int64_t{1}}, {"epsilon", 1e-3F}, {"momentum", 0.8F}};
      auto out = t.b.multi("BatchNormalization", "", {x, scale, shift, mean, variance}, 3, attributes);
      t.output(out[0]);
      t.update(mean, out[1]);
      t.update(variance, out[2]);
      const Attributes grad = {{"training_mode", std::int64_t{1}}, {"epsilon", 1e-3F}};
      for (Expr g : t.b.multi("BatchNormalizationGrad", "ai.halfstep", {dy, x, scale}, 3, grad)) t.output(g);
      t.b.set_context("grad", t.graph.nodes.front().id);
      for (Expr g : t.b.multi("BatchNormalizationGrad", "ai.halfstep", {dy, x, scale}, 3, grad)) t.output(g);
      expect_like_reference(t.graph, 2 * epsilon_of(dtype), 3);
    }
  }
}

TEST(OneDnnBatchNormalization, TakesOneValueAsMeanAndVariance) {
  TestGraph t;
  const Expr x = t.input(DType::f32, {4, 16, 3}), scale = t.input(DType::f32, {16}), bias = t.input(DType::f32, {16});
  const Expr running = t.b.op("Sigmoid", {t.input(DType::f32, {16})});  // dies in the normalization
  const std::vector<Expr> y = t.b.multi("BatchNormalization", kOnnxDomain, {x, scale, bias, running, running}, 3,
                                        {{"training_mode", std::int64_t{1}}});
  t.output(y[0]);
  for (const std::size_t i : {1, 2}) t.output(t.b.op("Neg", {y[i]}));
  expect_like_reference(t.graph, 1e-5);
}

TEST(OneDnnBatchNormalization, InfersLikeReference) {
  for (DType dtype : kFloats) {
    TestGraph t;
    Expr x = t.input(dtype, {4, 6, 5, 5}), dy = t.input(dtype, {4, 6, 5, 5});
    Expr scale = t.state("scale", {6}, 1, 0.5, 1.5), shift = t.state("shift", {6}, 2);
    Expr mean = t.state("mean", {6}, 3), variance = t.state("variance", {6}, 4, 0.5, 1.5);
    t.output(t.b.op("BatchNormalization", {x, scale, shift, mean, variance}));
    for (Expr g : t.b.multi("BatchNormalizationGrad", "ai.halfstep", {dy, x, scale, mean, variance}, 3,
                            {{"training_mode", std::int64_t{0}}}))
      t.output(g);
    expect_like_reference(t.graph, 2 * epsilon_of(dtype));
  }
}

TEST(OneDnnDropout, KeepsTheSameElementsAsReference) {
  for (DType dtype : kFloats) {
    TestGraph t;
    Expr x = t.input(dtype, {7, 33});
    Expr counter = t.b.expr(t.graph.add_state("counter", Tensor::scalar<std::int64_t>(5), StateRole::random));
    t.update(counter, t.b.op("Add", {counter, t.b.constant(Tensor::scalar<std::int64_t>(1))}));
    for (Expr y : t.b.multi("PhiloxDropout", "ai.halfstep", {x, t.b.scalar(0.3, f32), counter}, 2,
                            {{"seed", std::int64_t{42}}, {"stream", std::int64_t{3}}}))
      t.output(y);
    expect_like_reference(t.graph, epsilon_of(dtype), 3);
  }
}

TEST(OneDnnCrossEntropy, AgreesWithReference) {
  for (DType dtype : kFloats) {
    for (const char* reduction : {"mean", "sum", "none"}) {
      SCOPED_TRACE(std::string(name_of(dtype)) + reduction);
      TestGraph t;
      Expr scores = t.input(dtype, {9, 10}), labels = t.input(DType::i64, {9}), weights = t.input(dtype, {10});
      const Attributes attributes = {{"reduction", std::string(reduction)}, {"ignore_index", std::int64_t{3}}};
      for (bool weighted : {false, true}) {
        const Expr w = weighted ? t.b.op("Abs", {weights}) : Expr();
        auto out = t.b.multi("SoftmaxCrossEntropyLoss", "", {scores, labels, w}, 2, attributes);
        t.output(out[0]);
        t.output(out[1]);
        Expr dloss = t.input(dtype, out[0].shape());
        t.output(t.b.own("SoftmaxCrossEntropyGrad", {dloss, out[1], labels, w}, attributes));
      }
      expect_like_reference(t.graph, 4 * epsilon_of(dtype), 1, -3, 3);
    }
  }
}

/// Two parameters, one of them a convolution's weight, updated by `op` with N further states each.
void expect_optimizer_like_reference(const char* op, std::size_t moments, const Attributes& attributes) {
  TestGraph t;
  Expr x = t.input(f32, {2, 6, 9, 9}), dy = t.input(f32, {2, 16, 7, 7}), lr = t.input(f32, {});
  Expr w = t.state("w", {16, 6, 3, 3}, 1), bias = t.state("bias", {16}, 2);
  t.output(t.b.op("Conv", {x, w, bias}));
  Expr dw = t.b.own("ConvGradWeight", {dy, x}, {{"kernel_shape", Ints{3, 3}}, {"weight_shape", Ints{16, 6, 3, 3}}});
  Expr db = t.b.reduce_sum(dy, {0, 2, 3}, false);
  auto norm = t.b.multi("GlobalNorm", "ai.halfstep", {dw, db}, 2);
  t.output(norm[0]);
  Expr step = t.b.expr(t.graph.add_state("step", Tensor::scalar<std::int64_t>(0), StateRole::optimizer));
  Expr next_step = t.b.op("Add", {step, t.b.constant(Tensor::scalar<std::int64_t>(1))});
  t.update(step, next_step);
  Expr scale = t.b.expr(t.graph.add_state("scale", Tensor::scalar(4.F), StateRole::loss_scale));
  Expr good = t.b.expr(t.graph.add_state("good", Tensor::scalar<std::int64_t>(0), StateRole::loss_scale));
  auto scaler =
      t.b.multi("LossScaleUpdate", "ai.halfstep", {scale, good, norm[1]}, 2, {{"growth_interval", std::int64_t{2}}});
  t.update(scale, scaler[0]);
  t.update(good, scaler[1]);
  std::vector<Expr> in = {lr, next_step, norm[1], 1.0 / scale, w, bias, dw, db}, states = {w, bias};
  for (std::size_t m = 0; m < moments; ++m)
    for (const char* name : {"w", "bias"}) {
      const Shape& shape = name[0] == 'w' ? w.shape() : bias.shape();
      states.push_back(
          t.b.expr(t.graph.add_state(std::string(name) + std::to_string(m), Tensor(f32, shape), StateRole::optimizer)));
      in.push_back(states.back());
    }
  auto next = t.b.multi(op, "ai.halfstep", in, states.size(), attributes);
  for (std::size_t i = 0; i < states.size(); ++i) t.update(states[i], next[i]);
  expect_like_reference(t.graph, 1e-5, 5);
  Compiled compiled(make_onednn_executor(), t.graph);
  EXPECT_EQ(count_steps(*compiled.program, "Copy"), 0U);
}

TEST(OneDnnOptimizer, AdamAgreesWithReference) {
  expect_optimizer_like_reference("AdamStep", 2, {});
  expect_optimizer_like_reference("AdamWStep", 2, {{"weight_decay", 0.1F}});
  expect_optimizer_like_reference("AdamStep", 2, {{"weight_decay", 0.1F}, {"beta1", 0.8F}});
}

TEST(OneDnnOptimizer, SgdAgreesWithReference) {
  expect_optimizer_like_reference("SgdStep", 0, {{"weight_decay", 0.1F}});
  expect_optimizer_like_reference("SgdStep", 1, {{"momentum", 0.9F}});
  expect_optimizer_like_reference("SgdStep", 1, {{"momentum", 0.9F}, {"nesterov", std::int64_t{1}}});
}

/// One step of a small convolutional classifier with Adam, in mixed precision when `half` is not f32.
Graph training_step(DType half, std::int64_t batch) {
  TestGraph t;
  Expr x = t.input(f32, {batch, 1, 12, 12}), labels = t.input(DType::i64, {batch}), lr = t.input(f32, {});
  const Attributes window = {{"kernel_shape", Ints{2, 2}}, {"strides", Ints{2, 2}}};
  std::vector<Expr> p = {t.state("conv.weight", {8, 1, 3, 3}, 1, -0.3, 0.3), t.state("conv.bias", {8}, 2, -0.3, 0.3),
                         t.state("fc.weight", {10, 200}, 3, -0.1, 0.1), t.state("fc.bias", {10}, 4, -0.1, 0.1)};
  std::vector<Expr> h;
  for (Expr e : p) h.push_back(t.b.cast(e, half));
  Expr xh = t.b.cast(x, half);
  Expr y = t.b.op("Relu", {t.b.op("Conv", {xh, h[0], h[1]})});
  Expr pooled = t.b.op("MaxPool", {y}, window);
  const NodeId pool = t.graph.nodes.back().id;
  Expr flat = t.b.reshape(pooled, {batch, 200});
  Expr logits = t.b.cast(t.b.op("Gemm", {flat, h[2], h[3]}, {{"transB", std::int64_t{1}}}), f32);
  auto loss = t.b.multi("SoftmaxCrossEntropyLoss", "", {logits, labels}, 2);
  t.output(loss[0]);

  Expr d = t.b.cast(t.b.own("SoftmaxCrossEntropyGrad", {t.b.scalar(1, f32), loss[1], labels}), half);
  const std::int64_t to = static_cast<std::int64_t>(f32);
  Expr dw2 = t.b.own("FusedGemm", {d, flat}, {{"transA", std::int64_t{1}}, {"to", to}});
  Expr db2 = t.b.cast(t.b.reduce_sum(d, {0}, false), f32);
  Expr dpooled = t.b.reshape(t.b.own("FusedGemm", {d, h[2]}), pooled.shape());
  t.b.set_context("grad", pool);
  Expr dy = t.b.own("MaxPoolGrad", {dpooled, y}, window);
  t.b.set_context("");
  dy = t.b.own("ReluGrad", {dy, y});
  Expr dw1 = t.b.own("ConvGradWeight", {dy, xh},
                     {{"kernel_shape", Ints{3, 3}}, {"weight_shape", Ints{8, 1, 3, 3}}, {"to", to}});
  Expr db1 = t.b.cast(t.b.reduce_sum(dy, {0, 2, 3}, false), f32);

  auto norm = t.b.multi("GlobalNorm", "ai.halfstep", {dw1, db1, dw2, db2}, 2);
  t.output(norm[0]);
  Expr step = t.b.expr(t.graph.add_state("step", Tensor::scalar<std::int64_t>(0), StateRole::optimizer));
  Expr next_step = t.b.op("Add", {step, t.b.constant(Tensor::scalar<std::int64_t>(1))});
  t.update(step, next_step);
  std::vector<Expr> in = {lr, next_step, norm[1], t.b.scalar(1, f32)}, states = p;
  in.insert(in.end(), p.begin(), p.end());
  in.insert(in.end(), {dw1, db1, dw2, db2});
  for (const char* moment : {".m", ".v"})
    for (Expr e : p) {
      states.push_back(
          t.b.expr(t.graph.add_state(t.graph[e.id()].name + moment, Tensor(f32, e.shape()), StateRole::optimizer)));
      in.push_back(states.back());
    }
  auto next = t.b.multi("AdamStep", "ai.halfstep", in, states.size());
  for (std::size_t i = 0; i < states.size(); ++i) t.update(states[i], next[i]);
  return t.graph;
}

void feed(Program& program, const Graph& graph) {
  set_input(program, 0, random_tensor(f32, graph[graph.inputs[0]].shape, 1, 0, 1));
  Tensor labels = program.input(1);
  for (std::int64_t i = 0; i < labels.count(); ++i) labels.data<std::int64_t>()[i] = i % 10;
  *program.input(2).data<float>() = 1e-2F;
}

TEST(OneDnnTraining, FollowsTheReferenceForTenSteps) {
  const Graph graph = training_step(f32, 16);
  Compiled reference(make_reference_executor(), graph), onednn(make_onednn_executor(), graph);
  feed(*reference.program, graph);
  feed(*onednn.program, graph);
  for (int step = 0; step < 10; ++step) {
    reference.program->run();
    onednn.program->run();
    expect_close(onednn.program->output(0), reference.program->output(0), 1e-4, "loss");
    expect_close(onednn.program->output(1), reference.program->output(1), 1e-3, "norm of the gradient");
  }
  for (const char* name : {"conv.weight", "fc.weight", "fc.weight.m", "conv.bias.v"})
    expect_close(onednn.store->read(name), reference.store->read(name), 1e-3, name);
}

TEST(OneDnnTraining, HalfPrecisionStaysNearFullPrecision) {
  const Graph full = training_step(f32, 16);
  Compiled wanted(make_onednn_executor(), full);
  feed(*wanted.program, full);
  for (int step = 0; step < 10; ++step) wanted.program->run();
  for (DType half : {DType::bf16, DType::f16}) {
    const Graph graph = training_step(half, 16);
    Compiled onednn(make_onednn_executor(), graph);
    feed(*onednn.program, graph);
    for (int step = 0; step < 10; ++step) onednn.program->run();
    expect_close(onednn.program->output(0), wanted.program->output(0), 0.05, "loss");
  }
}

TEST(OneDnnTraining, AStepAllocatesNothing) {
  for (DType half : kFloats) {
    const Graph graph = training_step(half, 16);
    Compiled onednn(make_onednn_executor(), graph);
    feed(*onednn.program, graph);
    onednn.program->run();
    {
      const AllocationCounter allocations;
      for (int step = 0; step < 5; ++step) onednn.program->run();
      EXPECT_EQ(allocations.count(), 0) << name_of(half);
    }
    for (const PlanEntry& entry : onednn.program->plan().entries)
      EXPECT_NE(entry.kernel, "reference") << entry.op << ' ' << entry.node << ": " << entry.reason;
  }
}

TEST(OneDnnTraining, MomentsTakeTheLayoutOfTheirParameter) {
  const Graph graph = training_step(f32, 16);
  Compiled onednn(make_onednn_executor(), graph);
  // One reorder at most for each gradient, and none for parameters and moments.
  for (const PlanEntry& entry : onednn.program->plan().entries)
    if (entry.op == "Reorder" || entry.op == "Copy") {
      EXPECT_EQ(graph.state_of(graph.find(entry.node)), -1) << entry.node;
    }
}

}  // namespace
}  // namespace halfstep::testing
