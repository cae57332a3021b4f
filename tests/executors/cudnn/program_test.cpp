// Programs of the cudnn executor: states in device memory, capture, lifetimes, and what goes wrong. CUDA is emulated.
#include <cmath>
#include <cstring>
#include <random>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/executors/cudnn/emulated_executor.h"
#include "tests/executors/cudnn/emulation/emulation.h"
#include <halfstep/base/error.h>
#include <halfstep/ops/builder.h>
#include <halfstep/ops/op_def.h>

namespace halfstep::cudnn {
namespace {

using testing::Contains;
using testing::HasSubstr;

/// Puts the emulated machine back as it was, and sees that nothing is left over.
class ProgramTest : public testing::Test {
 protected:
  ~ProgramTest() override {
    emulation::machine() = {};
    EXPECT_EQ(emulation::live_objects(), 0);
    EXPECT_STREQ(emulation::latest_refusal(), "");
  }
  static std::unique_ptr<Executor> executor() { return emulated_executor(); }
};

Tensor random_tensor(Shape shape, unsigned seed) {
  std::mt19937 random(seed);
  Tensor t(DType::f32, std::move(shape));
  for (float& v : t.span<float>()) v = std::uniform_real_distribution<float>(-0.5f, 0.5f)(random);
  return t;
}

/// One step of training y = relu(x w1 + b1) w2 by mean squared error, in half precision with a loss scale: what the
/// passes make of a small model, written by hand.
Graph training_step() {
  Graph g;
  g.opsets = {{"", kOnnxOpset}, {std::string(kOwnDomain), kOwnOpset}};
  Builder b(g);
  const auto state = [&](std::string_view name, Tensor t, StateRole role) {
    return b.expr(g.add_state(name, std::move(t), role));
  };
  Expr x = b.expr(g.add_input("x", DType::f32, {8, 6})), target = b.expr(g.add_input("target", DType::f32, {8, 3}));
  Expr lr = b.expr(g.add_input("lr", DType::f32, {}));
  std::vector<Expr> p = {state("w1", random_tensor({6, 5}, 1), StateRole::parameter),
                         state("b1", random_tensor({5}, 2), StateRole::parameter),
                         state("w2", random_tensor({5, 3}, 3), StateRole::parameter)};
  std::vector<Expr> m, v;
  for (const Expr& e : p)
    m.push_back(state("m." + g[e.id()].name, Tensor(DType::f32, e.shape()), StateRole::optimizer));
  for (const Expr& e : p)
    v.push_back(state("v." + g[e.id()].name, Tensor(DType::f32, e.shape()), StateRole::optimizer));
  Expr step = state("step", Tensor::scalar(std::int64_t{0}), StateRole::optimizer);
  Expr scale = state("scale", Tensor::scalar(1024.0f), StateRole::loss_scale);
  Expr good = state("good", Tensor::scalar(std::int64_t{0}), StateRole::loss_scale);

  Expr xh = b.cast(x, DType::f16), w1 = b.cast(p[0], DType::f16), b1 = b.cast(p[1], DType::f16),
       w2 = b.cast(p[2], DType::f16);
  Expr h = b.own("FusedGemm", {xh, w1, b1}, {{"activation", std::string("Relu")}});
  Expr y = b.own("FusedGemm", {h, w2}, {{"to", static_cast<std::int64_t>(DType::f32)}});
  Expr error = y - target;
  Expr loss = b.reduce_sum(error * error, {0, 1}, false) / 24.0;

  const auto to_f32 = std::pair{"to", Attribute(static_cast<std::int64_t>(DType::f32))};
  const auto t = [](const char* name) { return std::pair{name, Attribute(std::int64_t{1})}; };
  Expr dy = b.cast(error * (2.0 / 24.0) * scale, DType::f16);
  Expr dh = b.own("ReluGrad", {b.own("FusedGemm", {dy, w2}, {t("transB")}), h});
  std::vector<Expr> grads = {b.own("FusedGemm", {xh, dh}, {t("transA"), to_f32}),
                             b.cast(b.reduce_sum(dh, {0}, false), DType::f32),
                             b.own("FusedGemm", {h, dy}, {t("transA"), to_f32})};
  const std::vector<Expr> check = b.multi("GlobalNorm", kOwnDomain, grads, 2);
  Expr next_step = step + b.cast(check[1], DType::i64);
  std::vector<Expr> in = {lr, b.op("Max", {next_step, b.scalar(1, DType::i64)}), check[1], 1.0 / scale};
  for (const auto* list : {&p, &grads, &m, &v}) in.insert(in.end(), list->begin(), list->end());
  const std::vector<Expr> moved = b.multi(
      "AdamStep", kOwnDomain, in, 9, {{"beta1", 0.9f}, {"beta2", 0.999f}, {"epsilon", 1e-8f}, {"weight_decay", 0.0f}});
  const std::vector<Expr> scaled = b.multi("LossScaleUpdate", kOwnDomain, {scale, good, check[1]}, 2,
                                           {{"growth_factor", 2.0f},
                                            {"backoff_factor", 0.5f},
                                            {"growth_interval", std::int64_t{3}},
                                            {"min", 1.0f},
                                            {"max", 16777216.0f}});
  for (std::size_t i = 0; i < 9; ++i) g.states[i].next = moved[i].id();
  g.states[9].next = next_step.id();
  g.states[10].next = scaled[0].id();
  g.states[11].next = scaled[1].id();
  g.outputs = {loss.id(), check[0].id()};
  return g;
}

void fill(Program& program, float learning_rate) {
  const Tensor x = random_tensor({8, 6}, 11), target = random_tensor({8, 3}, 12);
  std::memcpy(program.input(0).raw(), x.raw(), x.bytes());
  std::memcpy(program.input(1).raw(), target.raw(), target.bytes());
  *program.input(2).data<float>() = learning_rate;
}

struct History {
  std::vector<float> losses;
  std::vector<std::pair<std::string, Tensor>> states;
  Plan plan;
};
History train(Executor& executor, int steps) {
  const auto store = executor.make_store();
  const auto program = executor.compile(training_step(), *store);
  History history;
  for (int i = 0; i < steps; ++i) {
    fill(*program, 0.05f);
    program->run();
    history.losses.push_back(*program->output(0).data<float>());
  }
  for (const std::string& name : store->names()) history.states.emplace_back(name, store->read(name));
  history.plan = program->plan();
  return history;
}

TEST_F(ProgramTest, TrainsAsTheReferenceDoes) {
  const History got = train(*executor(), 8), want = train(*make_reference_executor(), 8);
  for (std::size_t i = 0; i < got.losses.size(); ++i)
    EXPECT_NEAR(got.losses[i], want.losses[i], 2e-3f * want.losses[0]) << "step " << i;
  EXPECT_LT(got.losses.back(), 0.8f * got.losses.front());
  ASSERT_EQ(got.states.size(), want.states.size());
  for (std::size_t s = 0; s < got.states.size(); ++s) {
    EXPECT_EQ(got.states[s].first, want.states[s].first);
    const std::vector<double> g = to_doubles(got.states[s].second), w = to_doubles(want.states[s].second);
    for (std::size_t i = 0; i < g.size(); ++i)
      EXPECT_NEAR(g[i], w[i], 1e-2 * std::max(1.0, std::abs(w[i]))) << got.states[s].first;
  }
}

TEST_F(ProgramTest, PutsTheWholeStepOnTheDevice) {
  const auto made = executor();
  const auto store = made->make_store();
  const auto program = made->compile(training_step(), *store);
  for (const PlanEntry& e : program->plan().entries)
    EXPECT_THAT(e.kernel, testing::Not(testing::StartsWith("reference"))) << e.op << ": " << e.reason;
  EXPECT_GT(program->plan().arena_bytes, 0u);
  EXPECT_EQ(program->plan().state_bytes, 3 * (6 * 5 + 5 + 5 * 3) * 4u + 8 + 4 + 8);
}

TEST_F(ProgramTest, IsCapturedAfterTheFirstRunAndAllocatesNothing) {
  const auto made = executor();
  const auto store = made->make_store();
  const auto program = made->compile(training_step(), *store);
  fill(*program, 0.05f);
  const int before = emulation::allocations(), launches = emulation::graph_launches();
  for (int i = 0; i < 4; ++i) program->run();
  EXPECT_EQ(emulation::allocations(), before);
  EXPECT_EQ(emulation::graph_launches(), launches + 3);
  EXPECT_THAT(program->plan().notes, Contains(HasSubstr("captured CUDA graph")));
}

TEST_F(ProgramTest, IsLaunchedKernelByKernelWhereItCannotBeCaptured) {
  const History captured = train(*executor(), 5);
  emulation::machine().can_capture = false;
  const History plain = train(*executor(), 5);
  EXPECT_EQ(captured.losses, plain.losses);
  EXPECT_THAT(plain.plan.notes, Contains(HasSubstr("cudaStreamBeginCapture gave")));
  for (std::size_t s = 0; s < plain.states.size(); ++s)
    EXPECT_TRUE(identical(captured.states[s].second, plain.states[s].second));
}

TEST_F(ProgramTest, IsLaunchedKernelByKernelWhereItsCaptureFails) {
  const History captured = train(*executor(), 5);
  const std::pair<const char*, const char*> faults[] = {
      {"captured launch", "a call under capture gave the machine was told to fail here"},
      {"captured allocation", "a call under capture gave std::bad_alloc"},
      {"cudaStreamEndCapture", "cudaStreamEndCapture gave"}};
  for (const auto& [failing, note] : faults) {
    emulation::machine().failing = failing;
    const History plain = train(*executor(), 5);
    emulation::latest_refusal();
    EXPECT_EQ(captured.losses, plain.losses) << failing;
    EXPECT_THAT(plain.plan.notes, Contains(HasSubstr(note)));
  }
}

TEST_F(ProgramTest, IsLaunchedKernelByKernelWhereThatIsAskedFor) {
  const History captured = train(*executor(), 5);
  ::setenv("HALFSTEP_CUDA_GRAPHS", "0", 1);
  const int launches = emulation::graph_launches();
  const History plain = train(*executor(), 5);
  ::unsetenv("HALFSTEP_CUDA_GRAPHS");
  EXPECT_EQ(emulation::graph_launches(), launches);
  EXPECT_THAT(plain.plan.notes, Contains(HasSubstr("HALFSTEP_CUDA_GRAPHS is 0")));
  EXPECT_EQ(captured.losses, plain.losses);
  for (std::size_t s = 0; s < plain.states.size(); ++s)
    EXPECT_TRUE(identical(captured.states[s].second, plain.states[s].second));
}

TEST_F(ProgramTest, ProgramsShareStates) {
  const auto made = executor();
  const auto store = made->make_store();
  const auto first = made->compile(training_step(), *store), second = made->compile(training_step(), *store);
  fill(*first, 0.05f);
  fill(*second, 0.05f);
  first->run();
  second->run();
  const History two = train(*executor(), 2);
  EXPECT_EQ(*second->output(0).data<float>(), two.losses[1]);
}

TEST_F(ProgramTest, StatesAreReadAndWritten) {
  const auto made = executor();
  const auto store = made->make_store();
  const auto program = made->compile(training_step(), *store);
  EXPECT_TRUE(store->has("w1"));
  EXPECT_FALSE(store->has("w9"));
  EXPECT_TRUE(identical(store->read("w1"), random_tensor({6, 5}, 1)));
  store->write("w1", random_tensor({6, 5}, 77));
  EXPECT_TRUE(identical(store->read("w1"), random_tensor({6, 5}, 77)));
  EXPECT_THROW(store->write("w1", Tensor(DType::f16, {6, 5})), Error);
  EXPECT_THROW(store->write("w1", Tensor(DType::f32, {5, 6})), Error);
  EXPECT_THROW(store->read("w9"), Error);
}

TEST_F(ProgramTest, AnOverflowSkipsTheStepAndHalvesTheScale) {
  const auto made = executor();
  const auto store = made->make_store();
  const auto program = made->compile(training_step(), *store);
  store->write("scale", Tensor::scalar(16777216.0f));
  fill(*program, 0.05f);
  program->run();
  EXPECT_TRUE(identical(store->read("w1"), random_tensor({6, 5}, 1)));
  EXPECT_EQ(*store->read("scale").data<float>(), 8388608.0f);
  EXPECT_EQ(*store->read("step").data<std::int64_t>(), 0);
}

/// x -> Sin (host) -> Relu (device) -> Sin (host) -> view.
Graph mixed_graph() {
  Graph g;
  g.opsets = {{"", kOnnxOpset}};
  Builder b(g);
  Expr x = b.expr(g.add_input("x", DType::f32, {2, 3}));
  Expr y = b.reshape(b.op("Sin", {b.op("Relu", {b.op("Sin", {x})})}), {6});
  g.outputs = {y.id(), x.id()};
  return g;
}

TEST_F(ProgramTest, NodesOfTheHostGetCopies) {
  emulation::machine().can_compile = false;  // Sin has no kernel but a generated one
  for (int repeat = 0; repeat < 2; ++repeat) {
    const auto made = executor();
    const auto store = made->make_store();
    const auto program = made->compile(mixed_graph(), *store);
    const Tensor x = random_tensor({2, 3}, 5);
    std::memcpy(program->input(0).raw(), x.raw(), x.bytes());
    program->run();
    program->run();
    for (std::size_t i = 0; i < 6; ++i) {
      const float v = x.data<float>()[i];
      EXPECT_FLOAT_EQ(program->output(0).data<float>()[i], std::sin(std::max(0.0f, std::sin(v))));
      EXPECT_EQ(program->output(1).data<float>()[i], v);
    }
    EXPECT_THAT(program->plan().notes, Contains(HasSubstr("reference kernels on the host")));
    EXPECT_EQ(first_node(program->plan()).kernel, "reference");
  }
}

TEST_F(ProgramTest, StatesChangePlacesAtTheEndOfEveryStep) {
  Graph g;
  g.opsets = {{"", kOnnxOpset}};
  const ValueId a = g.add_state("a", Tensor::scalar(1.0f), StateRole::parameter);
  const ValueId b = g.add_state("b", Tensor::scalar(2.0f), StateRole::parameter);
  g.states[0].next = b;
  g.states[1].next = a;
  const auto made = executor();
  const auto store = made->make_store();
  const auto program = made->compile(g, *store);
  for (int step = 1; step <= 3; ++step) {
    program->run();
    EXPECT_EQ(*store->read("a").data<float>(), step % 2 ? 2.0f : 1.0f);
    EXPECT_EQ(*store->read("b").data<float>(), step % 2 ? 1.0f : 2.0f);
  }
}

TEST_F(ProgramTest, AParameterThatIsAnothersGradientIsUpdatedFromItsOldValue) {
  Graph g;
  g.opsets = {{"", kOnnxOpset}, {std::string(kOwnDomain), kOwnOpset}};
  Builder b(g);
  const Expr p = b.expr(g.add_state("p", Tensor::of<float>({1, 2}), StateRole::parameter));
  const Expr q = b.expr(g.add_state("q", Tensor::of<float>({3, 5}), StateRole::parameter));
  const Expr one = b.scalar(1, DType::f32);
  const std::vector<Expr> next =
      b.multi("SgdStep", kOwnDomain,
              {one, b.constant(Tensor::scalar<std::int64_t>(1)), b.constant(Tensor::scalar(true)), one, p, q, q, p}, 2);
  g.states[0].next = next[0].id();
  g.states[1].next = next[1].id();
  const auto made = executor();
  const auto store = made->make_store();
  made->compile(g, *store)->run();
  EXPECT_TRUE(identical(store->read("p"), Tensor::of<float>({-2, -3})));
  EXPECT_TRUE(identical(store->read("q"), Tensor::of<float>({2, 3})));
}

TEST_F(ProgramTest, AnotherExecutorsStoreIsRefused) {
  const auto store = make_reference_executor()->make_store();
  EXPECT_THROW(executor()->compile(training_step(), *store), Error);
}

TEST_F(ProgramTest, WithoutADeviceThereIsAReasonAndNoExecutor) {
  emulation::machine().devices = 0;
  std::string reason;
  EXPECT_FALSE(open_backend(runtime_detection_api(), {}, reason));
  EXPECT_THAT(reason, HasSubstr("shows no GPU"));
}

TEST_F(ProgramTest, AnOldCuDnnIsAReasonAndNoExecutor) {
  emulation::machine().failing = "a cuDNN of today";
  std::string reason;
  EXPECT_FALSE(open_backend(runtime_detection_api(), {}, reason));
  EXPECT_THAT(reason, HasSubstr("cuDNN 9.1 was found, and halfstep needs 9.8"));
  emulation::latest_refusal();
}

}  // namespace
}  // namespace halfstep::cudnn
