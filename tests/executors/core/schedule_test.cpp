// The order of nodes, what is needed for how long, and which states may be updated where they lie.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/executors/core/core_testing.h"
#include <halfstep/executors/core/schedule.h>

namespace halfstep::core {
namespace {

using testing::ElementsAre;

TEST(Schedule, KeepsTheOrderOfTheGraphAndTellsLastUses) {
  Graph g;
  const ValueId x = input(g), a = add(g, {x}), b = add(g, {a}), c = add(g, {a, b}, "Add"), unused = add(g, {x});
  g.outputs = {c};
  const Schedule s = make_schedule(g);
  EXPECT_THAT(s.order, ElementsAre(0u, 1u, 2u, 3u));
  const auto last = [&](ValueId v) { return s.last_use[v]; };
  EXPECT_EQ(last(x), 3);
  EXPECT_EQ(last(a), 2);
  EXPECT_EQ(last(b), 2);
  EXPECT_EQ(last(c), kAtEnd);
  EXPECT_EQ(last(unused), -1);
}

TEST(Schedule, AValueIsNeededAsLongAsItsViews) {
  Graph g;
  const ValueId x = input(g), a = add(g, {x}), view = add(g, {a}, "Reshape"), turned = add(g, {view}, "Transpose");
  const ValueId b = add(g, {x});
  g.outputs = {add(g, {turned, b}, "Add")};
  const Schedule s = make_schedule(g);
  for (const ValueId v : {a, view, turned}) EXPECT_EQ(s.last_use[v], 4);
}

TEST(Schedule, AStateIsUpdatedBehindAllReaders) {
  Graph g;
  const ValueId p = state(g, "p"), next = add(g, {p}), view = add(g, {p}, "Reshape");
  g.states[0].next = next;
  g.outputs = {add(g, {view})};
  const Schedule s = make_schedule(g);
  EXPECT_THAT(s.in_place, ElementsAre(true));
  EXPECT_THAT(s.order, ElementsAre(1u, 2u, 0u));
}

TEST(Schedule, TellsWhichStatesCannotBeUpdatedInPlace) {
  struct Case {
    const char* what;
    std::function<void(Graph&)> build;
    std::vector<bool> in_place;
  };
  const Case cases[] = {
      {"a reader needs the next value",
       [](Graph& g) {
         const ValueId p = state(g, "p"), next = add(g, {p});
         g.outputs = {add(g, {p, next}, "Add")};
         g.states[0].next = next;
       },
       {false}},
      {"the old value is an output",
       [](Graph& g) {
         const ValueId p = state(g, "p");
         g.outputs = {p};
         g.states[0].next = add(g, {p});
       },
       {false}},
      {"a view of the old value is an output",
       [](Graph& g) {
         const ValueId p = state(g, "p");
         g.outputs = {add(g, {p}, "Reshape")};
         g.states[0].next = add(g, {p});
       },
       {false}},
      {"the next value is a view",
       [](Graph& g) {
         const ValueId p = state(g, "p");
         g.states[0].next = add(g, {add(g, {p})}, "Reshape");
       },
       {false}},
      {"two states have one next value",
       [](Graph& g) {
         const ValueId p = state(g, "p");
         state(g, "q");
         g.states[0].next = g.states[1].next = add(g, {p});
       },
       {false, false}},
      {"another state takes the old value",
       [](Graph& g) {
         const ValueId p = state(g, "p");
         state(g, "q");
         g.states[0].next = add(g, {p});
         g.states[1].next = p;
       },
       {false, false}},
      {"nothing changes it", [](Graph& g) { g.states[0].next = state(g, "p"); }, {false}},
      {"two that take turns with nobody",
       [](Graph& g) {
         const ValueId p = state(g, "p"), q = state(g, "q");
         g.states[0].next = add(g, {p, q}, "Add");
         g.states[1].next = add(g, {q});
       },
       {true, true}},
      {"each reads the other",
       [](Graph& g) {
         const ValueId p = state(g, "p"), q = state(g, "q");
         g.states[0].next = add(g, {p, q}, "Add");
         g.states[1].next = add(g, {q, p}, "Add");
       },
       {true, false}},
  };
  for (const Case& c : cases) {
    Graph g;
    c.build(g);
    EXPECT_EQ(make_schedule(g).in_place, c.in_place) << c.what;
  }
}

TEST(Schedule, ConversionsOfStatesAreMadeWhenRead) {
  Graph g;
  const ValueId p = state(g, "p"), half = add(g, {add(g, {p}, "Transpose")}, "Cast");
  const ValueId x = input(g), other = add(g, {x}, "Cast"), number = add(g, {p}, "Cast");
  g[half].dtype = g[other].dtype = DType::bf16;
  g[number].dtype = DType::i64;
  g.outputs = {half, other, number};
  const Schedule s = make_schedule(g);
  EXPECT_TRUE(s.is_lazy[half]);
  EXPECT_FALSE(s.is_lazy[other]) << "an input";
  EXPECT_FALSE(s.is_lazy[number]) << "no float";
}

TEST(Schedule, FollowsPrecedencesThatArePossible) {
  Graph g;
  const ValueId x = input(g), a = add(g, {x}), b = add(g, {x}), c = add(g, {a});
  g.outputs = {a, b, c};
  EXPECT_THAT(make_schedule(g, {{1, 0}}).order, ElementsAre(1u, 0u, 2u));
  EXPECT_THAT(make_schedule(g, {{2, 0}}).order, ElementsAre(0u, 1u, 2u)) << "c needs a";
}

TEST(Views, AreToldByOperator) {
  for (const char* op : {"Reshape", "Flatten", "Squeeze", "Unsqueeze", "Identity", "Transpose"}) {
    Node node;
    node.op = op;
    EXPECT_TRUE(is_view(node)) << op;
    EXPECT_EQ(keeps_order(node), node.op != "Transpose");
    node.domain = kOwnDomain;
    EXPECT_FALSE(is_view(node)) << op;
  }
}

}  // namespace
}  // namespace halfstep::core
