#include <charconv>
#include <cstdlib>
#include <string_view>

#include <halfstep/distributed/launcher.h>

namespace halfstep {
namespace {

/// The variables by which a launcher tells a process of its place.
struct Variables {
  const char *launcher, *rank, *size, *local_rank, *local_size;
  bool starts_mpi = true;
};

// srun has no variable of its own for the number of tasks on this machine that is one number. SLURM_PROCID alone is set
// in a batch script, too, which is one process.
constexpr Variables kLaunchers[] = {
    {"mpirun (Open MPI)", "OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE", "OMPI_COMM_WORLD_LOCAL_RANK",
     "OMPI_COMM_WORLD_LOCAL_SIZE"},
    {"mpirun (MPICH)", "PMI_RANK", "PMI_SIZE", "MPI_LOCALRANKID", "MPI_LOCALNRANKS"},
    {"srun", "SLURM_PROCID", "SLURM_STEP_NUM_TASKS", "SLURM_LOCALID", "SLURM_NTASKS_PER_NODE"},
    {"torchrun", "RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE", false},
};

std::optional<int> number(const char* text) {
  if (!text) return std::nullopt;
  const std::string_view digits(text);
  int value = 0;
  const auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), value);
  if (error != std::errc() || end != digits.data() + digits.size() || value < 0) return std::nullopt;
  return value;
}

}  // namespace

std::optional<Launch> find_launch(const std::function<const char*(const char* name)>& variable) {
  const auto get = [&](const char* name) { return number(variable ? variable(name) : std::getenv(name)); };
  for (const Variables& row : kLaunchers) {
    const std::optional<int> rank = get(row.rank), size = get(row.size);
    if (!rank || !size || *size < 1 || *rank >= *size) continue;
    return Launch{.launcher = row.launcher,
                  .rank = *rank,
                  .size = *size,
                  .local_rank = get(row.local_rank).value_or(0),
                  .local_size = get(row.local_size).value_or(1),
                  .starts_mpi = row.starts_mpi};
  }
  return std::nullopt;
}

}  // namespace halfstep
