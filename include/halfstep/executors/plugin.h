// The plug-in interface: a shared library with an executor, found by its name.
//
// `libhalfstep-NAME.so` is in a folder of HALFSTEP_PLUGIN_PATH or next to the halfstep library, and defines the C
// functions below, which must not throw.
#pragma once

#include <cstddef>
#include <string>
#include <vector>

#include <halfstep/base/api.h>
#include <halfstep/executors/executor.h>
#include <halfstep/ops/op_def.h>

namespace HALFSTEP_API halfstep {

/// The version of the interface: Executor, OpDef, and all types that they use.
inline constexpr int kExecutorAbi = 8;

/// The scores of the library's own executors.
inline constexpr int kReferenceScore = 1, kOnednnScore = 100;

}  // namespace halfstep

extern "C" {

/// The kExecutorAbi that the plug-in was compiled with. Plug-ins of other versions are not used.
HALFSTEP_API int halfstep_abi();

/// Score of the executor on this machine: `--executor auto` selects the best. 0: unsuitable; negative: failure, with
/// the reason as a sentence in `reason`. A plug-in without this function is loaded only by `--plugin`.
HALFSTEP_API int halfstep_score(std::string* reason);

/// The executor, or nullptr with the reason as a sentence in `reason`.
HALFSTEP_API halfstep::Executor* halfstep_executor(const halfstep::ExecutorOptions* options, std::string* reason);

/// Adds the devices among which ExecutorOptions::device chooses. Plug-ins with one device omit this function, and are
/// not loaded for a device that is named.
HALFSTEP_API void halfstep_devices(std::vector<halfstep::DeviceStatus>* devices);

/// An executor for a device that is described in the plug-in's own format and need not be present: its programs have a
/// plan and cannot run. nullptr with the reason as a sentence in `reason` if the description is invalid. Plug-ins
/// without described devices omit this function.
HALFSTEP_API halfstep::Executor* halfstep_described_executor(const char* description,
                                                             const halfstep::ExecutorOptions* options,
                                                             std::string* reason);

/// The first of `count` operator rows that the plug-in adds. They must live until the process ends and belong to a
/// domain of the plug-in. Plug-ins without operators omit this function.
HALFSTEP_API const halfstep::OpDef* halfstep_operators(std::size_t* count);

}  // extern "C"
