#include "executors/cudnn/backend.h"

#include "executors/cudnn/device.h"
#include "executors/cudnn/kernel_table.h"

namespace halfstep::cudnn {

namespace {

// The build tells the lowest compute capability (as 10 * major + minor) the kernels are compiled for.
std::optional<Device> find_device(const DetectionApi& api, std::string& reason) {
  const auto found = detect(api, HALFSTEP_CUDA_LEAST_CAPABILITY);
  if (const auto* none = std::get_if<NoDevice>(&found)) {
    reason = none->reason;
    return std::nullopt;
  }
  return std::get<Device>(found);
}

}  // namespace

bool has_device(const DetectionApi& api, std::string& reason) { return find_device(api, reason).has_value(); }

std::optional<core::Backend> open_backend(const DetectionApi& api, std::string& reason) {
  const std::optional<Device> device = find_device(api, reason);
  if (!device) return std::nullopt;
  return core::Backend{"cudnn", capabilities_of(*device), kernel_table(),
                       std::make_shared<GpuDevice>(open_libraries(device->id, device->capability()))};
}

}  // namespace halfstep::cudnn
