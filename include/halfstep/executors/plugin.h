// What a plug-in is: a shared library with an executor, found by its name.
//
// `libhalfstep-NAME.so` lies in a folder of HALFSTEP_PLUGIN_PATH or beside the halfstep library, and defines the C
// functions below. None may throw.
#pragma once

#include <cstddef>
#include <string>

#include <halfstep/base/api.h>
#include <halfstep/executors/executor.h>
#include <halfstep/ops/op_def.h>

namespace HALFSTEP_API halfstep {

/// The version of the interface: of Executor, OpDef, and all they are made of.
inline constexpr int kExecutorAbi = 5;

/// The scores of the library's own executors.
inline constexpr int kReferenceScore = 1, kOnednnScore = 100;

}  // namespace halfstep

extern "C" {

/// kExecutorAbi, as the plug-in was compiled with it. One of another version is not used.
HALFSTEP_API int halfstep_abi();

/// How well the executor suits this machine: `--executor auto` takes the best score. 0: not at all, below 0: it failed,
/// and in `reason` a sentence why. A plug-in without this function is loaded by `--plugin` alone.
HALFSTEP_API int halfstep_score(std::string* reason);

/// The executor, or nullptr and in `reason` a sentence why there is none.
HALFSTEP_API halfstep::Executor* halfstep_executor(const halfstep::ExecutorOptions* options, std::string* reason);

/// The first of `count` rows of operators that the plug-in brings. They last as long as the process, and are of a
/// domain of the plug-in's own. One that brings none leaves this function out.
HALFSTEP_API const halfstep::OpDef* halfstep_operators(std::size_t* count);

}  // extern "C"
