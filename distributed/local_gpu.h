// Which GPU a process takes among those that CUDA shows it.
#pragma once

#include <cstddef>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include <halfstep/base/api.h>

namespace HALFSTEP_API halfstep {

struct ShownGpu {
  std::string name;
  std::string uuid;  ///< as nvidia-smi -L writes it: "GPU-5c8e...", "MIG-..." of a MIG instance

  bool is_mig() const;
};
/// By what CUDA says of a device: its name, and the 16 bytes of its UUID.
ShownGpu shown_gpu(std::string name, std::span<const std::byte> uuid);

/// "cuda:1"
std::string gpu_id(std::size_t number);

/// The number in `shown`, which is not empty, of the GPU that `wanted` names by its id or UUID; for an empty name that
/// of the process's number among the ranks on its machine, which share the GPUs if there are fewer. Nothing, with a
/// sentence in `reason`, if there is none of that name.
std::optional<int> choose_gpu(const std::vector<ShownGpu>& shown, std::string_view wanted, int local_rank,
                              std::string& reason);

}  // namespace halfstep
