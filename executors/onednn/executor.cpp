#include <fmt/format.h>
#include <fmt/ranges.h>
#include <oneapi/dnnl/dnnl.hpp>

#include "base/cache_folder.h"
#include "executors/onednn/capabilities.h"
#include "executors/onednn/device.h"
#include "executors/onednn/kernel_table.h"
#include "executors/onednn/threads.h"
#include <halfstep/executors/core/backend.h>
#include <halfstep/executors/executor.h>

namespace halfstep {
namespace {

/// What times of kernels depend on beside the kernel: choices hold for the same alone.
std::string machine(const ExecutorOptions& options, const Capabilities& c) {
  return fmt::format("{}; {}; isa {}; {}; f32 math {}; halfstep {}", c.device, fmt::join(c.features, " "),
                     static_cast<unsigned>(dnnl::get_effective_cpu_isa()), name_of(options.tuning),
                     name_of(options.fp32_math), HALFSTEP_VERSION);
}

std::unique_ptr<onednn::Tuner> make_tuner(const ExecutorOptions& options, const Capabilities& c) {
  if (options.tuning == Tuning::off) return nullptr;
  const std::filesystem::path folder = cache_folder();
  return std::make_unique<onednn::Tuner>(options.tuning, machine(options, c),
                                         folder.empty() ? folder : folder / "tuning.json");
}

}  // namespace

std::unique_ptr<Executor> make_onednn_executor(const ExecutorOptions& options) {
  onednn::end_teams_at_fork();
  const int threads = onednn::available_threads(options.threads);
  const Capabilities capabilities = onednn::probe_capabilities(threads);
  return core::make_executor(
      {"onednn", capabilities, onednn::kernel_table(),
       std::make_shared<onednn::CpuDevice>(threads, options.fp32_math, make_tuner(options, capabilities))});
}

}  // namespace halfstep
