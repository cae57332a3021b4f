#include "executors/cudnn/fastest.h"

#include <chrono>
#include <map>
#include <mutex>
#include <string>
#include <utility>

#include "base/parse_number.h"
#include "executors/core/choices.h"
#include "executors/cudnn/pending_failure.h"

namespace halfstep::cudnn {
namespace {

std::mutex choices_mutex;

/// Those of a file, which a process reads once. While `choices_mutex` is held.
core::Choices& choices_in(const std::filesystem::path& file, const std::string& machine) {
  static std::map<std::pair<std::filesystem::path, std::string>, core::Choices> all;
  return all.try_emplace({file, machine}, file, machine).first->second;
}

}  // namespace

std::size_t fastest(std::size_t count, const std::function<std::optional<double>(std::size_t)>& seconds) {
  std::size_t best = 0;
  std::optional<double> least;
  for (std::size_t i = 0; i < count; ++i) {
    const std::optional<double> own = seconds(i);
    if (!own || (least && *own >= *least)) continue;
    least = own;
    best = i;
  }
  return best;
}

std::size_t fastest_known(const std::filesystem::path& folder, const std::string& machine, const std::string& key,
                          std::size_t count, const std::function<std::optional<double>(std::size_t)>& seconds) {
  if (count < 2 || folder.empty()) return 0;
  const std::lock_guard lock(choices_mutex);
  core::Choices& choices = choices_in(folder / "choices.json", machine);
  if (!choices.find(key)) choices.set(key, std::to_string(fastest(count, seconds)));
  // What another process has written meanwhile is what later ones take.
  if (!choices.save()) return 0;
  const std::size_t chosen = parse_number<std::size_t>(*choices.find(key)).value_or(0);
  return chosen < count ? chosen : 0;
}

std::optional<double> seconds_of(const std::function<bool()>& launch, cudaStream_t stream) {
  constexpr int kTimes = 5;
  const auto succeed = [&](int times) {
    for (int i = 0; i < times; ++i)
      if (!launch()) return false;
    return cudaStreamSynchronize(stream) == cudaSuccess;
  };
  const bool is_loaded = succeed(1);
  const auto start = std::chrono::steady_clock::now();
  if (!is_loaded || !succeed(kTimes)) {
    forget_failure();
    return std::nullopt;
  }
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count() / kTimes;
}

}  // namespace halfstep::cudnn
