// Executors with one thing broken each, which the checks that run by default must find.
#include "tests/conformance/broken_executor.h"

#include <cstdlib>
#include <map>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <halfstep/conformance/checks.h>
#include <halfstep/conformance/gtest.h>

namespace halfstep {
namespace {

using testing::BrokenExecutor;
using testing::BrokenRun;
using ::testing::Contains;
using testing::Fault;
using ::testing::IsEmpty;

std::vector<std::string> failures(Executor& executor, const std::vector<CheckSelection>& selections) {
  std::vector<std::string> failed;
  for (const CheckSelection& selection : selections)
    for (const Check& check : list_checks(selection)) {
      const CheckReport report = check.run(executor);
      EXPECT_EQ(describe(report), describe(check.about));
      if (!report.ok()) failed.push_back(describe(report));
    }
  return failed;
}

void states_never_move(const BrokenRun& run) {
  std::map<std::string, Tensor> before;
  for (const State& state : run.graph.states)
    before[run.graph[state.value].name] = run.store.read(run.graph[state.value].name);
  run.program.run();
  for (const auto& [name, value] : before) run.store.write(name, value);
}

void only_the_first_run_runs(const BrokenRun& run) {
  if (run.runs == 0) run.program.run();
}

/// Adds 1 to what an operator gives an output, from element `first` on.
std::function<void(const BrokenRun&)> wrong_from(const char* op, std::int64_t first) {
  return [=](const BrokenRun& run) {
    run.program.run();
    for (std::size_t i = 0; i < run.graph.outputs.size(); ++i) {
      const Node* producer = run.graph.producer(run.graph.outputs[i]);
      if (!producer || !producer->is(op)) continue;
      Tensor y = run.program.output(i);
      if (y.dtype() != DType::f32) continue;
      for (std::int64_t k = first; k < y.count(); ++k) y.data<float>()[k] += 1;
    }
  };
}

void states_begin_anew(const Graph& graph, StateStore& store) {
  for (const State& state : graph.states) store.write(graph[state.value].name, state.initial);
}

struct Broken {
  const char* name;
  Fault fault;
  std::vector<CheckSelection> selections;
  std::vector<std::string> found_by;
};
void PrintTo(const Broken& broken, std::ostream* out) { *out << broken.name; }

const CheckSelection kPrograms{.kind = CheckKind::program}, kTraining{.kind = CheckKind::training};
const CheckSelection kMlp{.case_name = "training/mlp"};

std::vector<Broken> broken_executors() {
  return {
      {"StatesNeverMove",
       {.run = states_never_move},
       {kPrograms, kMlp},
       {"program/states_move, program", "program/shared_store, program", "training/mlp, training in f32",
        "training/mlp, training in f16", "training/mlp, training in bf16"}},
      {"OnlyTheFirstRunRuns",
       {.run = only_the_first_run_runs},
       {kPrograms, kMlp},
       {"program/run_again, program", "program/states_move, program", "training/mlp, training in f32"}},
      {"ReluWrongFromElement64",
       {.run = wrong_from("Relu", 64)},
       {{.op = "Relu"}},
       {"Relu/0/large, execution in f32", "Relu/0/odd, execution in f32"}},
      {"AddWrongAbove30Elements",
       {.run = wrong_from("Add", 30)},
       {{.op = "Add"}},
       {"Add/0/large, execution in f32", "Add/0/odd, execution in f32"}},
      {"CompilingResetsStates",
       {.after_compile = states_begin_anew},
       {kPrograms},
       {"program/recompiled, program", "program/shared_store, program"}},
  };
}

class BrokenExecutors : public ::testing::TestWithParam<Broken> {};

TEST_P(BrokenExecutors, AreFound) {
  BrokenExecutor executor(GetParam().fault);
  const std::vector<std::string> found = failures(executor, GetParam().selections);
  for (const std::string& check : GetParam().found_by) EXPECT_THAT(found, Contains(check));
}

INSTANTIATE_TEST_SUITE_P(, BrokenExecutors, ::testing::ValuesIn(broken_executors()),
                         [](const auto& test) { return std::string(test.param.name); });

TEST(UnbrokenExecutor, Passes) {
  BrokenExecutor executor({});
  EXPECT_THAT(failures(executor, {kPrograms, kTraining, {.op = "Relu"}, {.op = "Add"}}), IsEmpty());
}

TEST(CrashingExecutor, NamesTheCheckItDiedIn) {
  BrokenExecutor aborts({.run = [](const BrokenRun&) { std::abort(); }}),
      exits({.run = [](const BrokenRun&) { std::exit(3); }});
  EXPECT_DEATH(expect_conformance(aborts, "program"), "SIGABRT .abort. in program/run_again, program");
  EXPECT_DEATH(expect_conformance(exits, "Relu"), "exit in Relu/0, execution in f32");
  BrokenExecutor overflows({.run = [](const BrokenRun& run) {
    std::function<int(int)> deeper = [&](int depth) {
      volatile char frame[4096] = {};
      return depth < run.runs - 1 ? 0 : deeper(depth + 1) + frame[depth % 4096];
    };
    deeper(0);
  }});
  EXPECT_DEATH(expect_conformance(overflows, "program"), "SIGSEGV .* in program/run_again");
}

TEST(CrashNote, EndsWhatTakesTooLong) {
  EXPECT_EXIT(
      {
        CrashNote note;
        note.begin("a check", 1);
        for (;;) pause();
      },
      ::testing::KilledBySignal(SIGALRM), "out of time. in a check");
}

}  // namespace
}  // namespace halfstep
