#include "executors/core/choices.h"
#include "executors/core/program.h"
#include <halfstep/executors/core/backend.h>
#include <halfstep/executors/ranks.h>

namespace halfstep::core {
namespace {

class BackendExecutor final : public RankedExecutor, public KeepsChoices {
 public:
  explicit BackendExecutor(Backend backend) : backend_(std::make_shared<const Backend>(std::move(backend))) {}

  std::string_view name() const override { return backend_->name; }
  const Capabilities& capabilities() const override { return backend_->capabilities; }
  std::unique_ptr<StateStore> make_store() override { return std::make_unique<Store>(backend_->device); }
  std::unique_ptr<Program> compile(const Graph& graph, StateStore& store,
                                   const std::shared_ptr<Communicator>& ranks) override {
    return compile_program(graph, Store::of(store, *backend_->device, backend_->name), backend_, ranks);
  }
  Choices* choices() override {
    auto* device = dynamic_cast<KeepsChoices*>(backend_->device.get());
    return device ? device->choices() : nullptr;
  }

 private:
  std::shared_ptr<const Backend> backend_;
};

}  // namespace

std::unique_ptr<Executor> make_executor(Backend backend) {
  return std::make_unique<BackendExecutor>(std::move(backend));
}

}  // namespace halfstep::core
