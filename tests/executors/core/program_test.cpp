// What runs where, with which copies, in how much memory; and that all of it computes what the reference executor does.
#include <cstring>
#include <functional>
#include <random>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/executors/core/core_testing.h"
#include <halfstep/base/error.h>
#include <halfstep/executors/timed_program.h>
#include <halfstep/ops/op_def.h>

namespace halfstep::core {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

TEST(Steps, OfADeviceWithMemoryOfItsOwn) {
  struct Case {
    const char* what;
    std::function<void(Graph&)> build;
    std::vector<std::string> steps;
  };
  const Case cases[] = {
      {"inputs go to the device, outputs come back",
       [](Graph& g) { g.outputs = {add(g, {input(g)})}; },
       {"Upload copy", "Relu relu", "Download copy"}},
      {"an input is copied once",
       [](Graph& g) {
         const ValueId x = input(g);
         g.outputs = {add(g, {add(g, {x}), x}, "Add")};
       },
       {"Upload copy", "Relu relu", "Add add", "Download copy"}},
      {"a node on the host",
       [](Graph& g) { g.outputs = {add(g, {add(g, {add(g, {input(g)})}, "Sin")})}; },
       {"Upload copy", "Relu relu", "Download copy", "Sin reference", "Upload copy", "Relu relu", "Download copy"}},
      {"the host reads inputs and writes outputs without copies",
       [](Graph& g) { g.outputs = {add(g, {input(g)}, "Sin")}; },
       {"Sin reference"}},
      {"a view is where its operand is",
       [](Graph& g) {
         const ValueId on_host = add(g, {add(g, {input(g)}, "Sin")}, "Identity");
         const ValueId on_device = add(g, {add(g, {input(g, "y")})}, "Identity");
         g.outputs = {add(g, {on_host}, "Cos"), add(g, {on_device})};
       },
       {"Sin reference", "Identity alias", "Upload copy", "Relu relu", "Identity alias", "Cos reference", "Relu relu",
        "Download copy"}},
      {"an update in place",
       [](Graph& g) {
         const ValueId p = state(g, "p");
         g.states[0].next = add(g, {p});
       },
       {"Relu relu"}},
      {"an update in place behind a reader",
       [](Graph& g) {
         const ValueId p = state(g, "p");
         g.states[0].next = add(g, {p});
         g.outputs = {add(g, {p}, "Sin")};
       },
       {"Download copy", "Sin reference", "Relu relu"}},
      {"a kernel that does not write over what it reads",
       [](Graph& g) {
         const ValueId p = state(g, "p");
         g.states[0].next = add(g, {p, p}, "Add");
       },
       {"Add add", "Copy copy"}},
      {"an old value that is an output is moved behind its copy",
       [](Graph& g) {
         const ValueId p = state(g, "p");
         g.states[0].next = add(g, {p});
         g.outputs = {p};
       },
       {"Relu relu", "Download copy", "Copy copy"}},
      {"an update on the host",
       [](Graph& g) {
         const ValueId p = state(g, "p");
         g.states[0].next = add(g, {p}, "Sin");
       },
       {"Download copy", "Sin reference", "Upload copy"}},
      {"states that change places",
       [](Graph& g) {
         const ValueId p = state(g, "p"), q = state(g, "q");
         g.states[0].next = q;
         g.states[1].next = p;
       },
       {"Copy copy", "Copy copy", "Copy copy", "Copy copy"}},
      {"a state that nothing changes", [](Graph& g) { g.states[0].next = state(g, "p"); }, {}},
      {"one next value of two states",
       [](Graph& g) {
         const ValueId p = state(g, "p");
         state(g, "q");
         g.states[0].next = g.states[1].next = add(g, {p});
       },
       {"Relu relu", "Copy copy", "Copy copy"}},
  };
  for (const Case& c : cases) {
    Graph g;
    c.build(g);
    EXPECT_EQ(steps(plan_of(*apart_executor(), g)), c.steps) << c.what;
  }
}

TEST(Steps, OfACpuCopyNothing) {
  Graph g;
  const ValueId x = input(g), a = add(g, {x}), b = add(g, {add(g, {a}, "Sin")}, "Identity");
  g.outputs = {add(g, {a, b}, "Add")};
  EXPECT_THAT(steps(plan_of(*cpu_executor(), g)),
              ElementsAre("Relu relu", "Sin reference", "Identity alias", "Add add"));
}

TEST(Arena, IsUsedAgain) {
  Graph chain;
  ValueId v = input(chain);
  for (int i = 0; i < 10; ++i) v = add(chain, {v});
  chain.outputs = {add(chain, {v}, "Sin")};
  EXPECT_EQ(plan_of(*cpu_executor(), chain).arena_bytes, 256u) << "each kernel writes over what it reads";

  Graph sums;
  v = input(sums);
  for (int i = 0; i < 10; ++i) v = add(sums, {v, v}, "Add");
  sums.outputs = {add(sums, {v}, "Sin")};
  EXPECT_EQ(plan_of(*cpu_executor(), sums).arena_bytes, 3 * 256u) << "operand, result and scratch";
}

TEST(Refusals, AreToldInOrder) {
  const auto no = [](KernelContext&) { return refuse("not today"); };
  const auto never = [](KernelContext&) { return refuse("never"); };
  const auto executor = make_executor({"test", {}, {{"Sin", kOnnxDomain, {no, never}}, {"Cos", kOnnxDomain, {no}}}});
  Graph g;
  const ValueId x = input(g);
  g.outputs = {add(g, {x}, "Sin"), add(g, {x}, "Tan")};
  const Plan plan = plan_of(*executor, g);
  ASSERT_EQ(plan.entries.size(), 2u);
  EXPECT_EQ(plan.entries[0].reason, "not today; never");
  EXPECT_EQ(plan.entries[0].kernel, "reference");
  EXPECT_EQ(plan.entries[1].reason, "no kernel of its own");
}

TEST(Refusals, OfWhatADeviceDoesNotHold) {
  Graph g;
  const ValueId x = g.add_input("x", DType::f64, kShape), y = add(g, {x});
  g[y].dtype = DType::f64;
  g.outputs = {y};
  const Plan plan = plan_of(*apart_executor(), g);
  ASSERT_EQ(plan.entries.size(), 1u);
  EXPECT_EQ(plan.entries[0].reason, "x is f64, which the device has no kernels for");
}

TEST(Refusals, NameEveryOperatorThatCanRunNowhere) {
  Graph g;
  const ValueId x = input(g);
  g.outputs = {add(g, {add(g, {add(g, {x}, "Nothing")}), x}, "Nowhere")};
  g.edit(0)->name = "first";
  g.edit(2)->name = "third";
  try {
    plan_of(*cpu_executor(), g);
    FAIL() << "nothing was thrown";
  } catch (const Error& e) {
    EXPECT_EQ(e.found(), "Nothing 'first', Nowhere 'third'");
  }
}

TEST(Refusals, AfterAskingForMemoryAreMistakes) {
  const auto late = [](KernelContext& context) {
    context.read(0, Layout());
    return refuse("too late");
  };
  Graph g;
  g.outputs = {add(g, {input(g)}, "Sin")};
  EXPECT_THROW(plan_of(*make_executor({"test", {}, {{"Sin", kOnnxDomain, {late}}}}), g), Error);
}

/// Copies the bits of its operand in bf16.
Made in_bf16(KernelContext& context) {
  const Operand x = context.read(0, Layout(), DType::bf16), y = context.write(0, Layout(), DType::bf16);
  return {"bits", {}, [=](const Memory& memory) -> Run {
            return [from = memory.at(x), to = memory.at(y), n = x.bytes()] { std::memcpy(to, from, n); };
          }};
}

TEST(Conversions, SurroundAKernelThatComputesInAnotherType) {
  const auto executor = make_executor({"test", {}, {{"Sin", kOnnxDomain, {in_bf16}}}});
  Graph g;
  g.outputs = {add(g, {input(g)}, "Sin")};
  const auto store = executor->make_store();
  const auto program = executor->compile(g, *store);
  EXPECT_THAT(steps(program->plan()), ElementsAre("Cast reference", "Sin bits", "Cast reference"));
  program->input(0).span<float>()[3] = 1.0f + 0x1p-12f;
  program->run();
  EXPECT_EQ(program->output(0).span<float>()[3], 1.0f);
}

/// A device that knows matrices by columns, too.
class ColumnDevice : public Device {
 public:
  static Layout columns() { return Layout({{8, 8}, {8, 8}, {1, 8}, {}, {}}); }
  bool knows(const Layout&, const Shape& shape, DType) const override { return shape == kShape; }
  void move(DType dtype, const Shape& shape, const Stored& from, const Stored& to) override {
    if (from.layout == to.layout) return Device::move(dtype, shape, {from.data, {}}, {to.data, {}});
    transpose(static_cast<const float*>(from.data), static_cast<float*>(to.data));
  }
  Made convert(const Operand& from, const Operand& to, const TakeScratch& scratch) override {
    if (from.layout == to.layout) return Device::convert(from, to, scratch);
    return {"transpose", {}, [from, to](const Memory& memory) -> Run {
              return [a = memory.as<float>(from), b = memory.as<float>(to)] { transpose(a, b); };
            }};
  }

 private:
  static void transpose(const float* from, float* to) {
    for (int i = 0; i < 8; ++i)
      for (int j = 0; j < 8; ++j) to[j * 8 + i] = from[i * 8 + j];
  }
};

/// Its first operand by columns, its result alike.
Made by_columns(KernelContext& context) {
  const Operand x = context.read(0, ColumnDevice::columns()), y = context.write(0, ColumnDevice::columns());
  return {"by columns", {}, [=](const Memory& memory) -> Run {
            return [from = memory.as<float>(x), to = memory.as<float>(y)] {
              for (int i = 0; i < 64; ++i) to[i] = from[i] * static_cast<float>(i + 1);
            };
          }};
}

TEST(Layouts, AreAssignedByTheFirstKernelThatReads) {
  const auto executor =
      make_executor({"test", {}, {{"Sin", kOnnxDomain, {by_columns}}}, std::make_shared<ColumnDevice>()});
  Tensor initial(DType::f32, kShape);
  for (int i = 0; i < 64; ++i) initial.data<float>()[i] = static_cast<float>(i);

  Graph g;
  const ValueId p = g.add_state("p", initial, StateRole::parameter);
  g.outputs = {add(g, {p}, "Sin")};
  const auto store = executor->make_store();
  const auto first = executor->compile(g, *store);
  EXPECT_THAT(steps(first->plan()), ElementsAre("Sin by columns", "Reorder transpose")) << "the state moved instead";
  EXPECT_TRUE(identical(store->read("p"), initial)) << "row-major, whatever the layout";
  first->run();
  for (int i = 0; i < 8; ++i)
    for (int j = 0; j < 8; ++j)
      EXPECT_EQ(first->output(0).data<float>()[i * 8 + j], static_cast<float>((i * 8 + j) * (j * 8 + i + 1)));

  Graph again;
  const ValueId same = again.add_state("p", initial, StateRole::parameter);
  again.outputs = {add(again, {same}, "Cos"), add(again, {add(again, {input(again)}, "Sin")}, "Sin")};
  EXPECT_THAT(steps(executor->compile(again, *store)->plan()),
              ElementsAre("Reorder transpose", "Cos reference", "Reorder transpose", "Sin by columns", "Sin by columns",
                          "Reorder transpose"))
      << "a settled state stays, and between kernels nothing is converted";
}

TEST(Layouts, ThatADeviceDoesNotConvertAreAMistake) {
  Graph g;
  g.outputs = {add(g, {input(g)}, "Sin")};
  EXPECT_THROW(plan_of(*make_executor({"test", {}, {{"Sin", kOnnxDomain, {by_columns}}}}), g), Error);
}

TEST(Store, KeepsStatesForAllProgramsOfARun) {
  for (const auto& executor : {cpu_executor(), apart_executor()}) {
    Graph g;
    const ValueId p = state(g, "p");
    g.states[0].next = add(g, {p, g.add_input("x", DType::f32, kShape)}, "Add");
    const auto store = executor->make_store();
    const auto first = executor->compile(g, *store), second = executor->compile(g, *store);
    EXPECT_THAT(store->names(), ElementsAre("p"));
    EXPECT_TRUE(store->has("p"));
    EXPECT_FALSE(store->has("q"));
    Tensor ones(DType::f32, kShape);
    for (float& v : ones.span<float>()) v = 1;
    store->write("p", ones);
    for (const auto& program : {first.get(), second.get()}) {
      std::memcpy(program->input(0).raw(), ones.raw(), ones.bytes());
      program->run();
    }
    EXPECT_EQ(store->read("p").data<float>()[63], 3.0f);
    EXPECT_THROW(store->write("p", Tensor(DType::f32, {64})), Error);
    EXPECT_THROW(store->write("p", Tensor(DType::f64, kShape)), Error);
    EXPECT_THROW(store->read("q"), Error);
    Graph other;
    other.add_state("p", Tensor(DType::f16, kShape), StateRole::parameter);
    EXPECT_THROW(executor->compile(other, *store), Error);
  }
  const auto store = cpu_executor()->make_store();
  EXPECT_THROW(apart_executor()->compile(Graph(), *store), Error);
}

TEST(Times, HaveOneEntryForEachOfThePlan) {
  Graph g;
  const ValueId a = add(g, {input(g)});
  g.outputs = {add(g, {add(g, {a}, "Identity")}, "Sin")};
  const auto executor = apart_executor();
  const auto store = executor->make_store();
  const auto program = executor->compile(g, *store);
  auto& timed = dynamic_cast<TimedProgram&>(*program);
  const std::vector<EntryTime> times = timed.run_timed();
  ASSERT_EQ(times.size(), program->plan().entries.size());
  ASSERT_EQ(timed.facts().size(), times.size());
  double end = 0;
  for (std::size_t i = 0; i < times.size(); ++i) {
    const PlanEntry& entry = program->plan().entries[i];
    const EntryFacts& facts = timed.facts()[i];
    EXPECT_EQ(times[i].seconds > 0, entry.kernel != "alias") << i;
    EXPECT_EQ(facts.kind == EntryKind::view, entry.kernel == "alias") << i;
    EXPECT_EQ(facts.kind == EntryKind::conversion, entry.op == "Upload" || entry.op == "Download") << i;
    EXPECT_EQ(facts.cost.bytes > 0, entry.kernel != "alias") << i;
    if (times[i].seconds == 0) continue;
    EXPECT_GE(times[i].start, end) << i;
    end = times[i].start + times[i].seconds;
  }
}

/// Random nodes over inputs, constants and states, random next values.
Graph random_graph(std::mt19937& random) {
  const auto below = [&](std::size_t n) { return static_cast<std::size_t>(random() % n); };
  const auto tensor = [&] {
    Tensor t(DType::f32, kShape);
    for (float& v : t.span<float>()) v = static_cast<float>(below(2001)) / 1000 - 1;
    return t;
  };
  Graph g;
  g.opsets = {{"", kOnnxOpset}};
  std::vector<ValueId> values{input(g, "x0"), input(g, "x1")};
  for (const char* name : {"p", "q", "r"}) values.push_back(g.add_state(name, tensor(), StateRole::parameter));
  values.push_back(g.add_constant("c", tensor()));
  const char* const ops[] = {"Relu", "Relu", "Add", "Add", "Sin", "Identity", "Transpose", "Mul"};
  for (std::size_t n = 4 + below(20); n > 0; --n) {
    const std::string op = ops[below(std::size(ops))];
    std::vector<ValueId> in{values[below(values.size())]};
    if (op == "Add" || op == "Mul") in.push_back(values[below(values.size())]);
    values.push_back(add(g, std::move(in), op));
  }
  for (std::size_t n = 1 + below(4); n > 0; --n) g.outputs.push_back(values[below(values.size())]);
  for (State& s : g.states)
    if (below(4) > 0) s.next = values[below(values.size())];
  return g;
}

std::vector<Tensor> run(Executor& executor, const Graph& graph, int times) {
  const auto store = executor.make_store();
  const auto program = executor.compile(graph, *store);
  std::vector<Tensor> results;
  for (int t = 0; t < times; ++t) {
    for (std::size_t i = 0; i < graph.inputs.size(); ++i) {
      Tensor to = program->input(i);
      for (std::int64_t k = 0; k < to.count(); ++k) to.data<float>()[k] = 0.1f * static_cast<float>((k + t) % 7) - 0.3f;
    }
    program->run();
    for (std::size_t i = 0; i < graph.outputs.size(); ++i) results.push_back(program->output(i).clone());
    for (const std::string& name : store->names()) results.push_back(store->read(name));
  }
  return results;
}

TEST(RandomGraphs, ComputeWhatTheReferenceExecutorDoes) {
  std::mt19937 random(11);
  for (int trial = 0; trial < 400; ++trial) {
    const Graph graph = random_graph(random);
    const std::vector<Tensor> want = run(*make_reference_executor(), graph, 3);
    for (const auto& executor : {cpu_executor(), apart_executor()}) {
      const std::vector<Tensor> got = run(*executor, graph, 3);
      ASSERT_EQ(got.size(), want.size());
      for (std::size_t i = 0; i < got.size(); ++i)
        ASSERT_TRUE(identical(got[i], want[i])) << executor->name() << ", graph " << trial << ", result " << i;
    }
  }
}

}  // namespace
}  // namespace halfstep::core
