// What the program that started this process says about it: mpirun, srun, torchrun.
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
  bool starts_mpi = true;              ///< processes that it starts can find each other by MPI
};

/// Nothing where the process was not started by one. `variable` gives an environment variable, or nullptr; unset: the
/// process's own.
std::optional<Launch> find_launch(const std::function<const char*(const char* name)>& variable = {});

}  // namespace halfstep
