#include "executors/executor.h"

#include "executors/onednn/capabilities.h"
#include "executors/onednn/program.h"
#include "executors/onednn/store.h"
#include "executors/onednn/threads.h"
#include "graph/error.h"

namespace halfstep {
namespace {

class OneDnnExecutor final : public Executor {
 public:
  explicit OneDnnExecutor(const ExecutorOptions& options)
      : threads_(onednn::available_threads(options.threads)), capabilities_(onednn::probe_capabilities(threads_)) {}

  std::string_view name() const override { return "onednn"; }
  const Capabilities& capabilities() const override { return capabilities_; }
  std::unique_ptr<StateStore> make_store() override { return std::make_unique<onednn::Store>(); }
  std::unique_ptr<Program> compile(const Graph& graph, StateStore& store) override {
    auto* own = dynamic_cast<onednn::Store*>(&store);
    if (!own)
      throw_input_error("a store made by the onednn executor", "another executor's", "use Executor::make_store");
    return onednn::compile_program(graph, *own, threads_);
  }

 private:
  int threads_;
  Capabilities capabilities_;
};

}  // namespace

std::unique_ptr<Executor> make_onednn_executor(const ExecutorOptions& options) {
  return std::make_unique<OneDnnExecutor>(options);
}

}  // namespace halfstep
