// What a plug-in with a communicator is: a shared library `libhalfstep-mpi.so` or `libhalfstep-nccl.so` that defines
// the C functions below. None may throw.
#pragma once

#include <string>

#include <halfstep/base/api.h>
#include <halfstep/distributed/communicator.h>
#include <halfstep/distributed/registry.h>

namespace HALFSTEP_API halfstep {

/// The version of the interface: of Communicator and all it is made of.
inline constexpr int kCommunicatorAbi = 4;

}  // namespace halfstep

extern "C" {

/// kCommunicatorAbi, as the plug-in was compiled with it. One of another version is not used.
HALFSTEP_API int halfstep_communicator_abi();

/// That of all processes of the launcher, or nullptr and in `reason` a sentence why there is none.
HALFSTEP_API halfstep::Communicator* halfstep_communicator(const halfstep::CommunicatorOptions* options,
                                                           std::string* reason);

}  // extern "C"
