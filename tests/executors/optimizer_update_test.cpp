// Every optimizer of the table on every executor here, by the executor's own kernel and written out as plain nodes:
// against PyTorch's numbers, bit for bit nothing where an update is skipped, and by the conformance checks.
#include <cmath>
#include <cstring>
#include <limits>
#include <map>
#include <string>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "conformance/executor_check.h"
#include "conformance/special_check.h"
#include "tests/executors/onednn_testing.h"
#include <halfstep/base/error.h>
#include <halfstep/ops/optimizers/optimizer_def.h>
#include <halfstep/passes/passes.h>

namespace halfstep::testing {
namespace {

using ::testing::IsEmpty;
using Numbers = std::vector<double>;

/// An executor without a kernel for any optimizer.
class Plain final : public Executor {
 public:
  explicit Plain(std::unique_ptr<Executor> executor) : executor_(std::move(executor)) {}
  std::string_view name() const override { return "plain"; }
  const Capabilities& capabilities() const override { return executor_->capabilities(); }
  std::unique_ptr<StateStore> make_store() override { return executor_->make_store(); }
  std::unique_ptr<Program> compile(const Graph& graph, StateStore& store) override {
    return executor_->compile(run_pipeline(graph, {write_out_update({})}), store);
  }

 private:
  std::unique_ptr<Executor> executor_;
};

struct Device {
  const char* name;
  std::unique_ptr<Executor> (*make)();
};
const Device kDevices[] = {
    {"reference", [] { return make_reference_executor(); }},
    {"onednn", [] { return make_onednn_executor(); }},
    {"reference_plain",
     []() -> std::unique_ptr<Executor> { return std::make_unique<Plain>(make_reference_executor()); }},
    {"onednn_plain", []() -> std::unique_ptr<Executor> { return std::make_unique<Plain>(make_onednn_executor()); }},
};

// A matrix and a vector, and three gradients of each.
const std::vector<float> kMatrix = {1, -2, 0.5F, 0.25F, 0, -0.75F}, kVector = {0.5F, -1.5F, 2};
const std::vector<float> kMatrixGradient = {0.5F, -0.25F, 0.125F, -1, 0.75F, 0}, kVectorGradient = {0.1F, -0.2F, 0.4F};
const double kMatrixFactors[] = {1, -0.5, 2}, kVectorFactors[] = {1, 3, -1};

Tensor tensor(const std::vector<float>& values, const Shape& shape, double factor = 1) {
  Tensor result(DType::f32, shape);
  for (std::size_t i = 0; i < values.size(); ++i) result.span<float>()[i] = static_cast<float>(values[i] * factor);
  return result;
}

/// An update whose gradients are inputs: gradients of both parameters, then the learning rate.
Graph update_graph(const OptimizerOptions& options) {
  Graph graph;
  graph.opsets = {{"", kOnnxOpset}, {"ai.halfstep", kOwnOpset}};
  for (const auto& [name, value] : {std::pair{"w", tensor(kMatrix, {2, 3})}, std::pair{"b", tensor(kVector, {3})}}) {
    graph.add_state(name, value, StateRole::parameter);
    graph.states.back().gradient = graph.add_input(std::string("d") + name, DType::f32, value.shape());
  }
  return run_pipeline(std::move(graph), {attach_optimizer(options), fold_constants(), eliminate_common_subexpressions(),
                                         remove_dead_nodes()});
}

/// The parameters' elements after the three gradients.
Numbers after_three_updates(const Device& device, const OptimizerOptions& options, float lr) {
  Compiled compiled(device.make(), update_graph(options));
  for (std::size_t t = 0; t < 3; ++t) {
    set_input(*compiled.program, 0, tensor(kMatrixGradient, {2, 3}, kMatrixFactors[t]));
    set_input(*compiled.program, 1, tensor(kVectorGradient, {3}, kVectorFactors[t]));
    set_input(*compiled.program, 2, Tensor::scalar(lr));
    compiled.program->run();
  }
  Numbers result = to_doubles(compiled.store->read("w"));
  const Numbers vector = to_doubles(compiled.store->read("b"));
  result.insert(result.end(), vector.begin(), vector.end());
  return result;
}

struct Known {
  const char* name;
  std::map<std::string, double, std::less<>> numbers;
  float lr;
  Numbers parameters;
};
// torch.optim of PyTorch 2.15 on the same numbers; Lion by its authors' lion_pytorch.py.
const Known kKnown[] = {
    {"sgd",
     {{"momentum", 0.9}, {"nesterov", 1}, {"weight_decay", 0.1}},
     0.1F,
     {0.63090611, -1.696794, 0.38795003, 0.81019908, -0.43498167, -0.69067043, 0.36586294, -1.1921728, 1.4634517}},
    {"adam",
     {{"weight_decay", 0.1}},
     0.1F,
     {0.78150445, -1.736897, 0.26553991, 0.43724728, -0.19094941, -0.45245671, 0.24435401, -1.2356281, 1.7417258}},
    {"adamw",
     {{"weight_decay", 0.1}},
     0.1F,
     {0.78011054, -1.7504095, 0.29496101, 0.43276328, -0.19018853, -0.72772425, 0.24790998, -1.218209, 1.7033584}},
    {"lion",
     {{"weight_decay", 0.1}},
     0.1F,
     {0.87128901, -1.841588, 0.38613951, 0.34158474, -0.099009998, -0.72772425, 0.38813952, -1.3584385, 1.843588}},
    {"rmsprop",
     {},
     0.1F,
     {-0.42572621, -0.57427394, -0.92572558, 1.6757264, -1.4257263, -0.75, -1.1461279, 0.14612871, 0.35387117}},
    {"rmsprop",
     {{"alpha", 0.9}, {"epsilon", 1e-3}, {"weight_decay", 0.1}, {"momentum", 0.9}, {"centered", 1}},
     0.1F,
     {-0.0095231123, -0.74745625, -0.50874579, 1.1337252, -0.89405692, 0.43176356, -0.85089934, -0.07200975,
      0.56401998}},
    {"adagrad",
     {},
     0.1F,
     {0.85743415, -1.8574342, 0.35743421, 0.39256579, -0.1425658, -0.75, 0.33528277, -1.3352828, 1.8352828}},
    {"adagrad",
     {{"lr_decay", 0.5}, {"weight_decay", 0.1}, {"initial_accumulator", 0.25}, {"epsilon", 1e-3}},
     0.1F,
     {0.89606977, -1.8907343, 0.44461343, 0.35221869, -0.098844096, -0.71860361, 0.43894884, -1.3944033, 1.8717921}},
    {"adafactor",
     {},
     0.1F,
     {0.89971668, -1.929089, 0.27575967, 0.3419112, -0.097486541, -0.75, 0.2824932, -1.2824932, 1.7824932}},
    {"adafactor",
     {{"beta2_decay", -0.5}, {"epsilon1", 1e-2}, {"epsilon2", 0.5}, {"clip_threshold", 1.5}, {"weight_decay", 0.1}},
     0.9F,
     {-0.03931405, -0.94648772, -1.3961596, 0.915084, -0.77077246, -0.56517828, -0.91018963, 0.15661861, 0.22016695}},
    {"adamax",
     {},
     0.1F,
     {0.83538386, -1.8353839, 0.33538387, 0.41461614, -0.16461614, -0.75, 0.30067475, -1.3006747, 1.8006747}},
    {"adamax",
     {{"beta1", 0.8}, {"beta2", 0.9}, {"epsilon", 1e-3}, {"weight_decay", 0.1}},
     0.1F,
     {0.81670562, -1.7807879, 0.30506397, 0.41044551, -0.16322962, -0.4464417, 0.28558515, -1.2778219, 1.7836242}},
    {"nadam",
     {},
     0.1F,
     {0.83565558, -1.8356556, 0.33565559, 0.41434442, -0.16434442, -0.75, 0.31865849, -1.3186585, 1.8186585}},
    {"nadam",
     {{"beta1", 0.8}, {"beta2", 0.9}, {"epsilon", 1e-3}, {"momentum_decay", 0.5}, {"weight_decay", 0.1}},
     0.1F,
     {0.8028808, -1.7571984, 0.28932779, 0.41933604, -0.17236675, -0.48743882, 0.29426075, -1.2815328, 1.7876217}},
};

class OptimizerUpdate : public ::testing::TestWithParam<Device> {};
INSTANTIATE_TEST_SUITE_P(Devices, OptimizerUpdate, ::testing::ValuesIn(kDevices),
                         [](const auto& test) { return test.param.name; });

TEST_P(OptimizerUpdate, FollowsPyTorch) {
  for (const Known& known : kKnown) {
    const Numbers found = after_three_updates(GetParam(), {.name = known.name, .numbers = known.numbers}, known.lr);
    for (std::size_t i = 0; i < found.size(); ++i)
      EXPECT_NEAR(found[i], known.parameters[i], 2e-6) << known.name << " with " << known.numbers.size() << ", " << i;
  }
}

/// Algorithm 2 of You et al. 2019, in f64.
void lamb_update(Numbers& x, Numbers& m, Numbers& v, const Numbers& g, int t, double lr, double decay) {
  Numbers r(x.size());
  double x_norm = 0, r_norm = 0;
  for (std::size_t i = 0; i < x.size(); ++i) {
    m[i] = 0.9 * m[i] + 0.1 * g[i];
    v[i] = 0.999 * v[i] + 0.001 * g[i] * g[i];
    r[i] = m[i] / (1 - std::pow(0.9, t)) / (std::sqrt(v[i] / (1 - std::pow(0.999, t))) + 1e-6) + decay * x[i];
    x_norm += x[i] * x[i];
    r_norm += r[i] * r[i];
  }
  for (std::size_t i = 0; i < x.size(); ++i) x[i] -= lr * std::sqrt(x_norm / r_norm) * r[i];
}

TEST_P(OptimizerUpdate, LambIsThePapersFormula) {
  for (const double decay : {0.01, 0.5}) {
    Numbers expected;
    for (const auto& [start, gradient, factors] :
         {std::tuple{kMatrix, kMatrixGradient, kMatrixFactors}, std::tuple{kVector, kVectorGradient, kVectorFactors}}) {
      Numbers x(start.begin(), start.end()), m(x.size()), v(x.size());
      for (int t = 1; t <= 3; ++t) {
        Numbers g(gradient.begin(), gradient.end());
        for (double& element : g) element *= factors[t - 1];
        lamb_update(x, m, v, g, t, 0.1, decay);
      }
      expected.insert(expected.end(), x.begin(), x.end());
    }
    const Numbers found = after_three_updates(GetParam(), {.name = "lamb", .numbers = {{"weight_decay", decay}}}, 0.1F);
    for (std::size_t i = 0; i < found.size(); ++i) EXPECT_NEAR(found[i], expected[i], 2e-6) << decay << ", " << i;
  }
}

TEST_P(OptimizerUpdate, LambTrustsAParameterOfZerosAndAnUpdateOfZerosAsTheyAre) {
  Compiled compiled(GetParam().make(), update_graph({.name = "lamb", .numbers = {{"weight_decay", 0}}}));
  compiled.store->write("b", Tensor(DType::f32, Shape{3}));
  set_input(*compiled.program, 0, Tensor(DType::f32, Shape{2, 3}));
  set_input(*compiled.program, 1, tensor(kVectorGradient, {3}));
  set_input(*compiled.program, 2, Tensor::scalar(0.5F));
  compiled.program->run();
  EXPECT_TRUE(identical(compiled.store->read("w"), tensor(kMatrix, {2, 3})));
  const Numbers found = to_doubles(compiled.store->read("b"));
  for (std::size_t i = 0; i < found.size(); ++i) EXPECT_NEAR(found[i], i == 1 ? 0.5 : -0.5, 1e-5);
}

/// Every hyperparameter that adds states is on.
OptimizerOptions with_all_states(const OptimizerDef& row) {
  OptimizerOptions options{.name = std::string(row.name)};
  if (row.find("momentum")) options.numbers["momentum"] = 0.9;
  if (row.find("centered")) options.numbers["centered"] = 1;
  return options;
}

TEST_P(OptimizerUpdate, ASkippedOneLeavesEveryBit) {
  const float odd[] = {-0.0F, std::numeric_limits<float>::quiet_NaN(), std::numeric_limits<float>::denorm_min(),
                       std::numeric_limits<float>::infinity()};
  for (const OptimizerDef& row : optimizers()) {
    const Graph graph = update_graph(with_all_states(row));
    Compiled compiled(GetParam().make(), graph);
    std::map<std::string, Tensor> before;
    for (const State& state : graph.states) {
      Tensor value = state.initial.clone();
      if (value.dtype() == DType::f32)
        for (std::size_t i = 0; i < value.span<float>().size(); ++i) value.span<float>()[i] = odd[i % 4];
      before[graph[state.value].name] = value;
      compiled.store->write(graph[state.value].name, value);
    }
    set_input(*compiled.program, 0, tensor(kMatrixGradient, {2, 3}, std::numeric_limits<double>::infinity()));
    set_input(*compiled.program, 1, tensor(kVectorGradient, {3}));
    set_input(*compiled.program, 2, Tensor::scalar(0.1F));
    compiled.program->run();
    for (const auto& [name, value] : before)
      EXPECT_TRUE(identical(compiled.store->read(name), value)) << row.name << ' ' << name;
  }
}

TEST_P(OptimizerUpdate, IsConformant) {
  const std::unique_ptr<Executor> executor = GetParam().make();
  for (const OptimizerDef& row : optimizers()) {
    const OpDef& op = *find_op(row.op, kOwnDomain);
    EXPECT_FALSE(op.cases.empty()) << row.name;
    for (std::size_t i = 0; i < op.cases.size(); ++i) {
      EXPECT_THAT(check_execution(op, i, DType::f32, *executor).message, IsEmpty()) << op.cases[i].text;
      EXPECT_THAT(check_special(op, i, DType::f32, *executor).message, IsEmpty()) << op.cases[i].text;
    }
  }
}

TEST(WrittenOutUpdate, IsOfStandardOperatorsThatTheExecutorHasKernelsFor) {
  for (const OptimizerDef& row : optimizers()) {
    const Graph graph = run_pipeline(update_graph(with_all_states(row)), {write_out_update({})});
    for (const Node& node : graph.nodes) EXPECT_NE(optimizer_of(node), &row) << node.op;
    Compiled compiled(make_onednn_executor(), graph);
    for (const PlanEntry& entry : compiled.program->plan().entries)
      EXPECT_NE(entry.kernel, "reference") << row.name << ' ' << entry.op << ": " << entry.reason;
  }
}

TEST(WrittenOutUpdate, LeavesNoSubnormalStates) {
  Compiled compiled(std::make_unique<Plain>(make_onednn_executor()), update_graph({.name = "lion"}));
  compiled.store->write("lion.m.b", Tensor::of<float>({1.5e-38F, -1e-40F, 1}));
  for (std::size_t i : {0, 1}) set_input(*compiled.program, i, tensor({}, i == 0 ? Shape{2, 3} : Shape{3}));
  for (int step = 0; step < 60; ++step) compiled.program->run();
  const std::vector<double> moment = to_doubles(compiled.store->read("lion.m.b"));
  EXPECT_EQ(moment[0], 0);
  EXPECT_EQ(moment[1], 0);
  EXPECT_NEAR(moment[2], std::pow(0.99, 60), 1e-6);
}

}  // namespace
}  // namespace halfstep::testing
