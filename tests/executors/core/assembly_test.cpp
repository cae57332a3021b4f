// A program under construction: where values lie, and which copies are made for kernels.
#include <memory>

#include <gtest/gtest.h>

#include "tests/executors/core/core_testing.h"
#include <halfstep/executors/core/assembly.h>

namespace halfstep::core {
namespace {

/// x -> a -> b, a -> c; b + c is the output.
struct Fork {
  Graph graph;
  ValueId x = input(graph), a = add(graph, {x}), b = add(graph, {a}), c = add(graph, {a});

  Fork() { graph.outputs = {add(graph, {b, c}, "Add")}; }
};

TEST(Assembly, CopiesAValueToAnotherSpaceOnce) {
  const Fork fork;
  const auto device = std::make_shared<ApartDevice>();
  Store store(device);
  Assembly assembly(fork.graph, store, *device);
  EXPECT_EQ(assembly.read(fork.x).space, Space::host);
  EXPECT_TRUE(assembly.steps().empty());
  const Operand first = assembly.read(fork.x, Layout(), DType::f32),
                second = assembly.read(fork.x, Layout(), DType::f32);
  EXPECT_EQ(first.space, Space::device);
  EXPECT_EQ(first.buffer, second.buffer);
  EXPECT_NE(first.buffer, assembly.read(fork.x).buffer);
  EXPECT_EQ(assembly.steps().size(), 1u);
}

TEST(Assembly, WritesOverWhatDiesAlone) {
  const Fork fork;
  Store store(host_device());
  Assembly assembly(fork.graph, store, *host_device());
  const Operand a = assembly.place(fork.a, Layout(), {});
  EXPECT_NE(assembly.place_over(fork.b, a, 1, {a.buffer}).buffer, a.buffer) << "c reads it, too";
  EXPECT_EQ(assembly.place_over(fork.c, a, 2, {a.buffer}).buffer, a.buffer);
}

TEST(Assembly, AViewIsAnotherNameOfItsMemory) {
  const Fork fork;
  Store store(host_device());
  Assembly assembly(fork.graph, store, *host_device());
  const Operand a = assembly.place(fork.a, Layout(), {});
  assembly.alias(fork.b, a);
  EXPECT_EQ(assembly.read(fork.b).buffer, a.buffer);
  EXPECT_TRUE(assembly.steps().empty());
}

TEST(Assembly, AValueLiesInThePartThatIsMadeForIt) {
  const Fork fork;
  Store store(host_device());
  Assembly assembly(fork.graph, store, *host_device());
  const std::size_t bytes = bytes_of(DType::f32, kShape.count());
  const BufferId whole = assembly.arena_buffer(2 * bytes), part = assembly.part_of(whole, bytes, bytes);
  assembly.prefer(fork.a, part);
  EXPECT_EQ(assembly.place(fork.a, Layout(), {}).buffer, part);
  EXPECT_EQ(assembly.buffers()[part].whole, whole);
  EXPECT_EQ(assembly.buffers()[part].offset, bytes);
}

TEST(Assembly, AStateTakesTheLayoutOfItsFirstReader) {
  Graph graph;
  const ValueId p = state(graph, "p");
  graph.outputs = {add(graph, {p})};
  Store store(host_device());
  Assembly assembly(graph, store, *host_device());
  EXPECT_TRUE(assembly.is_free(p));
  assembly.read(p, Layout(), DType::f32);
  EXPECT_FALSE(assembly.is_free(p));
  EXPECT_TRUE(assembly.steps().empty()) << "nothing is copied";
}

}  // namespace
}  // namespace halfstep::core
