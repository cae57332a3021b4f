#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <numeric>
#include <string_view>
#include <vector>

#include "base/parse_number.h"
#include <halfstep/distributed/launcher.h>

namespace halfstep {
namespace {

/// The variables by which a launcher tells a process of its place.
struct Variables {
  const char *launcher, *rank, *size, *local_rank, *local_size;
  bool starts_mpi = true;
  const char *on_nodes = nullptr, *node = nullptr;  ///< how many there are on each machine, and which one this is
  const char* mark = nullptr;                       ///< a row only where this is set
};

// The innermost first: torchrun may be what srun has started, or mpirun (see `hides_torchrun`). SLURM_PROCID is set in
// a batch script, too, which is one process and no step.
constexpr Variables kLaunchers[] = {
    {"torchrun", "RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE", false, nullptr, nullptr,
     "TORCHELASTIC_RUN_ID"},
    {"mpirun (Open MPI)", "OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE", "OMPI_COMM_WORLD_LOCAL_RANK",
     "OMPI_COMM_WORLD_LOCAL_SIZE"},
    {"mpirun (MPICH)", "PMI_RANK", "PMI_SIZE", "MPI_LOCALRANKID", "MPI_LOCALNRANKS"},
    {"srun", "SLURM_PROCID", "SLURM_STEP_NUM_TASKS", "SLURM_LOCALID", nullptr, true, "SLURM_STEP_TASKS_PER_NODE",
     "SLURM_NODEID"},
    {"torchrun", "RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE", false},
};

std::optional<int> number(std::string_view digits) {
  const auto value = parse_number<int>(digits);
  return value && *value >= 0 ? value : std::nullopt;
}

/// "2(x3),1" is 2, 2, 2, 1. Nothing for another text.
std::vector<int> numbers(std::string_view list) {
  constexpr int kMost = 1 << 20;
  std::vector<int> result;
  for (std::int64_t total = 0;;) {
    const std::string_view item = list.substr(0, list.find(','));
    const std::size_t open = item.find('(');
    std::optional<int> value = number(item.substr(0, open)), times = 1;
    if (open != std::string_view::npos)
      times = item.substr(open).starts_with("(x") && item.ends_with(')')
                  ? number(item.substr(open + 2, item.size() - open - 3))
                  : std::nullopt;
    if (!value || !times || *times > kMost) return {};
    total += std::int64_t{*value} * *times;
    if (total > kMost || result.size() > kMost) return {};
    result.insert(result.end(), static_cast<std::size_t>(*times), *value);
    if (item.size() == list.size()) return result;
    list.remove_prefix(item.size() + 1);
  }
}

}  // namespace

std::optional<Launch> find_launch(const std::function<const char*(const char* name)>& variable) {
  const auto text = [&](const char* name) -> std::string_view {
    const char* value = !name ? nullptr : variable ? variable(name) : std::getenv(name);
    return value ? value : "";
  };
  const auto get = [&](const char* name) { return number(text(name)); };
  // Whether an mpirun was called by one of torchrun's processes, whose variables are left: else it has started the
  // torchrun of each machine, as many as torchrun says there are. srun sets no local rank of MPICH.
  const auto hides_torchrun = [&](const Variables& row) {
    const std::optional<int> size = get(row.size);
    return std::string_view(row.launcher).starts_with("mpirun") && get(row.rank) && size && get(row.local_rank) &&
           get(row.local_size) && get("GROUP_WORLD_SIZE") && size != get("GROUP_WORLD_SIZE");
  };
  const bool is_torchrun_outside = std::ranges::any_of(kLaunchers, hides_torchrun);
  std::optional<Launch> found;
  for (const Variables& row : kLaunchers) {
    if (row.mark && (is_torchrun_outside || text(row.mark).empty())) continue;
    const std::vector<int> on_nodes = numbers(text(row.on_nodes));
    const std::optional<int> rank = get(row.rank);
    std::optional<int> size = get(row.size), local_size = get(row.local_size);
    const std::optional<int> local_rank = get(row.local_rank), node = get(row.node);
    if (!size && !on_nodes.empty()) size = std::accumulate(on_nodes.begin(), on_nodes.end(), 0);
    if (node && *node < static_cast<int>(on_nodes.size())) local_size = on_nodes[static_cast<std::size_t>(*node)];
    if (!rank || !size || *size < 1 || *rank >= *size) continue;
    // The place on the machine may be said by another launcher's variables: srun sets those of MPICH as well.
    if (found && (found->rank != *rank || found->size != *size)) continue;
    const bool is_placed = local_rank && local_size && *local_rank < *local_size;
    if (!found) found = {.launcher = row.launcher, .rank = *rank, .size = *size, .starts_mpi = row.starts_mpi};
    if (!is_placed) continue;
    found->local_rank = *local_rank;
    found->local_size = *local_size;
    return found;
  }
  return found;
}

}  // namespace halfstep
