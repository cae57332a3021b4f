// The plug-in interface for communicators: a shared library `libhalfstep-mpi.so` or `libhalfstep-nccl.so` that defines
// the C functions below, which must not throw.
#pragma once

#include <string>

#include <halfstep/base/api.h>
#include <halfstep/distributed/communicator.h>
#include <halfstep/distributed/registry.h>

namespace HALFSTEP_API halfstep {

/// The version of the interface: Communicator, and all types that it uses.
inline constexpr int kCommunicatorAbi = 5;

}  // namespace halfstep

extern "C" {

/// The kCommunicatorAbi that the plug-in was compiled with. Plug-ins of other versions are not used.
HALFSTEP_API int halfstep_communicator_abi();

/// The communicator of the launcher's processes, or nullptr with the reason as a sentence in `reason`.
HALFSTEP_API halfstep::Communicator* halfstep_communicator(const halfstep::CommunicatorOptions* options,
                                                           std::string* reason);

}  // extern "C"
