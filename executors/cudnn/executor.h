// The executor for NVIDIA GPUs: cuDNN, cuBLASLt and own kernels. Not yet run on a GPU.
#pragma once

#include <memory>

#include "executors/cudnn/detection.h"
#include "executors/cudnn/resources.h"
#include "executors/executor.h"

namespace halfstep::cudnn {

class CudnnExecutor final : public Executor {
 public:
  /// Opens the libraries on the device; throws Error (failure) naming the call that refused.
  explicit CudnnExecutor(const Device& device);

  std::string_view name() const override { return "cudnn"; }
  const Capabilities& capabilities() const override { return capabilities_; }
  std::unique_ptr<StateStore> make_store() override;
  /// `store` must come from make_store of a cudnn executor. Nodes no device kernel takes run in reference kernels.
  std::unique_ptr<Program> compile(const Graph& graph, StateStore& store) override;

 private:
  Capabilities capabilities_;
  std::shared_ptr<const Libraries> libraries_;
};

/// The executor, or nullptr and in `reason` the sentence why there is none.
std::unique_ptr<Executor> make_cudnn_executor(const DetectionApi& api, std::string& reason);

}  // namespace halfstep::cudnn
