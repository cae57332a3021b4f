// The arena: no two buffers that are needed at the same step overlap, and memory is used again.
#include <algorithm>
#include <chrono>
#include <random>

#include <gtest/gtest.h>

#include "tests/executors/core/core_testing.h"
#include <halfstep/base/error.h>
#include <halfstep/executors/core/memory.h>

namespace halfstep {
namespace {

constexpr std::size_t kAlignment = 64;

std::size_t aligned(std::size_t bytes) { return (bytes + kAlignment - 1) / kAlignment * kAlignment; }

/// The most bytes that are needed at one step: no arena is smaller.
std::size_t peak(const std::vector<Lifetime>& lifetimes, std::int32_t steps) {
  std::size_t most = 0;
  for (std::int32_t step = 0; step < steps; ++step) {
    std::size_t live = 0;
    for (const Lifetime& life : lifetimes)
      if (life.first <= step && step <= life.last) live += life.bytes;
    most = std::max(most, live);
  }
  return most;
}

void expect_valid(const std::vector<Lifetime>& lifetimes, const Arena& arena, std::int32_t steps) {
  ASSERT_EQ(arena.offsets.size(), lifetimes.size());
  std::size_t end = 0, all = 0;
  for (std::size_t i = 0; i < lifetimes.size(); ++i) {
    EXPECT_EQ(arena.offsets[i] % kAlignment, 0u) << i;
    end = std::max(end, lifetimes[i].bytes == 0 ? 0 : arena.offsets[i] + lifetimes[i].bytes);
    all += aligned(lifetimes[i].bytes);
  }
  EXPECT_EQ(arena.bytes, end);
  EXPECT_LE(arena.bytes, all);
  EXPECT_GE(arena.bytes, peak(lifetimes, steps));
  // Byte by byte, step by step: who owns it.
  for (std::int32_t step = 0; step < steps; ++step) {
    std::vector<int> owner(arena.bytes, -1);
    for (std::size_t i = 0; i < lifetimes.size(); ++i) {
      if (step < lifetimes[i].first || lifetimes[i].last < step) continue;
      for (std::size_t byte = 0; byte < lifetimes[i].bytes; ++byte) {
        int& who = owner[arena.offsets[i] + byte];
        ASSERT_EQ(who, -1) << "buffers " << who << " and " << i << " at step " << step;
        who = static_cast<int>(i);
      }
    }
  }
}

TEST(Arena, NoTwoLiveBuffersOverlap) {
  std::mt19937 random(7);
  const auto below = [&](int n) { return static_cast<int>(random() % static_cast<unsigned>(n)); };
  for (int trial = 0; trial < 300; ++trial) {
    const int count = 1 + below(24), steps = 1 + below(12);
    std::vector<Lifetime> lifetimes;
    for (int i = 0; i < count; ++i) {
      const std::int32_t first = below(steps);
      lifetimes.push_back(
          {static_cast<std::size_t>(below(4) == 0 ? below(3) : below(700)), first, first + below(steps - first)});
    }
    expect_valid(lifetimes, plan_memory(lifetimes), steps);
    if (testing::Test::HasFatalFailure()) return;
  }
}

/// A forward pass whose values live until the backward pass, of many nodes.
TEST(Arena, OfManyBuffersIsPlannedInAMoment) {
  constexpr int kNodes = 60'000, kSteps = 2 * kNodes;
  for (const bool varies : {false, true}) {
    std::vector<Lifetime> lifetimes;
    for (int i = 0; i < kNodes; ++i) {
      const std::size_t bytes = varies ? 64 << i % 4 : 256;
      lifetimes.push_back({bytes, i, kSteps - i - 1});
      lifetimes.push_back({256, kSteps - i - 1, std::min(kSteps - i, kSteps - 1)});
    }
    const auto begin = std::chrono::steady_clock::now();
    const Arena arena = plan_memory(lifetimes);
    EXPECT_LT(std::chrono::steady_clock::now() - begin, std::chrono::seconds(3));
    std::size_t most = 0;
    for (int i = 0; i < kNodes; ++i) most += lifetimes[static_cast<std::size_t>(2 * i)].bytes;
    EXPECT_LE(static_cast<double>(arena.bytes), 1.01 * static_cast<double>(most));
  }
}

TEST(Arena, OfManyBuffersHasNoTwoThatOverlap) {
  std::mt19937 random(8);
  const auto below = [&](int n) { return static_cast<int>(random() % static_cast<unsigned>(n)); };
  constexpr int kSteps = 12'000;
  std::vector<Lifetime> lifetimes;
  for (int i = 0; i < kSteps; ++i) {
    const std::int32_t first = below(kSteps);
    lifetimes.push_back({static_cast<std::size_t>(64 << below(3)), first, std::min(kSteps - 1, first + below(6))});
  }
  const Arena arena = plan_memory(lifetimes);
  std::vector<std::vector<std::size_t>> at(kSteps);
  for (std::size_t i = 0; i < lifetimes.size(); ++i)
    for (std::int32_t step = lifetimes[i].first; step <= lifetimes[i].last; ++step)
      at[static_cast<std::size_t>(step)].push_back(i);
  for (const std::vector<std::size_t>& live : at)
    for (const std::size_t a : live)
      for (const std::size_t b : live)
        EXPECT_TRUE(a == b || arena.offsets[a] + lifetimes[a].bytes <= arena.offsets[b] ||
                    arena.offsets[b] + lifetimes[b].bytes <= arena.offsets[a]);
}

TEST(Arena, IsAsSmallAsTheLargestStepWhereThatFits) {
  struct Case {
    const char* what;
    std::vector<Lifetime> lifetimes;
    std::size_t bytes;
  };
  const Case cases[] = {
      {"nothing", {}, 0},
      {"empty buffers", {{0, 0, 3}, {0, 1, 2}}, 0},
      {"one after the other", {{256, 0, 0}, {256, 1, 1}, {256, 2, 2}}, 256},
      {"the last step of one is the first of the other", {{256, 0, 1}, {256, 1, 2}}, 512},
      {"a chain", {{256, 0, 1}, {256, 1, 2}, {256, 2, 3}, {256, 3, 4}}, 512},
      {"a gap between two", {{256, 0, 1}, {64, 0, 9}, {256, 2, 3}}, 320},
      {"offsets are aligned", {{1, 0, 1}, {1, 0, 1}, {1, 0, 1}}, 129},
      {"the largest first", {{64, 0, 0}, {1024, 0, 1}, {512, 2, 2}, {512, 2, 2}}, 1088},
  };
  for (const Case& c : cases) {
    const Arena arena = plan_memory(c.lifetimes);
    expect_valid(c.lifetimes, arena, 10);
    EXPECT_EQ(arena.bytes, c.bytes) << c.what;
  }
}

/// What a program needs at the least, by which a step is refused before it is compiled.
TEST(Step, AViewTakesNoMemoryBesideWhatItShows) {
  constexpr std::size_t kBytes = 256;  // of each value
  Graph g;
  const ValueId x = core::input(g), a = core::add(g, {x}), view = core::add(g, {a}, "Identity"), b = core::add(g, {a});
  const ValueId sum = core::add(g, {a, b}, "Add");
  g.outputs = {core::add(g, {sum, view}, "Add")};
  const auto check = [&](std::size_t bytes) {
    check_step_fits(g, ValueMemory::shared, {.bytes = bytes, .owner = "a device", .is_host = false});
  };
  EXPECT_NO_THROW(check(2 * kBytes));
  EXPECT_THROW(check(2 * kBytes - 1), Error);
}

}  // namespace
}  // namespace halfstep
