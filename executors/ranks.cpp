#include <string>
#include <utility>

#include <halfstep/base/error.h>
#include <halfstep/executors/ranks.h>

namespace halfstep {
namespace {

class OnRanks final : public Executor {
 public:
  OnRanks(RankedExecutor& executor, std::shared_ptr<Communicator> ranks)
      : executor_(executor), ranks_(std::move(ranks)) {}

  std::string_view name() const override { return executor_.name(); }
  const Capabilities& capabilities() const override { return executor_.capabilities(); }
  std::unique_ptr<StateStore> make_store() override { return executor_.make_store(); }
  std::unique_ptr<Program> compile(const Graph& graph, StateStore& store) override {
    return executor_.compile(graph, store, ranks_);
  }

 private:
  RankedExecutor& executor_;
  std::shared_ptr<Communicator> ranks_;
};

}  // namespace

std::unique_ptr<Executor> on_ranks(Executor& executor, std::shared_ptr<Communicator> ranks) {
  auto* ranked = dynamic_cast<RankedExecutor*>(&executor);
  if (!ranked)
    throw_input_error("an executor whose programs can be part of a group of ranks", std::string(executor.name()),
                      "take another executor");
  return std::make_unique<OnRanks>(*ranked, std::move(ranks));
}

}  // namespace halfstep
