// Where ranks run.
#pragma once

#include <string>
#include <vector>

#include <halfstep/base/api.h>
#include <halfstep/distributed/communicator.h>

namespace HALFSTEP_API halfstep {

struct RankPlace {
  std::string host;
  std::vector<int> cores;  ///< that the process may use, by the system's numbers

  bool operator==(const RankPlace&) const = default;
};

/// Of this machine.
std::string host_name();
/// Of this process.
RankPlace own_place();
/// Of each rank. Collective.
std::vector<RankPlace> places_of(Communicator& ranks);

/// The threads of a rank: as many as are wanted, or for 0 the cores that it may use, over the ranks that may use the
/// same. Null ranks: what is wanted. Collective, also where only some of the ranks want a number.
int share_cores(Communicator* ranks, int wanted);

/// "0-3,8"
std::string cores_text(const std::vector<int>& cores);

}  // namespace halfstep
