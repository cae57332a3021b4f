// Ids are types of their own, and maps take only theirs.
#include <cstdint>
#include <set>
#include <type_traits>
#include <unordered_map>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <halfstep/graph/graph.h>

namespace halfstep {
namespace {

template <class A, class B>
concept Compares = requires(A a, B b) {
  a == b;
}
|| requires(A a, B b) { a < b; };
template <class Map, class Key>
concept TakesKey = requires(Map map, Key key) {
  map[key];
}
|| requires(Map map, Key key) { map.contains(key); };

// Numbers do not become ids by themselves, nor ids numbers.
static_assert(!std::is_convertible_v<int, ValueId> && !std::is_convertible_v<std::size_t, ValueId>);
static_assert(!std::is_convertible_v<ValueId, int> && !std::is_constructible_v<std::size_t, ValueId>);
static_assert(!std::is_constructible_v<bool, ValueId>);
static_assert(!std::is_assignable_v<ValueId&, int> && !std::is_assignable_v<NodeId&, std::size_t>);
static_assert(!Compares<ValueId, int> && !Compares<NodeId, std::size_t>);

// Values and nodes do not mix.
static_assert(!std::is_constructible_v<ValueId, NodeId> && !std::is_constructible_v<NodeId, ValueId>);
static_assert(!std::is_assignable_v<ValueId&, NodeId> && !Compares<ValueId, NodeId>);

static_assert(TakesKey<ValueMap<int>, ValueId> && TakesKey<NodeMap<bool>, NodeId>);
static_assert(!TakesKey<ValueMap<int>, NodeId> && !TakesKey<NodeMap<int>, ValueId>);
static_assert(!TakesKey<ValueMap<int>, int> && !TakesKey<ValueMap<bool>, std::size_t>);
static_assert(TakesKey<Graph, ValueId>);
static_assert(!TakesKey<Graph, NodeId> && !TakesKey<Graph, int>);

static_assert(sizeof(ValueId) == sizeof(std::int32_t) && std::is_trivially_copyable_v<ValueId>);

TEST(Ids, AreOrderedAsTheirIndicesAndNoneComesFirst) {
  const ValueId first(0), second(1);
  EXPECT_EQ(ValueId(), kNoValue);
  EXPECT_NE(first, kNoValue);
  EXPECT_LT(kNoValue, first);
  EXPECT_LT(first, second);
  EXPECT_EQ(second.index(), 1U);
  EXPECT_THAT(std::set<ValueId>({second, kNoValue, first}), testing::ElementsAre(kNoValue, first, second));
  const std::unordered_map<NodeId, int> hashed{{NodeId(3), 3}, {kNoNode, -1}};
  EXPECT_EQ(hashed.at(NodeId(3)), 3);
  EXPECT_EQ(hashed.at(kNoNode), -1);
}

TEST(IdMap, HasAnItemForEachId) {
  ValueMap<int> numbers(2, 7);
  const ValueId added = numbers.add(8);
  EXPECT_EQ(added, ValueId(2));
  EXPECT_EQ(numbers[ValueId(1)], 7);
  EXPECT_EQ(numbers[added], 8);
  numbers.resize(5, 9);
  EXPECT_EQ(numbers[added], 8);
  EXPECT_THAT(std::vector(numbers.begin(), numbers.end()), testing::ElementsAre(7, 7, 8, 9, 9));

  ValueMap<bool> flags(3);
  flags[ValueId(1)] = true;
  EXPECT_THAT(std::vector(flags.begin(), flags.end()), testing::ElementsAre(false, true, false));
}

TEST(IdMap, HasNoneForOthers) {
  const NodeMap<int> map(2);
  EXPECT_TRUE(map.contains(NodeId(1)));
  EXPECT_FALSE(map.contains(NodeId(2)));
  EXPECT_FALSE(map.contains(kNoNode));
  EXPECT_FALSE(NodeMap<int>().contains(NodeId(0)));
}

// A loop over the values of a graph may add some: it does not see them.
TEST(IdMap, ListsTheIdsThereAre) {
  ValueMap<int> map(2);
  std::vector<ValueId> seen;
  for (const ValueId id : map.ids()) {
    seen.push_back(id);
    map.add(1);
  }
  EXPECT_THAT(seen, testing::ElementsAre(ValueId(0), ValueId(1)));
  EXPECT_EQ(map.size(), 4U);
}

}  // namespace
}  // namespace halfstep
