// The reference executor as a device that computes bf16 itself: what `auto` takes there, whatever CPU tests run on.
#pragma once

#include <memory>
#include <string_view>

#include "executors/executor.h"

namespace halfstep {

class Bf16Executor final : public Executor {
 public:
  Bf16Executor() : reference_(make_reference_executor()), capabilities_(reference_->capabilities()) {
    capabilities_.auto_precision = DType::bf16;
    capabilities_.auto_reason = "a test says so";
  }
  std::string_view name() const override { return "bf16"; }
  const Capabilities& capabilities() const override { return capabilities_; }
  std::unique_ptr<StateStore> make_store() override { return reference_->make_store(); }
  std::unique_ptr<Program> compile(const Graph& graph, StateStore& store) override {
    return reference_->compile(graph, store);
  }

 private:
  std::unique_ptr<Executor> reference_;
  Capabilities capabilities_;
};

}  // namespace halfstep
