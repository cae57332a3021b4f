// Where the values of a step live: one arena, shared by liveness.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

namespace halfstep {

/// A buffer and the steps during which it is needed.
struct Lifetime {
  std::size_t bytes = 0;
  std::int32_t first = 0;  ///< step that writes it
  std::int32_t last = 0;   ///< last step that reads it (inclusive)
};

struct Arena {
  std::vector<std::size_t> offsets;  ///< one per lifetime, 64-byte aligned
  std::size_t bytes = 0;
};

/// Offsets such that no two buffers alive at the same step overlap. Greedy by size: the largest first, each at the
/// lowest gap that fits it (Pisarchyk & Lee 2020, "Efficient Memory Management for Deep Neural Net Inference").
Arena plan_memory(const std::vector<Lifetime>& lifetimes);

}  // namespace halfstep
