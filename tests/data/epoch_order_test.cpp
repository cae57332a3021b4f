#include "data/epoch_order.h"

#include <algorithm>
#include <map>
#include <vector>

#include <gmock/gmock.h>

#include "base/philox.h"

namespace halfstep {
namespace {

using ::testing::ElementsAre;

std::vector<std::int64_t> shuffled(std::size_t rows, std::uint64_t seed, std::int64_t epoch) {
  std::vector<std::int64_t> order(rows);
  shuffled_order(order, seed, epoch);
  return order;
}

// The known answers that accompany Random123, the authors' own implementation.
TEST(Philox, GivesTheKnownAnswers) {
  EXPECT_EQ(philox4x32_10({0, 0, 0, 0}, {0, 0}), (PhiloxCounter{0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8}));
  constexpr std::uint32_t kOnes = 0xffffffff;
  EXPECT_EQ(philox4x32_10({kOnes, kOnes, kOnes, kOnes}, {kOnes, kOnes}),
            (PhiloxCounter{0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd}));
  EXPECT_EQ(philox4x32_10({0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344}, {0xa4093822, 0x299f31d0}),
            (PhiloxCounter{0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1}));
}

TEST(Philox, UniformFloatsLieInTheHalfOpenUnitInterval) {
  EXPECT_EQ(uniform_float(0), 0.0f);
  EXPECT_LT(uniform_float(0xffffffff), 1.0f);
  EXPECT_EQ(uniform_float(0x80000000), 0.5f);
}

TEST(EpochOrder, IsAPermutationThatDependsOnSeedAndEpochOnly) {
  std::vector<std::int64_t> identity(1000);
  sequential_order(identity);
  for (std::uint64_t seed : {std::uint64_t{0}, std::uint64_t{1}, std::uint64_t{1} << 63})
    for (std::int64_t epoch : {0, 1, 2}) {
      const auto order = shuffled(1000, seed, epoch);
      EXPECT_EQ(order, shuffled(1000, seed, epoch));
      EXPECT_NE(order, shuffled(1000, seed, epoch + 1));
      EXPECT_NE(order, shuffled(1000, seed + 1, epoch));
      EXPECT_NE(order, identity);
      auto sorted = order;
      std::sort(sorted.begin(), sorted.end());
      EXPECT_EQ(sorted, identity);
    }
}

TEST(EpochOrder, StaysTheSameFromReleaseToRelease) {
  EXPECT_THAT(shuffled(10, 42, 0), ElementsAre(1, 4, 2, 7, 8, 6, 9, 0, 3, 5));
  EXPECT_THAT(shuffled(10, 42, 1), ElementsAre(7, 0, 2, 6, 9, 5, 1, 3, 8, 4));
}

TEST(EpochOrder, EveryPermutationIsAboutEquallyLikely) {
  std::map<std::vector<std::int64_t>, int> counts;
  constexpr int kDraws = 24000;
  for (int epoch = 0; epoch < kDraws; ++epoch) ++counts[shuffled(4, 7, epoch)];
  ASSERT_EQ(counts.size(), 24u);
  double chi_squared = 0;
  for (const auto& [order, count] : counts) chi_squared += (count - 1000.0) * (count - 1000.0) / 1000.0;
  EXPECT_LT(chi_squared, 49.7);  // the 99.9th percentile with 23 degrees of freedom
}

TEST(EpochOrder, OfNoneAndOneRow) {
  EXPECT_TRUE(shuffled(0, 1, 0).empty());
  EXPECT_THAT(shuffled(1, 1, 0), ElementsAre(0));
}

}  // namespace
}  // namespace halfstep
