// The entry point by which the halfstep library finds this executor.
#include <exception>
#include <string>

#include "executors/cudnn/executor.h"
#include "graph/error.h"

extern "C" __attribute__((visibility("default"))) halfstep::Executor* halfstep_executor(
    int abi, const halfstep::ExecutorOptions*, std::string* reason) {
  std::string why;
  std::unique_ptr<halfstep::Executor> executor;
  if (abi != halfstep::kExecutorAbi) {
    why = "The cuDNN plug-in was built for version " + std::to_string(halfstep::kExecutorAbi) +
          " of the executor interface, and this halfstep has version " + std::to_string(abi) + "; build both together.";
  } else {
    try {
      executor = halfstep::cudnn::make_cudnn_executor(halfstep::cudnn::runtime_detection_api(), why);
    } catch (const halfstep::Error& e) {
      why = e.without_hint();
    } catch (const std::exception& e) {  // nothing may be thrown through a C entry point
      why = e.what();
    }
  }
  if (reason) *reason = why;
  return executor.release();
}
