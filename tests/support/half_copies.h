// Executors that keep half copies of parameters, or do not.
#pragma once

#include <memory>
#include <utility>

#include <halfstep/executors/ranks.h>

namespace halfstep::test {

/// Another executor, apart from Capabilities::half_copies.
class HalfCopiesExecutor final : public RankedExecutor {
 public:
  HalfCopiesExecutor(std::unique_ptr<Executor> executor, bool half_copies)
      : executor_(std::move(executor)), capabilities_(executor_->capabilities()) {
    capabilities_.half_copies = half_copies;
  }

  std::string_view name() const override { return executor_->name(); }
  const Capabilities& capabilities() const override { return capabilities_; }
  std::unique_ptr<StateStore> make_store() override { return executor_->make_store(); }
  std::unique_ptr<Program> compile(const Graph& graph, StateStore& store,
                                   const std::shared_ptr<Communicator>& ranks) override {
    return dynamic_cast<RankedExecutor&>(*executor_).compile(graph, store, ranks);
  }

 private:
  std::unique_ptr<Executor> executor_;
  Capabilities capabilities_;
};

}  // namespace halfstep::test
