// The executor for NVIDIA GPUs: cuDNN, cuBLASLt and own kernels. Not yet run on a GPU.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "executors/cudnn/detection.h"
#include "executors/cudnn/resources.h"
#include <halfstep/executors/core/backend.h>

namespace halfstep::cudnn {

/// Whether there is a GPU that halfstep was built for; if not, `reason` receives the sentence why.
bool has_device(const DetectionApi& api, std::string& reason);
std::vector<DeviceStatus> devices(const DetectionApi& api);
/// Opens the libraries on the device of the options; nothing, and in `reason` the sentence why, when there is none.
/// Throws Error (failure) naming the call that refused, and (input) where the device has not what the options ask for.
std::optional<core::Backend> open_backend(const DetectionApi& api, const ExecutorOptions& options, std::string& reason);

/// What the options say about the kernels. Throws Error (input) where the device has not what they ask for.
Arithmetic arithmetic_of(const ExecutorOptions& options, const Device& device);

}  // namespace halfstep::cudnn
