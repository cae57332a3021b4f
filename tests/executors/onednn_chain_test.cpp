// Chains of elementwise operators: bit by bit what their nodes give apart.
#include <algorithm>
#include <cstring>

#include <fmt/format.h>

#include "passes/step/step_values.h"
#include "tests/executors/onednn_testing.h"
#include "tests/random_chains.h"
#include <halfstep/onnx_io/load.h>
#include <halfstep/ops/infer.h>
#include <halfstep/passes/pipelines.h>

namespace halfstep::testing {
namespace {

constexpr const char* kOp = "ai.halfstep.ElementwiseChain";

Graph parse(const std::string& text) {
  Graph graph = parse_model("<ir_version: 10, opset_import: [\"\": 28, \"ai.halfstep\": 1]> test " + text).graph;
  infer_graph(graph);
  return graph;
}

Graph fused(const Graph& graph) {
  return run_pipeline(graph, {fuse_chains(make_onednn_executor()->capabilities().chains)});
}

std::size_t chains_of(const Compiled& compiled) {
  std::size_t count = 0;
  for (const PlanEntry& entry : compiled.program->plan().entries) {
    if (entry.op != kOp) continue;
    EXPECT_EQ(entry.kernel, "simd") << entry.reason;
    ++count;
  }
  return count;
}

void expect_same_bits(const Tensor& found, const Tensor& wanted, const std::string& what) {
  ASSERT_EQ(found.dtype(), wanted.dtype()) << what;
  ASSERT_EQ(found.shape(), wanted.shape()) << what;
  if (std::memcmp(found.raw(), wanted.raw(), wanted.bytes()) == 0) return;
  const std::vector<double> a = to_doubles(found), b = to_doubles(wanted);
  for (std::size_t i = 0; i < a.size(); ++i)
    if (std::memcmp(&a[i], &b[i], sizeof(double)) != 0)
      FAIL() << what << ", element " << i << ": " << a[i] << " instead of " << b[i];
}

/// Runs of the graph with chains against runs without, from the same inputs. Returns how many chains there are.
std::size_t expect_same_bits(const Graph& graph, const std::string& what, const ExecutorOptions& options = {}) {
  Compiled apart(make_onednn_executor(options), graph), together(make_onednn_executor(options), fused(graph));
  for (unsigned run = 0; run < 2; ++run) {
    for (std::size_t i = 0; i < graph.inputs.size(); ++i) {
      const Value& in = graph[graph.inputs[i]];
      const Tensor value = random_tensor(in.dtype, in.shape, 13 * static_cast<unsigned>(i) + run, -2, 2);
      set_input(*apart.program, i, value);
      set_input(*together.program, i, value);
    }
    apart.program->run();
    together.program->run();
    for (std::size_t i = 0; i < graph.outputs.size(); ++i)
      expect_same_bits(together.program->output(i), apart.program->output(i), fmt::format("{}, output {}", what, i));
    for (const State& state : graph.states)
      expect_same_bits(together.store->read(graph[state.value].name), apart.store->read(graph[state.value].name),
                       what + ", " + graph[state.value].name);
  }
  return chains_of(together);
}

TEST(OneDnnChain, GivesTheBitsOfItsNodes) {
  const Shape shapes[] = {{2, 3, 4}, {3, 17, 65}, {1, 1, 1}, {40, 1, 9}, {70, 5, 2}, {2, 3, 5000}};
  for (unsigned seed = 0; seed < 48; ++seed) {
    const Shape& shape = shapes[seed % std::size(shapes)];
    const std::string what = fmt::format("seed {}, shape {}", seed, shape.to_string());
    EXPECT_GT(expect_same_bits(RandomChains(seed, shape).make(30), what), 0U) << what;
    if (::testing::Test::HasFatalFailure()) return;
  }
}

TEST(OneDnnChain, GivesTheSameBitsOnAnyNumberOfThreads) {
  const Graph graph = fused(RandomChains(5, {64, 33, 70}).make(30));
  Compiled one(make_onednn_executor({.threads = 1}), graph), three(make_onednn_executor({.threads = 3}), graph);
  for (std::size_t i = 0; i < graph.inputs.size(); ++i) {
    const Tensor value = random_tensor(DType::f32, graph[graph.inputs[i]].shape, static_cast<unsigned>(i));
    set_input(*one.program, i, value);
    set_input(*three.program, i, value);
  }
  one.program->run();
  three.program->run();
  EXPECT_GT(chains_of(one), 0U);
  // Softmax and sums beside the chains split into fixed blocks as well.
  for (std::size_t i = 0; i < graph.outputs.size(); ++i)
    expect_same_bits(three.program->output(i), one.program->output(i), fmt::format("output {}", i));
}

TEST(OneDnnChain, RunsInTheLayoutOfItsOperands) {
  struct Case {
    const char* what;
    const char* nodes;
  };
  // 3 and 5 channels: blocked layouts have padding.
  const Case cases[] = {
      {"zeros stay zeros", "s = Add(a, b) y = Relu(s)"},
      {"zeros do not", "s = Add(a, b) t = Sigmoid(s) y = Mul(t, a)"},
      {"a scalar that is known", "s = Mul(a, two) y = Add(s, b)"},
      {"a scalar that changes zeros", "s = Add(a, two) y = Mul(s, b)"},
      {"a scalar that is computed", "s = Mul(a, e) y = Mul(s, b)"},
      {"channels", "s = Mul(a, c) y = Add(s, b)"},
      {"rows", "s = Mul(a, r) y = Add(s, b)"},
  };
  for (const std::int64_t channels : {3, 5, 16}) {
    for (const Case& c : cases) {
      const std::string text = fmt::format(
          "(float[2,3,6,7] x, float[2,3,6,7] z, float[{0},3,3,3] w, float[{0},1,1] c, float[7] r, float e) => "
          "(float[2,{0},6,7] q) <float two = {{2}}> {{ a = Conv<pads = [1, 1, 1, 1]>(x, w) "
          "b = Conv<pads = [1, 1, 1, 1]>(z, w) {1} q = MaxPool<kernel_shape = [1, 1]>(y) }}",
          channels, c.nodes);
      EXPECT_EQ(expect_same_bits(parse(text), fmt::format("{}, {} channels", c.what, channels)), 1U);
    }
  }
}

// A state that a chain updates where it lies, while the chain reads it, and another that it goes on to read.
// As many live values as a body of a file may have, of the widest type: more than a piece of 64 elements of each takes.
TEST(OneDnnChain, TakesAsManyLiveValuesAsThereMayBe) {
  for (const std::size_t live : {20, 45, 63}) {
    SCOPED_TRACE(live);
    std::string body = "v0 = Neg(p) ", sum = "v0";
    for (std::size_t i = 1; i < live; ++i) body += fmt::format("v{} = Neg(v{}) ", i, i - 1);
    for (std::size_t i = 1; i < live; ++i) {
      const std::string next = i + 1 < live ? fmt::format("s{}", i) : "r";
      body += fmt::format("{} = Add({}, v{}) ", next, sum, i);
      sum = next;
    }
    const Graph graph =
        parse(fmt::format("(int64[4099] x) => (int64[4099] y) {{ y = {}<body = "
                          "c (int64[4099] p) => (int64[4099] r) {{ {} }}>(x) }}",
                          kOp, body));
    expect_like_reference(graph, 0);
    EXPECT_EQ(chains_of(Compiled(make_onednn_executor(), graph)), 1U);
  }
}

TEST(OneDnnChain, UpdatesStates) {
  TestGraph g;
  const Expr x = g.input(DType::f32, {3, 50}), p = g.state("p", {3, 50}), m = g.state("m", {3, 50}, 8);
  const Expr next_m = m * 0.5 + x, next_p = p - next_m * 0.1, decayed = next_p * p;
  g.output(decayed);
  g.graph.states[0].next = next_p.id();
  g.graph.states[1].next = next_m.id();
  EXPECT_EQ(expect_same_bits(g.graph, "states"), 1U);
}

/// Losses of some steps, then the parameters.
std::vector<Tensor> trained(DType precision, const std::string& optimizer, bool with_chains) {
  const char* model =
      "(float[N,6] x) => (float[N,4] y) <float[6,8] w = {0.5, -1, 0.25, 1, -0.5, 1, 0.75, -0.25, 1, 0.5, -1, -0.75, "
      "0.5, -1, 0.25, 1, -0.5, 1, 0.75, -0.25, 1, 0.5, -1, -0.75, 0.5, -1, 0.25, 1, -0.5, 1, 0.75, -0.25, 1, 0.5, -1, "
      "-0.75, 0.5, -1, 0.25, 1, -0.5, 1, 0.75, -0.25, 1, 0.5, -1, -0.75}, float[8] b = {0.1, -0.2, 0.3, 0, 0.1, 0.2, "
      "-0.3, 0.4}, float[8,4] v = {0.5, -1, 0.25, 1, -0.5, 1, 0.75, -0.25, 1, 0.5, -1, -0.75, 0.5, -1, 0.25, 1, -0.5, "
      "1, 0.75, -0.25, 1, 0.5, -1, -0.75, 0.5, -1, 0.25, 1, -0.5, 1, 0.75, -0.25}, float[8] g = {1, 1, 0.5, 1, 2, 1, "
      "1, 1}, float r = {0.25}, bool on = {1}, float low = {-0.5}, float high = {0.75}> { h = MatMul(x, w) k = Add(h, "
      "b) s = Sigmoid(k) t = Mul(k, s) u = Mul(t, g) d = Dropout(u, r, on) c = Clip(d, low, high) l = Elu(c) n = "
      "Add(l, k) y = MatMul(n, v) }";
  const std::unique_ptr<Executor> executor = make_onednn_executor();
  Capabilities capabilities = executor->capabilities();
  if (!with_chains) capabilities.chains = {};
  StepOptions options;
  options.shapes.by_name = {{"x", Shape{9, 6}}};
  options.precision = precision;
  options.loss.terms = {{.loss = "mean_squared_error", .label_dtype = DType::f32, .label_shape = {9, 4}}};
  options.optimizer = {.name = optimizer};
  options.optimizer.clip_norm = 1;
  options.optimizer.loss_scale.enabled = precision == DType::f16;
  const std::vector<std::string> parameters{"w", "b", "v", "g"};
  const Graph graph =
      run_pipeline(parse(model), whole_pipeline(Purpose::training, options, capabilities, {.trainable = parameters}));
  const auto is_chain = [](const Node& node) { return node.is_own("ElementwiseChain"); };
  EXPECT_EQ(std::any_of(graph.nodes.begin(), graph.nodes.end(), is_chain), with_chains);
  const StepValues step(graph);
  const std::unique_ptr<StateStore> store = executor->make_store();
  const std::unique_ptr<Program> program = executor->compile(graph, *store);
  const auto place = [](const std::vector<ValueId>& ids, ValueId id) {
    return static_cast<std::size_t>(std::find(ids.begin(), ids.end(), id) - ids.begin());
  };
  std::vector<Tensor> result;
  for (unsigned run = 0; run < 4; ++run) {
    set_input(*program, place(graph.inputs, step.data.at(0)), random_tensor(DType::f32, {9, 6}, run + 1, -2, 2));
    set_input(*program, place(graph.inputs, step.labels.at(0)), random_tensor(DType::f32, {9, 4}, run + 10));
    set_input(*program, place(graph.inputs, step.learning_rate), Tensor::scalar(0.1F));
    program->run();
    result.push_back(program->output(place(graph.outputs, step.loss)).clone());
  }
  for (const std::string& parameter : parameters) result.push_back(store->read(parameter));
  return result;
}

TEST(OneDnnChain, TrainsAsItsNodesDo) {
  for (const DType precision : {DType::f32, DType::bf16, DType::f16}) {
    for (const char* optimizer : {"sgd", "lion", "rmsprop", "lamb"}) {  // the last three are written out
      const std::string what = fmt::format("{} in {}", optimizer, name_of(precision));
      const std::vector<Tensor> wanted = trained(precision, optimizer, false),
                                found = trained(precision, optimizer, true);
      ASSERT_EQ(found.size(), wanted.size());
      for (std::size_t i = 0; i < found.size(); ++i)
        expect_same_bits(found[i], wanted[i], fmt::format("{}, number {}", what, i));
    }
  }
}

}  // namespace
}  // namespace halfstep::testing
