// Which GPU is there, and what it can do.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include <cuda_runtime_api.h>

#include <halfstep/executors/executor.h>

namespace halfstep::cudnn {

/// The calls detection makes; tests put their own in place.
struct DetectionApi {
  cudaError_t (*driver_version)(int* version);   ///< 0 when there is no driver; else 1000 * major + 10 * minor
  cudaError_t (*runtime_version)(int* version);  ///< the same for the CUDA runtime halfstep was built with
  cudaError_t (*device_count)(int* count);
  cudaError_t (*device_properties)(cudaDeviceProp* properties, int device);
};
/// The CUDA runtime's own.
DetectionApi runtime_detection_api();

struct Device {
  int id = 0;  ///< CUDA's number
  std::string name;
  std::string uuid = {};
  int major = 0, minor = 0;  ///< compute capability
  std::size_t memory = 0;    ///< bytes
  int multiprocessors = 0;

  int capability() const { return 10 * major + minor; }
  bool has_fp16_tensor_cores() const { return capability() >= 70; }
  bool has_bf16_tensor_cores() const { return capability() >= 80; }
};

/// Why no GPU can be used, as a sentence with what to do about it.
struct NoDevice {
  std::string reason;
};

/// The device that `wanted` names among those CUDA shows, or else the rank's (see choose_gpu). A device is refused when
/// its compute capability (as 10 * major + minor) is below `least_capability`, the lowest the kernels were compiled
/// for.
std::variant<Device, NoDevice> detect(const DetectionApi& api, int least_capability, std::string_view wanted = {},
                                      int local_rank = 0);
/// All that CUDA shows.
std::vector<DeviceStatus> all_devices(const DetectionApi& api, int least_capability);

/// What passes and `halfstep devices` are told. FP16 is taken by `auto` from compute capability 7.0; BF16 runs natively
/// from 8.0, on request.
Capabilities capabilities_of(const Device& device);

}  // namespace halfstep::cudnn
