// How the ranks of a launcher find each other before there is a communicator: rank 0 gives all others a few bytes.
#pragma once

#include <chrono>
#include <cstddef>
#include <functional>
#include <span>
#include <string>

#include "distributed/nccl/line.h"
#include <halfstep/distributed/launcher.h>

namespace halfstep::nccl {

/// Where rank 0 waits for the others.
struct MeetingPlace {
  std::string host = {};    ///< empty: a socket of this machine alone, of that name, for processes of one user
  std::string service;      ///< a TCP port, or that name
  std::string secret = {};  ///< what ranks of other jobs do not know; it is sent as it is
};

/// By MASTER_ADDR and MASTER_PORT, where torchrun and others say it: the port behind MASTER_PORT, at which torchrun
/// itself listens. Without these, ranks on one machine meet at a name made of their parent process, the launcher.
/// The secret is HALFSTEP_SECRET, or what the launcher has told all ranks of the job; empty where there is none.
/// Throws Error(input) where ranks on several machines have neither. `variable` gives an environment variable, or
/// nullptr.
MeetingPlace meeting_place(const Launch& launch, const std::function<const char*(const char* name)>& variable);

/// `bytes` of rank 0 become those of all ranks. Collective. Whoever else connects, says nothing, or something else, is
/// turned away and holds nobody up. Throws SharedError(failure) where not all ranks come within the limit. The
/// connections are kept, unless there are very many.
Line broadcast_from_first(const MeetingPlace& place, int rank, int size, std::span<std::byte> bytes,
                          std::chrono::milliseconds limit);

}  // namespace halfstep::nccl
