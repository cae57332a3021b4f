// The process's rank, as given by the launcher that started it: mpirun, srun, torchrun.
#pragma once

#include <functional>
#include <optional>
#include <string>

#include <halfstep/base/api.h>

namespace HALFSTEP_API halfstep {

struct Launch {
  std::string launcher;  ///< "mpirun (Open MPI)"
  int rank = 0, size = 1;
  int local_rank = 0, local_size = 1;  ///< among those on this machine
  bool starts_mpi = true;              ///< its processes can communicate by MPI
};

/// Nothing if no launcher started the process. `variable` returns an environment variable, or nullptr; unset: those of
/// the process.
std::optional<Launch> find_launch(const std::function<const char*(const char* name)>& variable = {});

}  // namespace halfstep
