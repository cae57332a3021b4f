// Passes that turn a model into a training step.
#include <cmath>

#include "tests/passes/pass_testing.h"

namespace halfstep {
namespace {

using namespace halfstep::testing;
using ::testing::AllOf;
using ::testing::Contains;
using ::testing::DoubleNear;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

constexpr const char* kBatchNorm =
    "(float[2,1] x) => (float[2,1] y) <float[1] s = {1}, float[1] b = {0}, float[1] m = {0}, float[1] v = {1}> {"
    " y = BatchNormalization(x, s, b, m, v) }";
constexpr const char* kDropout = "(float[4] x) => (float[4] y) { d = Dropout(x) y = Relu(d) }";

TEST(TrainingMode, BatchNormalizationMovesItsStatistics) {
  const Graph graph = run_passes(kBatchNorm, {to_training_mode()});
  EXPECT_THAT(state_names(graph, StateRole::statistic), ElementsAre("m", "v"));
  EXPECT_EQ(node_of(graph, "BatchNormalization")->attributes.get_int("training_mode", 0), 1);

  Compiled step(graph);
  step.set("x", Tensor::of<float>({1, 3}, {2, 1}));
  step.program->run();
  EXPECT_THAT(step.state("m"), ElementsAre(DoubleNear(0.2, 1e-6)));  // 0.9 * 0 + 0.1 * mean
  EXPECT_THAT(step.state("v"), ElementsAre(DoubleNear(1.0, 1e-6)));  // 0.9 * 1 + 0.1 * biased variance
  EXPECT_NEAR(step.get("y")[0], -1, 1e-4);
}

TEST(TrainingMode, FrozenBatchNormalizationUsesItsStatisticsWhateverTheForm) {
  const std::string head =
      "(float[2,1] x) => (float[2,1] y) <float[1] s = {1}, float[1] b = {0}, float[1] m = {1}, float[1] v = {4}> {";
  for (const char* node :
       {"y = BatchNormalization(x, s, b, m, v)", "y, nm, nv = BatchNormalization<training_mode = 1>(x, s, b, m, v)"}) {
    const Graph graph = run_passes(head + node + " }", {to_training_mode({.train_batchnorm = false})});
    EXPECT_TRUE(graph.states.empty());
    Compiled step(graph);
    step.set("x", Tensor::of<float>({1, 3}, {2, 1}));
    step.program->run();
    EXPECT_THAT(step.get("y"), ElementsAre(DoubleNear(0, 1e-5), DoubleNear(1, 1e-5))) << node;
  }
}

TEST(TrainingMode, FrozenDropoutDropsNothingWhateverTheForm) {
  for (const char* text :
       {"(float[4] x) => (float[4] y) { d = Dropout(x) y = Relu(d) }",
        "(float[4] x) => (float[4] y) <float r = {0.5}, bool t = {1}> { d = Dropout(x, r, t) y = Relu(d) }"})
    EXPECT_THAT(ops_of(run_passes(text, {to_training_mode({.train_dropout = false})})), ElementsAre("Relu")) << text;
}

TEST(TrainingMode, DropoutDrawsFromACounterThatMoves) {
  const Graph graph = run_passes(kDropout, {to_training_mode({.seed = 3})});
  ASSERT_THAT(ops_of(graph), Contains("ai.halfstep.PhiloxDropout"));
  EXPECT_EQ(node_of(graph, "PhiloxDropout")->attributes.get_int("seed", 0), 3);
  const std::vector<std::string> counters = state_names(graph, StateRole::random);
  ASSERT_EQ(counters.size(), 1u);

  Compiled step(graph);
  step.set("x", Tensor::of<float>({1, 1, 1, 1}));
  step.program->run();
  for (double y : step.get("y")) EXPECT_TRUE(y == 0 || y == 2) << y;
  step.program->run();
  EXPECT_THAT(step.state(counters[0]), ElementsAre(2));
}

TEST(InferenceMode, RemovesDropoutAndUsesRunningStatistics) {
  EXPECT_THAT(ops_of(run_passes(kDropout, {to_inference_mode()})), ElementsAre("Relu"));
  const Graph graph = run_passes(kBatchNorm, {to_inference_mode()});
  EXPECT_EQ(node_of(graph, "BatchNormalization")->attributes.get_int("training_mode", 0), 0);
}

// ---- losses

struct LossRow {
  const char* what;
  std::string kind;
  const char* text;
  std::vector<float> x;
  Tensor labels;
  double loss;
};

TEST(AttachLoss, ComputesTheMean) {
  const char* two_classes = "(float[1,2] x) => (float[1,2] y) { y = Identity(x) }";
  const char* softmax = "(float[1,2] x) => (float[1,2] y) { y = Softmax(x) }";
  const double cross_entropy = std::log(1 + std::exp(-2.0));  // of scores 1 and 3, class 1
  const LossRow rows[] = {
      {"classes", "softmax_cross_entropy", two_classes, {1, 3}, Tensor::of<std::int64_t>({1}), cross_entropy},
      {"column of classes",
       "softmax_cross_entropy",
       two_classes,
       {1, 3},
       Tensor::of<std::int64_t>({1}, {1, 1}),
       cross_entropy},
      {"one-hot", "softmax_cross_entropy", two_classes, {1, 3}, Tensor::of<float>({0, 1}, {1, 2}), cross_entropy},
      {"softmax", "softmax_cross_entropy", softmax, {1, 3}, Tensor::of<std::int64_t>({1}), cross_entropy},
      {"log-probabilities", "negative_log_likelihood", two_classes, {-2, -0.5f}, Tensor::of<std::int64_t>({1}), 0.5},
      {"squares", "mean_squared_error", two_classes, {1, 3}, Tensor::of<float>({0, 1}, {1, 2}), 2.5},
      {"absolutes", "l1", two_classes, {1, 3}, Tensor::of<float>({0, 5}, {1, 2}), 1.5},
      {"probabilities",
       "binary_cross_entropy",
       two_classes,
       {0.5f, 0.25f},
       Tensor::of<float>({1, 0}, {1, 2}),
       -(std::log(0.5) + std::log(0.75)) / 2},
      {"logits",
       "binary_cross_entropy_logits",
       two_classes,
       {0, 2},
       Tensor::of<float>({1, 0}, {1, 2}),
       (std::log(2.0) + std::log1p(std::exp(2.0))) / 2},
  };
  for (const LossRow& row : rows) {
    SCOPED_TRACE(row.what);
    Compiled step(run_passes(
        row.text,
        {attach_loss(
            {.loss = row.kind, .output = {}, .label_dtype = row.labels.dtype(), .label_shape = row.labels.shape()})}));
    step.set("x", Tensor::of<float>(row.x, {1, 2}));
    step.set("labels", row.labels);
    step.program->run();
    EXPECT_NEAR(step.get("loss")[0], row.loss, 1e-6);
    EXPECT_EQ(step.graph[step.graph.outputs[0]].shape, Shape());
  }
}

TEST(AttachLoss, TakesClassesAlongAnyAxis) {
  // Class 1 is 2 above class 0 for one point (cheap), and 2 below for another (dear).
  const double cheap = std::log(1 + std::exp(-2.0)), dear = std::log(1 + std::exp(2.0));
  struct Case {
    const char* shape;
    std::vector<float> x;
    std::optional<std::int64_t> axis;
    Tensor labels;
    double loss;
  };
  const Tensor ones = Tensor::of<std::int64_t>({1, 1}, {1, 2}), hot = Tensor::of<float>({0, 0, 1, 1}, {1, 2, 2});
  const Case cases[] = {
      {"1,2,2", {1, 3, 3, 1}, {}, ones, (cheap + dear) / 2},
      {"1,2,2", {1, 3, 3, 3}, 1, ones, (cheap + std::log(2.0)) / 2},
      {"1,2,2", {1, 3, 3, 3}, 2, ones, (cheap + std::log(2.0)) / 2},
      {"1,2,2", {1, 3, 3, 1}, 1, hot, (cheap + dear) / 2},
      {"1,2,1,2", {1, 3, 3, 1}, {}, Tensor::of<std::int64_t>({1, 1}, {1, 1, 2}), (cheap + dear) / 2},
      {"1,2,1,2", {1, 3, 3, 1}, {}, ones, (cheap + dear) / 2},
      {"1,1,2,2", {1, 3, 3, 1}, 2, Tensor::of<std::int64_t>({1, 1}, {1, 1, 2}), (cheap + dear) / 2},
      {"1,2,1,1", {1, 3}, {}, Tensor::of<std::int64_t>({1}), cheap},
  };
  for (const Case& c : cases) {
    SCOPED_TRACE(c.shape);
    for (const std::string kind : {"softmax_cross_entropy", "negative_log_likelihood"}) {
      const std::string shape = c.shape;
      const auto axis = c.axis.value_or(1);
      const std::string node =
          kind == "softmax_cross_entropy" ? "Identity" : "LogSoftmax<axis = " + std::to_string(axis) + ">";
      LossTerm options{.loss = kind, .output = {}, .label_dtype = c.labels.dtype(), .label_shape = c.labels.shape()};
      options.class_axis = c.axis;
      Compiled step(run_passes("(float[" + shape + "] x) => (float[" + shape + "] y) { y = " + node + "(x) }",
                               {attach_loss(options)}));
      step.set("x", Tensor::of<float>(c.x, step.graph[step.graph.inputs[0]].shape));
      step.set("labels", c.labels);
      step.program->run();
      EXPECT_NEAR(step.get("loss")[0], c.loss, 1e-6);
    }
  }
}

TEST(BatchFirst, MovesInputsAndOutputs) {
  const Graph graph = run_passes("(float[3,2,1] x) => (float[3,2,1] y, float[3,2,1] z) { y = Neg(x) z = Identity(x) }",
                                 {batch_first({{"x", 1}, {"y", 1}})});
  EXPECT_THAT(names_of(graph, graph.inputs), ElementsAre("x"));
  EXPECT_THAT(names_of(graph, graph.outputs), ElementsAre("y", "z"));
  EXPECT_EQ(graph[graph.inputs[0]].shape, (Shape{2, 3, 1}));
  Compiled step(graph);
  step.set("x", Tensor::of<float>({1, 2, 3, 4, 5, 6}, {2, 3, 1}));
  step.program->run();
  EXPECT_THAT(step.get("y"), ElementsAre(-1, -2, -3, -4, -5, -6));
  EXPECT_THAT(step.get("z"), ElementsAre(1, 4, 2, 5, 3, 6));
  EXPECT_THAT(error_of("(float[3,2,1] x) => (float[3,2,1] y) { y = Neg(x) }", {batch_first({{"w", 1}})}),
              HasSubstr("(x, y)"));
}

TEST(AttachLoss, FusesAFinalSoftmax) {
  const LossTerm options{.loss = "softmax_cross_entropy", .output = {}, .label_shape = {2}};
  const Graph graph =
      run_passes("(float[2,3] x) => (float[2,3] y) { h = Tanh(x) y = Softmax(h) }", {attach_loss(options)});
  EXPECT_EQ(node_of(graph, "Softmax"), nullptr);
  EXPECT_EQ(node_of(graph, "Tanh")->outputs[0], graph.outputs[1]);
}

TEST(AttachLoss, TakesALossTheModelComputes) {
  const Graph graph = run_passes("(float[2] x) => (float[2] y, float l) { y = Tanh(x) l = ReduceSum<keepdims=0>(y) }",
                                 {attach_loss({.loss = "output", .output = "l"})});
  EXPECT_THAT(names_of(graph, graph.inputs), ElementsAre("x"));
  EXPECT_THAT(names_of(graph, graph.outputs), ElementsAre("l", "y")) << "it keeps its name";
  EXPECT_EQ(graph.find(StepRole::loss), graph.outputs[0]);
}

TEST(AttachLoss, TellsWhatDoesNotFit) {
  const char* text = "(float[4,3] x) => (float[4,3] y) { y = Tanh(x) }";
  auto error = [&](LossTerm options) { return error_of(text, {attach_loss(std::move(options))}); };
  EXPECT_THAT(error({.output = {}, .label_shape = {5}}), AllOf(HasSubstr("[4, 3]"), HasSubstr("[5]")));
  EXPECT_THAT(error({.output = {}, .label_dtype = DType::f32, .label_shape = {4, 2}}), HasSubstr("[4, 2]"));
  EXPECT_THAT(error({.loss = "mean_squared_error", .output = {}, .label_dtype = DType::f32, .label_shape = {4}}),
              HasSubstr("mean_squared_error"));
  EXPECT_THAT(error({.output = "z", .label_shape = {4}}), HasSubstr("'z'"));
}

TEST(Names, AreParsedBackAndUnknownOnesRefused) {
  for (const LossDef& row : losses()) EXPECT_EQ(&loss_named(row.name), &row);
  for (const OptimizerDef& row : optimizers()) EXPECT_EQ(&optimizer_named(row.name), &row);
  EXPECT_THROW(loss_named("hinge"), Error);
  EXPECT_THROW(optimizer_named("tiger"), Error);
}

// ---- gradients and updates

// loss = mean((w * x)^2): dloss/dw = 2 w x^2 / n
constexpr const char* kSquare =
    "(float[2] x) => (float l) <float[2] w = {1, -3}> { a = Mul(x, w) b = Mul(a, a) l = ReduceMean<keepdims=0>(b) }";
const Pipeline kGradient = {select_parameters(), attach_loss({.loss = "output", .output = {}}), differentiate()};

Pipeline step_of(OptimizerOptions options) {
  Pipeline pipeline = kGradient;
  pipeline.push_back(scale_loss(options.loss_scale));
  pipeline.push_back(attach_optimizer(options));
  return pipeline;
}

TEST(AttachOptimizer, SgdMovesAgainstTheGradient) {
  const Graph graph = run_passes(kSquare, step_of({.name = "sgd"}));
  EXPECT_THAT(names_of(graph, graph.inputs), ElementsAre("x", "learning_rate"));
  EXPECT_THAT(names_of(graph, graph.outputs), ElementsAre("l", "grad_norm", "grads_finite"));
  Compiled step(graph);
  step.set("x", Tensor::of<float>({2, 1}));
  step.set("learning_rate", Tensor::scalar(0.125f));
  step.program->run();
  EXPECT_THAT(step.state("w"), ElementsAre(0.5, -2.625));
  EXPECT_THAT(step.get("grad_norm"), ElementsAre(5));
}

TEST(AttachOptimizer, ClipsByTheGlobalNorm) {
  Compiled step(run_passes(kSquare, step_of({.name = "sgd", .clip_norm = 2.5})));
  step.set("x", Tensor::of<float>({2, 1}));
  step.set("learning_rate", Tensor::scalar(1.0f));
  step.program->run();
  EXPECT_THAT(step.state("w"), ElementsAre(DoubleNear(-1, 1e-5), DoubleNear(-1.5, 1e-5)));
  EXPECT_THAT(step.get("grad_norm"), ElementsAre(5));
}

TEST(AttachOptimizer, AdamKeepsMomentsAndAStep) {
  const Graph graph = run_passes(kSquare, step_of({.name = "adam"}));
  EXPECT_THAT(state_names(graph, StateRole::optimizer), ElementsAre("optimizer.step", "adam.m.w", "adam.v.w"));
  Compiled step(graph);
  step.set("x", Tensor::of<float>({2, 1}));
  step.set("learning_rate", Tensor::scalar(0.5f));
  step.program->run();
  // The first step of Adam is the learning rate, against the gradient's sign.
  EXPECT_THAT(step.state("w"), ElementsAre(DoubleNear(0.5, 1e-6), DoubleNear(-2.5, 1e-6)));
  EXPECT_THAT(step.state("optimizer.step"), ElementsAre(1));
}

TEST(AttachOptimizer, AccumulatesAMeanAndUpdatesWhenTold) {
  Compiled step(run_passes(kSquare, step_of({.name = "sgd", .accumulate = 2})));
  step.set("learning_rate", Tensor::scalar(0.125f));
  step.set("x", Tensor::of<float>({2, 0}));
  step.set("update", Tensor::scalar(false));
  step.program->run();
  EXPECT_THAT(step.state("w"), ElementsAre(1, -3));
  EXPECT_THAT(step.state("accumulator.w"), ElementsAre(2, 0));
  step.set("x", Tensor::of<float>({0, 1}));
  step.set("update", Tensor::scalar(true));
  step.program->run();
  EXPECT_THAT(step.state("w"), ElementsAre(0.75, -2.8125));
  EXPECT_THAT(step.state("accumulator.w"), ElementsAre(0, 0));
}

TEST(ScaleLoss, ChangesNoUpdateAndSkipsOverflows) {
  OptimizerOptions options{.name = "sgd"};
  options.loss_scale = {.enabled = true, .initial = 1024, .growth_interval = 1};
  const Graph graph = run_passes(kSquare, step_of(options));
  EXPECT_THAT(state_names(graph, StateRole::loss_scale), ElementsAre("loss_scale", "loss_scale.good_steps"));
  Compiled step(graph);
  step.set("learning_rate", Tensor::scalar(0.125f));
  step.set("x", Tensor::of<float>({2, 1}));
  step.program->run();
  EXPECT_THAT(step.state("w"), ElementsAre(0.5, -2.625));
  EXPECT_THAT(step.get("grad_norm"), ElementsAre(5));
  EXPECT_THAT(step.state("loss_scale"), ElementsAre(2048));

  step.set("x", Tensor::of<float>({INFINITY, 1}));
  step.program->run();
  EXPECT_THAT(step.get("grads_finite"), ElementsAre(0));
  EXPECT_THAT(step.state("w"), ElementsAre(0.5, -2.625));
  EXPECT_THAT(step.state("loss_scale"), ElementsAre(1024));
  EXPECT_THAT(step.state("optimizer.step"), ElementsAre(1));
}

TEST(ScaleLoss, AScaleThatStartsBelowOneStaysThere) {
  OptimizerOptions options{.name = "sgd"};
  options.loss_scale = {.enabled = true, .initial = 0x1p-10, .growth_interval = 2};
  Compiled step(run_passes(kSquare, step_of(options)));
  step.set("learning_rate", Tensor::scalar(0.125f));
  const auto scale_after = [&](float x) {
    step.set("x", Tensor::of<float>({x, 1}));
    step.program->run();
    return step.state("loss_scale")[0];
  };
  EXPECT_EQ(scale_after(INFINITY), 0x1p-10) << "its own lower bound";
  EXPECT_EQ(scale_after(0), 0x1p-10) << "a good step alone does not move it";
  EXPECT_EQ(scale_after(0), 0x1p-9) << "it grows as any other";
}

TEST(ScaleLoss, HalvesAScaleThatStartsAboveItsUsualLimit) {
  OptimizerOptions options{.name = "sgd"};
  options.loss_scale = {.enabled = true, .initial = 0x1p40, .growth_interval = 1};
  Compiled step(run_passes(kSquare, step_of(options)));
  step.set("learning_rate", Tensor::scalar(0.125f));
  step.set("x", Tensor::of<float>({INFINITY, 1}));
  for (const double scale : {0x1p40, 0x1p39, 0x1p38}) {
    step.program->run();
    EXPECT_THAT(step.get("loss_scale"), ElementsAre(scale)) << "the output is the scale of the step";
    EXPECT_THAT(step.state("loss_scale"), ElementsAre(scale / 2));
  }
}

// ---- precision and fusion

TEST(MixedPrecision, RunsProductsInHalfAndKeepsParametersAndOutputs) {
  const Graph graph =
      run_passes("(float[2,2] x) => (float[2,2] y) <float[2,2] w = {1, 2, 3, 4}> { a = MatMul(x, w) y = Relu(a) }",
                 {select_parameters(), mixed_precision({.half = DType::bf16, .keep_full_ops = {}})});
  EXPECT_EQ(graph[node_of(graph, "MatMul")->inputs[0]].dtype, DType::bf16);
  EXPECT_EQ(graph[graph.states[0].value].dtype, DType::f32);
  EXPECT_EQ(graph[graph.outputs[0]].dtype, DType::f32);
  EXPECT_EQ(graph[graph.inputs[0]].dtype, DType::f32);
}

TEST(MixedPrecision, DoesNothingInF32AndForOperatorsThatStayFull) {
  const char* text = "(float[2,2] x, float[2,2] w) => (float[2,2] y) { y = MatMul(x, w) }";
  EXPECT_THAT(ops_of(run_passes(text, {mixed_precision({.half = DType::f32, .keep_full_ops = {}})})),
              ElementsAre("MatMul"));
  EXPECT_THAT(ops_of(run_passes(text, {mixed_precision({.half = DType::f16, .keep_full_ops = {"MatMul"}})})),
              ElementsAre("MatMul"));
}

TEST(Fuse, WritesOnlyWhatTheExecutorHas) {
  const char* text = "(float[2,3] x, float[3,4] w, float[4] b) => (float[2,4] y) { a = Gemm(x, w, b) y = Relu(a) }";
  EXPECT_THAT(ops_of(run_passes(text, {fuse({})})), ElementsAre("Gemm", "Relu"));
  const Graph graph = run_passes(text, {fuse({{.op = "Gemm", .fused = "FusedGemm", .activations = {"Relu"}}})});
  EXPECT_THAT(ops_of(graph), ElementsAre("ai.halfstep.FusedGemm"));
  EXPECT_EQ(graph.nodes[0].attributes.get_string("activation", ""), "Relu");
}

// An activation and its gradient go into the normalization and its gradient, or neither does.
TEST(Fuse, TakesActivationsIntoNormalizations) {
  struct Case {
    const char* activation;
    std::vector<std::string> left;
  };
  const Case cases[] = {
      {"Relu(n)", {}},
      {"Clip(n, zero, six)", {}},
      {"Clip(n, , six)", {}},
      {"Clip(n, zero)", {}},
      {"Clip(n, zero, given)", {"Clip", "ai.halfstep.ClipGrad"}},
      {"Clip(n, zero, infinite)", {"Clip", "ai.halfstep.ClipGrad"}},
      {"Softplus(n)", {"Softplus"}},
  };
  for (const Case& c : cases) {
    SCOPED_TRACE(c.activation);
    const std::string text =
        "(float[2,3,4] x, float given) => (float loss) <float[3] s = {1, 2, 3}, float[3] b = {1, 2, 3}, "
        "float[3] m = {0, 0, 0}, float[3] v = {1, 1, 1}, float zero = {0}, float six = {6}, float infinite = {inf}> "
        "{ n = BatchNormalization(x, s, b, m, v) y = " +
        std::string(c.activation) + " loss = ReduceSum<keepdims = 0>(y) }";
    const Graph graph = run_passes(
        text,
        {select_parameters(), to_training_mode(), attach_loss({.loss = "output", .output = {}}), differentiate(),
         fuse({{.op = "BatchNormalization", .fused = "FusedBatchNormalization", .activations = {"Relu", "Clip"}}}),
         remove_dead_nodes()});
    std::vector<std::string> left = ops_of(graph);
    std::erase_if(left, [](const std::string& op) {
      return op.find("Relu") == op.npos && op.find("Clip") == op.npos && op.find("Softplus") == op.npos;
    });
    EXPECT_EQ(left, c.left);
    const Node* forward = node_of(graph, c.left.empty() ? "FusedBatchNormalization" : "BatchNormalization");
    const Node* backward = node_of(graph, "BatchNormalizationGrad");
    ASSERT_TRUE(forward && backward);
    for (const char* attribute : {"activation", "min", "max"})
      EXPECT_EQ(forward->attributes.has(attribute), backward->attributes.has(attribute)) << attribute;
    EXPECT_EQ(backward->attributes.has("activation"), c.left.empty());
    EXPECT_EQ(backward->input(5) != kNoValue, c.left.empty());
  }
}

}  // namespace
}  // namespace halfstep
