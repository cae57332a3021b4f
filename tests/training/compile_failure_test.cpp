// Training again after a program of it could not be compiled, as where a device had too little memory left.
#include <memory>
#include <string_view>

#include <gtest/gtest.h>

#include "tests/training/small_rows.h"
#include <halfstep/base/error.h>
#include <halfstep/executors/executor.h>

namespace halfstep {
namespace {

/// The reference, which refuses graphs of two rows as long as it is told to.
class Refusing final : public Executor {
 public:
  std::string_view name() const override { return "refusing"; }
  const Capabilities& capabilities() const override { return own_->capabilities(); }
  std::unique_ptr<StateStore> make_store() override { return own_->make_store(); }
  std::unique_ptr<Program> compile(const Graph& graph, StateStore& store) override {
    if (refuses && graph[graph.inputs.at(0)].shape[0] == 2) throw_failure("memory for two rows", "none", "");
    return own_->compile(graph, store);
  }

  bool refuses = true;

 private:
  std::unique_ptr<Executor> own_ = make_reference_executor();
};

TEST(CompileFailure, TheTrainerCanBeUsedAgain) {
  Refusing executor;
  Trainer trainer(small_model(), executor, small_rows(), small_options());
  EXPECT_THROW(losses_of(trainer), Error) << "the last batch of an epoch has two rows";
  EXPECT_THROW(losses_of(trainer), Error);
  executor.refuses = false;
  EXPECT_EQ(losses_of(trainer).size(), 9U);
}

}  // namespace
}  // namespace halfstep
