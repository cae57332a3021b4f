// Holds the oneDNN executor against the reference executor.
#pragma once

#include <algorithm>
#include <cmath>
#include <map>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include <halfstep/executors/executor.h>
#include <halfstep/graph/graph.h>
#include <halfstep/ops/builder.h>

namespace halfstep::testing {

/// Uniform numbers in [low, high), the same for the same seed.
inline Tensor random_tensor(DType dtype, const Shape& shape, unsigned seed, double low = -1, double high = 1) {
  std::mt19937 generator(seed);
  std::uniform_real_distribution<float> uniform(static_cast<float>(low), static_cast<float>(high));
  Tensor t(DType::f32, shape);
  for (float& x : t.span<float>()) x = uniform(generator);
  return convert(t, dtype);
}

inline double epsilon_of(DType dtype) {
  switch (dtype) {
    case DType::f16:
      return 0x1p-10;
    case DType::bf16:
      return 0x1p-7;
    default:
      return 1e-5;
  }
}

/// Every element within `tolerance` of the largest magnitude; equal where it is an integer or bool.
inline void expect_close(const Tensor& found, const Tensor& wanted, double tolerance, const std::string& what) {
  ASSERT_EQ(found.dtype(), wanted.dtype()) << what;
  ASSERT_EQ(found.shape(), wanted.shape()) << what;
  const std::vector<double> a = to_doubles(found), b = to_doubles(wanted);
  double largest = 0;
  for (double x : b)
    if (std::isfinite(x)) largest = std::max(largest, std::fabs(x));
  const double allowed = is_float(found.dtype()) ? tolerance * largest : 0;
  for (std::size_t i = 0; i < a.size(); ++i) {
    if (a[i] == b[i] || (std::isnan(a[i]) && std::isnan(b[i]))) continue;
    ASSERT_LE(std::fabs(a[i] - b[i]), allowed) << what << ", element " << i << ": " << a[i] << " instead of " << b[i];
  }
}

/// A graph compiled by one executor, with states of its own.
struct Compiled {
  std::unique_ptr<Executor> executor;
  std::unique_ptr<StateStore> store;
  std::unique_ptr<Program> program;

  Compiled(std::unique_ptr<Executor> e, const Graph& graph)
      : executor(std::move(e)), store(executor->make_store()), program(executor->compile(graph, *store)) {}
};

inline void set_input(Program& program, std::size_t i, const Tensor& value) {
  Tensor target = program.input(i);
  ASSERT_EQ(target.dtype(), value.dtype());
  ASSERT_EQ(target.shape(), value.shape());
  std::copy_n(static_cast<const char*>(value.raw()), value.bytes(), static_cast<char*>(target.raw()));
}

/// Fills float inputs at random and runs both executors `runs` times; outputs and states must agree after each.
inline void expect_like_reference(const Graph& graph, double tolerance, int runs = 1, double low = -1, double high = 1,
                                  const ExecutorOptions& options = {}) {
  verify(graph);
  Compiled reference(make_reference_executor(), graph), onednn(make_onednn_executor(options), graph);
  for (int run = 0; run < runs; ++run) {
    for (std::size_t i = 0; i < graph.inputs.size(); ++i) {
      const Value& in = graph[graph.inputs[i]];
      const Tensor value = random_tensor(in.dtype, in.shape, static_cast<unsigned>(17 * i + 1 + 1000 * run),
                                         is_float(in.dtype) ? low : 0, is_float(in.dtype) ? high : 10);
      set_input(*reference.program, i, value);
      set_input(*onednn.program, i, value);
    }
    reference.program->run();
    onednn.program->run();
    for (std::size_t i = 0; i < graph.outputs.size(); ++i)
      expect_close(onednn.program->output(i), reference.program->output(i), tolerance, graph[graph.outputs[i]].name);
    for (const State& state : graph.states) {
      const std::string& name = graph[state.value].name;
      expect_close(onednn.store->read(name), reference.store->read(name), tolerance, name);
    }
    if (::testing::Test::HasFatalFailure()) return;
  }
}

/// The plan's entry for the first node of this operator.
inline PlanEntry plan_entry(const Program& program, const std::string& op) {
  for (const PlanEntry& entry : program.plan().entries)
    if (entry.op == op) return entry;
  ADD_FAILURE() << "no entry for " << op;
  return {};
}
inline std::size_t count_steps(const Program& program, const std::string& op) {
  const auto& entries = program.plan().entries;
  return static_cast<std::size_t>(
      std::count_if(entries.begin(), entries.end(), [&](const PlanEntry& e) { return e.op == op; }));
}

/// A graph under construction with the opsets set.
struct TestGraph {
  Graph graph;
  Builder b{graph};

  TestGraph() { graph.opsets = {{"", 28}, {"ai.halfstep", 1}}; }
  Expr input(DType dtype, const Shape& shape) { return b.expr(graph.add_input("x", dtype, shape)); }
  Expr state(const std::string& name, const Shape& shape, unsigned seed = 7, double low = -1, double high = 1) {
    return b.expr(graph.add_state(name, random_tensor(DType::f32, shape, seed, low, high), StateRole::parameter));
  }
  void output(Expr e) { graph.outputs.push_back(e.id()); }
  void update(Expr state, Expr next) {
    graph.states[static_cast<std::size_t>(graph.state_of(state.id()))].next = next.id();
  }
};

}  // namespace halfstep::testing
