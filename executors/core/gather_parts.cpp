#include "executors/core/gather_parts.h"

#include <algorithm>

#include <fmt/format.h>

#include <halfstep/base/error.h>

namespace halfstep::core {
namespace {

/// The most that is held of all ranks at once.
constexpr std::size_t kMostBytes = std::size_t{16} << 20;

}  // namespace

GatherParts::GatherParts(const Communicator& ranks, std::span<const std::size_t> sent,
                         std::span<const std::size_t> taken, std::span<const std::int64_t> owners)
    : ranks_(static_cast<std::size_t>(ranks.size())) {
  const auto own = static_cast<std::size_t>(ranks.rank());
  std::vector<std::size_t> parts(ranks_, 0), seen(ranks_, 0);
  for (const std::size_t bytes : sent) {
    sent_.push_back({0, parts[own], bytes});
    parts[own] += bytes;
  }
  for (std::size_t i = 0; i < taken.size(); ++i) {
    const auto owner = static_cast<std::size_t>(owners[i]);
    if (owner >= ranks_)
      throw_failure(fmt::format("a rank below {} that owns a tensor", ranks_), fmt::format("{}", owners[i]), "");
    taken_.push_back({owner, seen[owner], taken[i]});
    seen[owner] += taken[i];
    if (owner != own) parts[owner] = seen[owner];
  }
  // Every rank counts the same: what it sends is what all others take.
  longest_ = *std::ranges::max_element(parts);
  length_ = std::min(longest_, std::max<std::size_t>(64, kMostBytes / ranks_ / 64 * 64));
}

/// Calls `copy(tensor, in the window, bytes)` for what the window holds of tensors, from `begin` of each part on.
template <class Copy>
void GatherParts::in_window(std::span<const Place> places, std::span<void* const> tensors, void* window,
                            std::size_t begin, const Copy& copy) const {
  for (std::size_t i = 0; i < places.size(); ++i) {
    const Place& place = places[i];
    const std::size_t first = std::max(place.offset, begin),
                      last = std::min(place.offset + place.bytes, begin + length_);
    if (first < last && tensors[i])
      copy(static_cast<std::byte*>(tensors[i]) + (first - place.offset),
           static_cast<std::byte*>(window) + place.rank * length_ + (first - begin), last - first);
  }
}

void GatherParts::run(const Transport& transport, std::span<void* const> sent, std::span<void* const> taken,
                      void* window, void* windows) const {
  for (std::size_t begin = 0; begin < longest_; begin += length_) {
    in_window(sent_, sent, window, begin,
              [&](const std::byte* tensor, std::byte* at, std::size_t bytes) { transport.copy(at, tensor, bytes); });
    transport.all_gather(window, windows, length_);
    in_window(taken_, taken, windows, begin,
              [&](std::byte* tensor, const std::byte* at, std::size_t bytes) { transport.copy(tensor, at, bytes); });
  }
}

}  // namespace halfstep::core
