// The order of the rows in an epoch.
#pragma once

#include <cstdint>
#include <span>

namespace halfstep {

/// Fills `order` with 0, 1, …, order.size() - 1.
void sequential_order(std::span<std::int64_t> order);

/// Fills `order` with a permutation of 0 … order.size() - 1, each equally likely: Fisher-Yates on Philox.
/// A pure function of (size, seed, epoch), the same on every platform.
void shuffled_order(std::span<std::int64_t> order, std::uint64_t seed, std::int64_t epoch);

}  // namespace halfstep
