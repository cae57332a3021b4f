#include "distributed/local_gpu.h"

#include <algorithm>
#include <utility>

#include <fmt/format.h>
#include <fmt/ranges.h>

namespace halfstep {
namespace {

constexpr std::string_view kMig = "MIG";

}  // namespace

bool ShownGpu::is_mig() const { return uuid.starts_with(kMig); }

ShownGpu shown_gpu(std::string name, std::span<const std::byte> uuid) {
  // CUDA tells no other sign of an instance than its name, "NVIDIA H100 MIG 1g.10gb".
  std::string text(name.find(" MIG ") == std::string::npos ? "GPU" : kMig);
  for (std::size_t i = 0; i < uuid.size(); ++i)
    text += fmt::format("{}{:02x}", i == 0 || i == 4 || i == 6 || i == 8 || i == 10 ? "-" : "",
                        std::to_integer<unsigned>(uuid[i]));
  return {std::move(name), std::move(text)};
}

std::string gpu_id(std::size_t number) { return fmt::format("cuda:{}", number); }

std::optional<int> choose_gpu(const std::vector<ShownGpu>& shown, std::string_view wanted, int local_rank,
                              std::string& reason) {
  if (wanted.empty()) return local_rank % static_cast<int>(shown.size());
  std::vector<std::string> all;
  for (std::size_t i = 0; i < shown.size(); ++i) {
    if (wanted == gpu_id(i) || wanted == shown[i].uuid) return static_cast<int>(i);
    all.push_back(fmt::format("{} ({}, {})", gpu_id(i), shown[i].name, shown[i].uuid));
  }
  reason = fmt::format("CUDA shows {}", fmt::join(all, ", "));
  if (wanted.starts_with(kMig) || std::ranges::any_of(shown, &ShownGpu::is_mig))
    reason += "; of MIG instances it shows a process one, which CUDA_VISIBLE_DEVICES names by its UUID";
  return std::nullopt;
}

}  // namespace halfstep
