// An executor for a device that is not there: which kernels it would take, and how cuDNN would compute its graphs.
#pragma once

#include <string>

#include <halfstep/executors/core/backend.h>

namespace halfstep::cudnn {

/// Of a device that is described by the JSON in which cuDNN writes the properties of one (deviceName, deviceVer,
/// multiProcessorCount, ...). Programs are compiled and have their plan; running one throws Error (failure).
/// Throws Error (input) for a text that describes no device, or one that the kernels or the options are not for.
core::Backend described_backend(const std::string& json, const ExecutorOptions& options);

}  // namespace halfstep::cudnn
