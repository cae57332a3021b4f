#include "executors/plan/memory.h"

#include <algorithm>
#include <numeric>

namespace halfstep {

Arena plan_memory(const std::vector<Lifetime>& lifetimes) {
  constexpr std::size_t kAlignment = 64;
  Arena arena;
  arena.offsets.assign(lifetimes.size(), 0);
  std::vector<std::size_t> order(lifetimes.size());
  std::iota(order.begin(), order.end(), 0);
  std::stable_sort(order.begin(), order.end(),
                   [&](std::size_t a, std::size_t b) { return lifetimes[a].bytes > lifetimes[b].bytes; });
  std::vector<std::size_t> placed;  // by offset
  for (std::size_t i : order) {
    const Lifetime& life = lifetimes[i];
    if (life.bytes == 0) continue;
    std::size_t offset = 0;
    for (std::size_t j : placed) {
      const Lifetime& other = lifetimes[j];
      if (other.last < life.first || life.last < other.first) continue;
      if (offset + life.bytes <= arena.offsets[j]) break;
      const std::size_t end = arena.offsets[j] + other.bytes;
      offset = std::max(offset, (end + kAlignment - 1) / kAlignment * kAlignment);
    }
    arena.offsets[i] = offset;
    arena.bytes = std::max(arena.bytes, offset + life.bytes);
    placed.insert(std::upper_bound(placed.begin(), placed.end(), i,
                                   [&](std::size_t a, std::size_t b) { return arena.offsets[a] < arena.offsets[b]; }),
                  i);
  }
  return arena;
}

}  // namespace halfstep
