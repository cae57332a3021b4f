// Where values lie and in which order copies happen, without any device.
#include "executors/cudnn/schedule.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace halfstep::cudnn {
namespace {

using testing::ElementsAre;
using Kind = Step::Kind;

const Shape kShape{64};  // 256 bytes of f32

/// A node of one output of kShape.
ValueId add(Graph& g, std::vector<ValueId> in, std::string_view op = "Relu") {
  const std::size_t n = g.add_node(op, kOnnxDomain, std::move(in), 1);
  const ValueId out = g.nodes[n].outputs[0];
  g[out].dtype = DType::f32;
  g[out].shape = kShape;
  return out;
}
ValueId state(Graph& g, std::string_view name) {
  return g.add_state(name, Tensor(DType::f32, kShape), StateRole::parameter);
}
const Placement kOverwriting{Place::device, 0, {0}};
const Placement kDevice{Place::device, 0, {}};
const Placement kHost{Place::host, 0, {}};
const Placement kView{Place::view, 0, {}};

TEST(Schedule, UploadsLaunchesAndDownloads) {
  Graph g;
  const ValueId x = g.add_input("x", DType::f32, kShape);
  const ValueId y = add(g, {x});
  g.outputs = {y};
  const Schedule s = make_schedule(g, {kDevice});
  EXPECT_THAT(s.steps, ElementsAre(Step{Kind::upload, x}, Step{Kind::launch, 0}, Step{Kind::download, y}));
  EXPECT_TRUE(s.all_on_device);
  EXPECT_NE(s.values[static_cast<std::size_t>(x)].offset, s.values[static_cast<std::size_t>(y)].offset);
}

TEST(Schedule, ReusesMemoryOfValuesNobodyReadsAnyMore) {
  Graph g;
  ValueId v = g.add_input("x", DType::f32, kShape);
  for (int i = 0; i < 10; ++i) v = add(g, {v});
  g.outputs = {v};
  EXPECT_EQ(make_schedule(g, std::vector<Placement>(10, kDevice)).arena_bytes, 2 * 256u);
}

TEST(Schedule, GivesScratchMemoryOfItsOwn) {
  Graph g;
  const ValueId x = g.add_input("x", DType::f32, kShape);
  g.outputs = {add(g, {x})};
  const Schedule s = make_schedule(g, {{Place::device, 1000, {}}});
  EXPECT_GE(s.arena_bytes, 256u + 256u + 1000u);
}

TEST(Schedule, AViewIsItsOperandsMemory) {
  Graph g;
  const ValueId x = g.add_input("x", DType::f32, kShape);
  const ValueId a = add(g, {x});
  const ValueId view = add(g, {a}, "Reshape");
  const ValueId b = add(g, {x});  // must not take a's memory: the view is read later
  const ValueId c = add(g, {view, b}, "Add");
  g.outputs = {c};
  const Schedule s = make_schedule(g, {kDevice, kView, kDevice, kDevice});
  const auto at = [&](ValueId v) { return s.values[static_cast<std::size_t>(v)].offset; };
  EXPECT_EQ(at(view), at(a));
  EXPECT_NE(at(a), at(b));
}

TEST(Schedule, CopiesAroundANodeOnTheHost) {
  Graph g;
  const ValueId x = g.add_input("x", DType::f32, kShape);
  const ValueId a = add(g, {x}), b = add(g, {a}), c = add(g, {b});
  g.outputs = {c};
  const Schedule s = make_schedule(g, {kDevice, kHost, kDevice});
  EXPECT_THAT(s.steps,
              ElementsAre(Step{Kind::upload, x}, Step{Kind::launch, 0}, Step{Kind::download, a}, Step{Kind::call, 1},
                          Step{Kind::upload, b}, Step{Kind::launch, 2}, Step{Kind::download, c}));
  EXPECT_FALSE(s.all_on_device);
}

TEST(Schedule, TheHostReadsInputsWithoutCopies) {
  Graph g;
  const ValueId x = g.add_input("x", DType::f32, kShape);
  g.outputs = {add(g, {x})};
  EXPECT_THAT(make_schedule(g, {kHost}).steps, ElementsAre(Step{Kind::call, 0}));
}

TEST(Schedule, ViewsOfHostValuesRunOnTheHost) {
  Graph g;
  const ValueId x = g.add_input("x", DType::f32, kShape);
  const ValueId a = add(g, {x}), view = add(g, {a}, "Reshape");
  g.outputs = {view};
  std::vector<Placement> placements = {kHost, kView};
  settle_views(g, placements);
  EXPECT_EQ(placements[1].place, Place::host);
  placements = {kDevice, kView};
  settle_views(g, placements);
  EXPECT_EQ(placements[1].place, Place::view);
}

TEST(Schedule, UpdatesAStateWhereItLies) {
  Graph g;
  const ValueId p = state(g, "p");
  g.states[0].next = add(g, {p});
  const Schedule s = make_schedule(g, {kOverwriting});
  EXPECT_TRUE(s.in_place[0]);
  EXPECT_THAT(s.steps, ElementsAre(Step{Kind::launch, 0}));
  EXPECT_EQ(s.arena_bytes, 0u);
}

TEST(Schedule, MovesAStateThatIsReadAfterItsNextValueIsMade) {
  Graph g;
  const ValueId p = state(g, "p");
  g.states[0].next = add(g, {p});
  g.outputs = {add(g, {p})};
  const Schedule s = make_schedule(g, {kOverwriting, kOverwriting});
  EXPECT_FALSE(s.in_place[0]);
  EXPECT_EQ(s.steps.back(), (Step{Kind::move, 0}));
}

TEST(Schedule, MovesAStateThatIsAnOutputAfterTheDownload) {
  Graph g;
  const ValueId p = state(g, "p");
  g.states[0].next = add(g, {p});
  g.outputs = {p};
  const Schedule s = make_schedule(g, {kOverwriting});
  EXPECT_THAT(s.steps, ElementsAre(Step{Kind::launch, 0}, Step{Kind::download, p}, Step{Kind::move, 0}));
}

TEST(Schedule, MovesAStateWhoseKernelMustNotOverwriteIt) {
  Graph g;
  const ValueId p = state(g, "p");
  g.states[0].next = add(g, {p});
  EXPECT_FALSE(make_schedule(g, {kDevice}).in_place[0]);
}

TEST(Schedule, KeepsAStateOfWhichAViewIsStillRead) {
  Graph g;
  const ValueId p = state(g, "p");
  const ValueId view = add(g, {p}, "Reshape");
  g.states[0].next = add(g, {p});
  g.outputs = {add(g, {view})};
  EXPECT_FALSE(make_schedule(g, {kView, kOverwriting, kDevice}).in_place[0]);
}

TEST(Schedule, StagesStatesThatChangePlaces) {
  Graph g;
  const ValueId a = state(g, "a"), b = state(g, "b");
  g.states[0].next = b;
  g.states[1].next = a;
  const Schedule s = make_schedule(g, {});
  EXPECT_THAT(s.steps,
              ElementsAre(Step{Kind::stage, 0}, Step{Kind::stage, 1}, Step{Kind::move, 0}, Step{Kind::move, 1}));
  EXPECT_NE(s.stage_offsets[0], s.stage_offsets[1]);
}

TEST(Schedule, LeavesAStateAloneThatNothingChanges) {
  Graph g;
  const ValueId p = state(g, "p");
  g.states[0].next = p;
  EXPECT_TRUE(make_schedule(g, {}).steps.empty());
}

TEST(Schedule, OneNextValueOfTwoStatesIsWrittenToBoth) {
  Graph g;
  const ValueId a = state(g, "a"), b = state(g, "b");
  const ValueId next = add(g, {a});
  g.states[0].next = g.states[1].next = next;
  const Schedule s = make_schedule(g, {kOverwriting});
  EXPECT_THAT(s.steps, ElementsAre(Step{Kind::launch, 0}, Step{Kind::move, 0}, Step{Kind::move, 1}));
  (void)b;
}

}  // namespace
}  // namespace halfstep::cudnn
