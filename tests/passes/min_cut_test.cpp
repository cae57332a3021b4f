// The minimum cut: networks whose cut is known, and small ones against trying every cut.
#include "passes/precision/min_cut.h"

#include <random>
#include <string>
#include <vector>

#include <gtest/gtest.h>

namespace halfstep {
namespace {

constexpr std::int64_t kInfinite = MinCut::kInfinite;
constexpr int kSource = MinCut::kSource, kSink = MinCut::kSink;

struct Arc {
  int from, to;
  std::int64_t capacity;
};
struct Network {
  std::size_t vertices;  ///< with source and sink, 0 and 1
  std::vector<Arc> arcs;
};
using Side = std::vector<bool>;  ///< per vertex: on the source's

Side cut(const Network& network) {
  MinCut cut;
  for (std::size_t v = 2; v < network.vertices; ++v) EXPECT_EQ(cut.add_vertex(), static_cast<int>(v));
  for (const Arc& arc : network.arcs) cut.add_arc(arc.from, arc.to, arc.capacity);
  return cut.source_side();
}

std::int64_t cost_of(const Network& network, const Side& source) {
  std::int64_t cost = 0;
  for (const Arc& arc : network.arcs)
    if (source[static_cast<std::size_t>(arc.from)] && !source[static_cast<std::size_t>(arc.to)]) cost += arc.capacity;
  return cost;
}

/// Of all cuts the cheapest, of those the one with the largest source side.
Side by_trying_all(const Network& network) {
  Side best;
  std::int64_t least = 0;
  std::size_t most = 0;
  for (std::size_t bits = 0; bits < std::size_t{1} << (network.vertices - 2); ++bits) {
    Side side{true, false};
    std::size_t size = 0;
    for (std::size_t v = 2; v < network.vertices; ++v) {
      side.push_back((bits >> (v - 2) & 1) != 0);
      size += side.back() ? 1 : 0;
    }
    const std::int64_t cost = cost_of(network, side);
    if (!best.empty() && (cost > least || (cost == least && size <= most))) continue;
    best = side;
    least = cost;
    most = size;
  }
  return best;
}

struct Known {
  std::string what;
  Network network;
  Side source;
};

class KnownCut : public ::testing::TestWithParam<Known> {};

TEST_P(KnownCut, IsFound) { EXPECT_EQ(cut(GetParam().network), GetParam().source); }

INSTANTIATE_TEST_SUITE_P(
    Networks, KnownCut,
    ::testing::Values(
        Known{"nothing_to_cut", {2, {}}, {true, false}}, Known{"alone_is_the_sources", {3, {}}, {true, false, true}},
        Known{"cheaper_to_leave_the_source", {3, {{kSource, 2, 3}, {2, kSink, 5}}}, {true, false, false}},
        Known{"cheaper_to_leave_the_sink", {3, {{kSource, 2, 5}, {2, kSink, 3}}}, {true, false, true}},
        Known{"as_cheap_goes_to_the_source", {3, {{kSource, 2, 4}, {2, kSink, 4}}}, {true, false, true}},
        Known{"arcs_of_one_pair_add_up", {3, {{kSource, 2, 2}, {kSource, 2, 2}, {2, kSink, 3}}}, {true, false, true}},
        Known{"an_arc_costs_in_its_direction_only",
              {4, {{kSource, 2, 1}, {3, 2, 9}, {3, kSink, 1}}},
              {true, false, true, false}},
        Known{"pinned_on_both_sides",
              {4, {{kSource, 2, kInfinite}, {2, 3, 4}, {3, kSink, kInfinite}}},
              {true, false, true, false}},
        // From Cormen, Leiserson, Rivest and Stein, "Introduction to Algorithms", the chapter on maximum flow: 23.
        Known{"textbook",
              {6,
               {{kSource, 2, 16},
                {kSource, 3, 13},
                {2, 4, 12},
                {3, 2, 4},
                {3, 5, 14},
                {4, 3, 9},
                {5, 4, 7},
                {4, kSink, 20},
                {5, kSink, 4}}},
              {true, false, true, true, false, true}},
        // Either way takes all that the source gives: what flows into 3 could have gone through 4.
        Known{"fork",
              {5, {{kSource, 2, 1}, {2, 3, 1}, {3, kSink, 1}, {2, 4, 1}, {4, kSink, 1}}},
              {true, false, false, false, false}}),
    [](const auto& test) { return test.param.what; });

TEST(MinCut, IsTheLargestCheapestOfAllCuts) {
  std::mt19937 random(7);
  const auto draw = [&](int n) { return static_cast<int>(random() % static_cast<unsigned>(n)); };
  for (int i = 0; i < 400; ++i) {
    Network network{static_cast<std::size_t>(2 + draw(7)), {}};
    const int vertices = static_cast<int>(network.vertices);
    for (int arcs = draw(4 * vertices); arcs > 0; --arcs) {
      const int from = draw(4) == 0 ? kSource : draw(vertices), to = draw(4) == 0 ? kSink : draw(vertices);
      // Small capacities make ties; a pin to both ends would cost more than any other cut.
      if (from != to) network.arcs.push_back({from, to, draw(20) == 0 ? kInfinite : 1 + draw(3)});
    }
    const Side found = cut(network), best = by_trying_all(network);
    ASSERT_EQ(cost_of(network, found), cost_of(network, best)) << "network " << i;
    ASSERT_EQ(found, best) << "network " << i;
  }
}

// As deep as no thread's stack.
TEST(MinCut, FollowsAChainOfAnyLength) {
  constexpr int kLength = 200000, kWeakest = 123456;
  Network chain{kLength + 2, {{kSource, 2, 9}}};
  for (int v = 2; v <= kLength; ++v) chain.arcs.push_back({v, v + 1, v == kWeakest ? 5 : 7});
  chain.arcs.push_back({kLength + 1, kSink, 9});
  const Side side = cut(chain);
  for (std::size_t v = 2; v < chain.vertices; ++v) ASSERT_EQ(side[v], v <= kWeakest) << v;
}

}  // namespace
}  // namespace halfstep
