// The prediction of scaling, the record of all-reduces, and the place of ranks.
#include "distributed/scaling.h"

#include <vector>

#include <gtest/gtest.h>

#include "distributed/recorded.h"
#include "distributed/topology.h"
#include <halfstep/distributed/local.h>

namespace halfstep {
namespace {

TEST(Scaling, ARingSendsItsBytesTwiceButForItsOwnPart) {
  const RingLink link{.latency = 1e-6, .bandwidth = 1e9};
  EXPECT_EQ(ring_all_reduce_seconds(link, 1, 1e6), 0);
  EXPECT_DOUBLE_EQ(ring_all_reduce_seconds(link, 2, 1e6), 2 * (1e-6 + 0.5e-3));
  EXPECT_DOUBLE_EQ(ring_all_reduce_seconds(link, 1024, 1e6), 2046 * (1e-6 + 1e-3 / 1024));
}

TEST(Scaling, FindsTheLinkThatExplainsTheTimes) {
  for (const int ranks : {2, 4, 16}) {
    const RingLink link{.latency = 3e-6, .bandwidth = 2e9};
    std::vector<AllReduceTime> times;
    for (const std::size_t bytes : {8, 1 << 12, 1 << 20, 1 << 25})
      times.push_back({bytes, ring_all_reduce_seconds(link, ranks, static_cast<double>(bytes))});
    const RingLink found = fitted_link(times, ranks);
    EXPECT_NEAR(found.latency, link.latency, 1e-6 * link.latency) << ranks;
    EXPECT_NEAR(found.bandwidth, link.bandwidth, 1e-6 * link.bandwidth) << ranks;
  }
}

TEST(Scaling, NeitherNumberOfALinkIsNegative) {
  // Larger sums that take less time, and times that are proportional to the bytes.
  const RingLink flat = fitted_link(std::vector<AllReduceTime>{{1000, 2e-5}, {1 << 20, 1e-5}}, 2);
  EXPECT_GE(flat.latency, 0);
  EXPECT_GT(flat.bandwidth, 0);
  const RingLink steep = fitted_link(std::vector<AllReduceTime>{{1000, 1e-6}, {2000, 4e-6}}, 2);
  EXPECT_GE(steep.latency, 0);
  EXPECT_GT(steep.bandwidth, 0);
}

TEST(Scaling, CommunicationHidesBehindTheBackwardPass) {
  StepShape shape{.forward = 1, .backward = 2, .update = 0.5, .buckets = {1000, 1000}};
  const RingLink fast{.latency = 0, .bandwidth = 1e6};
  // On one rank the step is its computation.
  EXPECT_DOUBLE_EQ(scaled_step(shape, fast, 1).step, 3.5);
  // The first bucket, which is there at 2, is done in time; the second is there at 3 and takes 1 ms.
  const ScaledStep two = scaled_step(shape, fast, 2);
  EXPECT_DOUBLE_EQ(two.step, 3 + 1e-3 + 0.5);
  EXPECT_DOUBLE_EQ(two.communication, 2e-3);
  // Where they take longer than the pass, one comes after the other.
  const RingLink slow{.latency = 0, .bandwidth = 500};
  EXPECT_DOUBLE_EQ(scaled_step(shape, slow, 2).step, 2 + 2 + 2 + 0.5);
  // Without gradients there is nothing to wait for.
  EXPECT_DOUBLE_EQ(scaled_step({.forward = 1, .backward = 0, .update = 0}, slow, 64).step, 1);
}

TEST(Recorded, KnowsWhenReductionsWereUnderWay) {
  run_ranks(2, [](const std::shared_ptr<Communicator>& rank) {
    const auto records = std::make_shared<RecordedReductions>();
    const std::shared_ptr<Communicator> ranks = recorded(rank, records);
    std::vector<float> a(3, 1), b(5, 2);
    const auto first = ranks->make_all_reduce(a.data(), a.size(), DType::f32, Reduction::sum);
    const auto second = ranks->make_all_reduce(b.data(), b.size(), DType::f32, Reduction::sum);
    for (int i = 0; i < 2; ++i) {
      first->start();
      second->start();
      second->wait();
      first->wait();
    }
    EXPECT_EQ(a[0], 4);
    EXPECT_EQ(b[0], 8);
    ASSERT_EQ(records->size(), 4u);
    for (std::size_t i = 0; i < 4; ++i) {
      EXPECT_EQ((*records)[i].bytes, i % 2 == 0 ? 12u : 20u);
      EXPECT_GE((*records)[i].seconds(), 0);
    }
  });
}

TEST(Topology, CoresAreListedInRanges) {
  EXPECT_EQ(cores_text({}), "none");
  EXPECT_EQ(cores_text({3}), "3");
  EXPECT_EQ(cores_text({0, 1, 2, 3, 8, 10, 11}), "0-3,8,10-11");
}

TEST(Topology, EachRankHasTheCoresThatNoOtherUses) {
  const auto cores = static_cast<int>(own_place().cores.size());
  run_ranks(2, [&](const auto& ranks) {
    const std::vector<RankPlace> places = places_of(*ranks);
    ASSERT_EQ(places.size(), 2u);
    EXPECT_EQ(places[0], places[1]);
    EXPECT_EQ(places[0], own_place());
    EXPECT_EQ(share_cores(ranks.get(), 0), std::max(1, cores / 2));
    // One that is told a number takes part as well: the other would wait for it.
    EXPECT_EQ(share_cores(ranks.get(), ranks->rank() == 0 ? 3 : 0), ranks->rank() == 0 ? 3 : std::max(1, cores / 2));
  });
}

}  // namespace
}  // namespace halfstep
