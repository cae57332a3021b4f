// The reference executor with one thing broken: what conformance must find.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include <halfstep/executors/executor.h>

namespace halfstep::testing {

/// What a broken program has at hand when it is to run.
struct BrokenRun {
  Program& program;  ///< of the reference executor
  StateStore& store;
  const Graph& graph;
  int runs;  ///< before this one
};
struct Fault {
  std::function<void(const BrokenRun&)> run = [](const BrokenRun& run) { run.program.run(); };
  std::function<void(const Graph&, StateStore&)> after_compile = [](const Graph&, StateStore&) {};
};

class BrokenProgram final : public Program {
 public:
  BrokenProgram(std::unique_ptr<Program> program, const Graph& graph, StateStore& store, const Fault& fault)
      : program_(std::move(program)), graph_(graph), store_(store), fault_(fault) {}
  Tensor input(std::size_t i) override { return program_->input(i); }
  Tensor output(std::size_t i) override { return program_->output(i); }
  void run() override { fault_.run({*program_, store_, graph_, runs_++}); }
  const Plan& plan() const override { return program_->plan(); }

 private:
  std::unique_ptr<Program> program_;
  Graph graph_;
  StateStore& store_;
  Fault fault_;
  int runs_ = 0;
};

class BrokenExecutor final : public Executor {
 public:
  explicit BrokenExecutor(Fault fault) : reference_(make_reference_executor()), fault_(std::move(fault)) {}
  std::string_view name() const override { return "broken"; }
  const Capabilities& capabilities() const override { return reference_->capabilities(); }
  std::unique_ptr<StateStore> make_store() override { return reference_->make_store(); }
  std::unique_ptr<Program> compile(const Graph& graph, StateStore& store) override {
    auto program = reference_->compile(graph, store);
    fault_.after_compile(graph, store);
    return std::make_unique<BrokenProgram>(std::move(program), graph, store, fault_);
  }

 private:
  std::unique_ptr<Executor> reference_;
  Fault fault_;
};

}  // namespace halfstep::testing
