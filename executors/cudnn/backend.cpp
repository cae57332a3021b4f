#include "executors/cudnn/backend.h"

#include <algorithm>
#include <string_view>
#include <utility>

#include <cudnn.h>
#include <fmt/format.h>

#include "distributed/local_gpu.h"
#include "executors/cudnn/device.h"
#include "executors/cudnn/kernel_table.h"
#include <halfstep/base/error.h>
#include <halfstep/distributed/launcher.h>

namespace halfstep::cudnn {

namespace {

// The build tells the lowest compute capability (as 10 * major + minor) the kernels are compiled for.
std::optional<Device> find_device(const DetectionApi& api, std::string_view wanted, std::string& reason) {
  const std::optional<halfstep::Launch> launch = find_launch();
  const auto found = detect(api, HALFSTEP_CUDA_LEAST_CAPABILITY, wanted, launch ? launch->local_rank : 0);
  if (const auto* none = std::get_if<NoDevice>(&found)) {
    reason = none->reason;
    return std::nullopt;
  }
  return std::get<Device>(found);
}

/// The library that was found may be older than the one of the build: another package's, as PyTorch's.
bool has_cudnn(std::string& reason) {
  constexpr std::size_t kLeast = 90800;
  const std::size_t found = cudnnGetVersion();
  if (found >= kLeast) return true;
  reason = fmt::format(
      "cuDNN {}.{} was found, and halfstep needs 9.8 or a newer 9; put the folder of such a one first "
      "into LD_LIBRARY_PATH.",
      found / 10000, found % 10000 / 100);
  return false;
}

}  // namespace

bool has_device(const DetectionApi& api, std::string& reason) {
  // Of several GPUs one may be named that can be used.
  const std::vector<DeviceStatus> all = devices(api);
  const bool has_one = std::ranges::any_of(all, [](const DeviceStatus& each) { return each.reason.empty(); });
  return (has_one || find_device(api, {}, reason)) && has_cudnn(reason);
}

std::vector<DeviceStatus> devices(const DetectionApi& api) { return all_devices(api, HALFSTEP_CUDA_LEAST_CAPABILITY); }

Arithmetic arithmetic_of(const ExecutorOptions& options, const Device& device) {
  constexpr int kLeastForTf32 = 80;
  const bool tf32 = options.fp32_math == Fp32Math::tf32;
  if (tf32 && device.capability() < kLeastForTf32)
    throw_input_error("a GPU of compute capability 8.0 or newer for tf32",
                      fmt::format("{}, which has {}.{}", device.name, device.major, device.minor),
                      "leave f32 math strict");
  return {.tf32 = tf32, .deterministic = options.deterministic};
}

std::optional<core::Backend> open_backend(const DetectionApi& api, const ExecutorOptions& options,
                                          std::string& reason) {
  const std::optional<Device> device = find_device(api, options.device, reason);
  if (!device || !has_cudnn(reason)) return std::nullopt;
  const Arithmetic arithmetic = arithmetic_of(options, *device);
  Libraries libraries = open_libraries(device->id, device->capability());
  libraries.arithmetic = arithmetic;
  Capabilities capabilities = capabilities_of(*device);
  capabilities.device += fmt::format(" ({})", gpu_id(static_cast<std::size_t>(device->id)));
  return core::Backend{"cudnn", std::move(capabilities), kernel_table(),
                       std::make_shared<GpuDevice>(std::move(libraries))};
}

}  // namespace halfstep::cudnn
