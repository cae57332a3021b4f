#include "executors/onednn/capabilities.h"
#include "executors/onednn/device.h"
#include "executors/onednn/kernel_table.h"
#include "executors/onednn/threads.h"
#include <halfstep/executors/core/backend.h>
#include <halfstep/executors/executor.h>

namespace halfstep {

std::unique_ptr<Executor> make_onednn_executor(const ExecutorOptions& options) {
  const int threads = onednn::available_threads(options.threads);
  return core::make_executor({"onednn", onednn::probe_capabilities(threads), onednn::kernel_table(),
                              std::make_shared<onednn::CpuDevice>(threads, options.fp32_math)});
}

}  // namespace halfstep
