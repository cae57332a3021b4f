// Programs of the oneDNN executor: states and their layouts, memory, threads, errors.
#include <gmock/gmock.h>

#include "tests/executors/onednn_testing.h"
#include <halfstep/base/error.h>

namespace halfstep::testing {
namespace {

using Ints = std::vector<std::int64_t>;
using ::testing::HasSubstr;

/// One step of gradient descent on a convolution, written with plain operators.
Graph descent(std::int64_t batch) {
  TestGraph t;
  Expr x = t.input(DType::f32, {batch, 6, 12, 12}), dy = t.input(DType::f32, {batch, 16, 10, 10});
  Expr w = t.state("w", {16, 6, 3, 3}), bias = t.state("bias", {16}), velocity = t.state("velocity", {16, 6, 3, 3});
  t.output(t.b.op("Relu", {t.b.op("Conv", {x, w, bias})}));
  Expr dw = t.b.own("ConvGradWeight", {dy, x}, {{"kernel_shape", Ints{3, 3}}, {"weight_shape", Ints{16, 6, 3, 3}}});
  Expr moving = velocity * 0.9 + dw;
  t.update(velocity, moving);
  t.update(w, w - moving * 0.01);
  t.update(bias, bias - t.b.reduce_sum(dy, {0, 2, 3}, false) * 0.01);
  return t.graph;
}

TEST(OneDnnProgram, UpdatesStatesWhereTheyLie) {
  const Graph graph = descent(4);
  expect_like_reference(graph, 1e-5, 4);
  Compiled compiled(make_onednn_executor(), graph);
  EXPECT_EQ(count_steps(*compiled.program, "Copy"), 0U);
}

TEST(OneDnnProgram, ProgramsOfOtherShapesShareTheStates) {
  auto executor = make_onednn_executor(), reference = make_reference_executor();
  auto store = executor->make_store(), reference_store = reference->make_store();
  for (std::int64_t batch : {8, 3, 8, 1}) {  // compiled anew in turn, as for a smaller last batch
    const Graph graph = descent(batch);
    auto program = executor->compile(graph, *store), wanted = reference->compile(graph, *reference_store);
    for (std::size_t i = 0; i < graph.inputs.size(); ++i) {
      const Tensor value = random_tensor(DType::f32, graph[graph.inputs[i]].shape, static_cast<unsigned>(batch + i));
      set_input(*program, i, value);
      set_input(*wanted, i, value);
    }
    program->run();
    wanted->run();
    expect_close(program->output(0), wanted->output(0), 1e-5, "output");
    for (const char* name : {"w", "bias", "velocity"})
      expect_close(store->read(name), reference_store->read(name), 1e-5, name);
  }
}

// A team within a team has one thread, and primitives made for several would leave out what the others do.
TEST(OneDnnProgram, DoesNotRunShortOfThreads) {
  const auto error_in_region = [](int threads) {
    Compiled compiled(make_onednn_executor({.threads = threads}), descent(4));
    std::string error;
#pragma omp parallel num_threads(2)
#pragma omp single
    try {
      compiled.program->run();
    } catch (const Error& e) {
      error = e.what();
    }
    return error;
  };
  EXPECT_THAT(error_in_region(2), HasSubstr("1, inside an OpenMP parallel region"));
  EXPECT_EQ(error_in_region(1), "");
}

TEST(OneDnnProgram, StatesAreReadAndWrittenRowMajor) {
  Compiled compiled(make_onednn_executor(), descent(4));
  EXPECT_THAT(compiled.store->names(), ::testing::UnorderedElementsAre("w", "bias", "velocity"));
  const Tensor value = random_tensor(DType::f32, {16, 6, 3, 3}, 99);
  compiled.store->write("w", value);
  EXPECT_TRUE(identical(compiled.store->read("w"), value));
  EXPECT_THROW(compiled.store->write("w", Tensor(DType::f32, Shape{16})), Error);
  EXPECT_THROW(compiled.store->write("w", Tensor(DType::f16, Shape{16, 6, 3, 3})), Error);
  EXPECT_THROW(compiled.store->read("nothing"), Error);
}

TEST(OneDnnProgram, AForwardPassReordersNoWeights) {
  for (DType dtype : {DType::f32, DType::bf16}) {
    TestGraph t;
    Expr x = t.input(dtype, {8, 16, 16, 16}), w = t.b.cast(t.state("w", {32, 16, 3, 3}), dtype);
    t.output(t.b.op("Conv", {x, w}));
    expect_like_reference(t.graph, 2 * epsilon_of(dtype));
    Compiled compiled(make_onednn_executor(), t.graph);
    for (const PlanEntry& entry : compiled.program->plan().entries)
      if (entry.op == "Reorder") {
        EXPECT_NE(entry.node, t.graph[w.id()].name);
      }
  }
}

TEST(OneDnnProgram, OldValuesThatAreStillReadAreNotOverwritten) {
  {
    TestGraph t;  // the reader of the old value needs the new one
    Expr w = t.state("w", {64});
    Expr next = w + t.input(DType::f32, {64});
    t.update(w, next);
    t.output(next * w);
    expect_like_reference(t.graph, 1e-6, 3);
  }
  {
    TestGraph t;  // two states change places; a third takes a value as it was
    Expr a = t.state("a", {8}, 1), c = t.state("c", {8}, 2), d = t.state("d", {8}, 3);
    t.update(a, c);
    t.update(c, a);
    t.update(d, a);
    t.output(a * 2.0);
    expect_like_reference(t.graph, 1e-6, 3);
  }
  {
    TestGraph t;  // the old value is an output, and so is the new one
    Expr w = t.state("w", {8});
    Expr next = w * 0.5;
    t.update(w, next);
    t.output(w);
    t.output(next);
    Compiled compiled(make_onednn_executor(), t.graph);
    for (int run = 0; run < 3; ++run) {
      const Tensor before = compiled.store->read("w");
      compiled.program->run();
      EXPECT_TRUE(identical(compiled.program->output(0), before));
      EXPECT_TRUE(identical(compiled.program->output(1), compiled.store->read("w")));
    }
  }
  {
    TestGraph t;  // one value updates two states
    Expr a = t.state("a", {8}, 1), c = t.state("c", {8}, 2);
    Expr next = a + c;
    t.update(a, next);
    t.update(c, next);
    expect_like_reference(t.graph, 1e-6, 3);
  }
  {
    TestGraph t;  // the order of the nodes is the wrong one for an update in place: readers are moved before it
    Expr w = t.state("w", {8, 8});
    Expr x = t.input(DType::f32, {8, 8});
    t.update(w, w - x);
    t.output(t.b.op("MatMul", {x, w}));
    expect_like_reference(t.graph, 1e-5, 3);
    Compiled compiled(make_onednn_executor(), t.graph);
    EXPECT_EQ(count_steps(*compiled.program, "Copy"), 0U);
  }
}

TEST(OneDnnProgram, WhatAnOutputIsAViewOfIsWrittenInItsPlace) {
  TestGraph t;
  const Expr e = t.b.op("Exp", {t.input(DType::f32, {4, 6})});
  t.output(t.b.reshape(t.b.reshape(e, {2, 12}), {24}));
  t.output(t.b.op("Relu", {e}));  // not in the place of what it reads
  expect_like_reference(t.graph, 1e-6);
  Compiled compiled(make_onednn_executor(), t.graph);
  EXPECT_EQ(count_steps(*compiled.program, "Copy"), 0U);
  t.output(t.b.reshape(e, {3, 8}));                                 // another view has memory of its own
  t.output(t.b.reshape(t.b.reduce_sum(e, {0, 1}, true), Shape()));  // as the copy that a reference kernel makes
  expect_like_reference(t.graph, 1e-6);
}

TEST(OneDnnProgram, InputsStatesAndConstantsCanBeOutputs) {
  TestGraph t;
  Expr x = t.input(DType::f32, {3}), w = t.state("w", {3});
  Expr y = x + w;
  t.output(x);
  t.output(w);
  t.output(t.b.constant(Tensor::of<float>({1, 2, 3})));
  t.output(y);
  t.output(y);
  t.output(t.b.op("Identity", {y}));
  t.output(t.b.op("Relu", {y}));
  expect_like_reference(t.graph, 1e-6, 2);
}

TEST(OneDnnProgram, ValuesAreOverwrittenOnlyWhereTheyDie) {
  TestGraph t;
  Expr x = t.input(DType::f32, {64, 64});
  Expr a = t.b.op("Sigmoid", {x});
  Expr c = t.b.op("Relu", {a});  // a lives on
  Expr d = t.b.op("Tanh", {c});  // c dies
  Expr view = t.b.op("Identity", {d});
  Expr e = t.b.op("Exp", {d});  // d lives on as its view
  t.output(a + e * view);
  expect_like_reference(t.graph, 1e-5, 2);
}

TEST(OneDnnProgram, ACastToTheSameTypeKeepsItsValue) {
  TestGraph t;
  const Expr x = t.b.op("Sigmoid", {t.input(DType::f32, {1000})});
  const Expr cast = t.b.op("Cast", {x}, {{"to", static_cast<std::int64_t>(DType::f32)}});
  t.output(cast + t.b.op("Neg", {x}) * 3.0);  // the last reader of x
  expect_like_reference(t.graph, 1e-5);
}

TEST(OneDnnProgram, ASumThatIsComputedAlongUpdatesNoStateTooEarly) {
  TestGraph t;
  const Expr x = t.input(DType::f32, {2, 8, 6, 6}), dy = t.input(DType::f32, {2, 4, 4, 4});
  const Expr sums = t.state("sums", {4});
  t.output(t.b.own("ConvGradWeight", {dy, x}, {{"kernel_shape", Ints{3, 3}}, {"weight_shape", Ints{4, 8, 3, 3}}}));
  t.output(sums * 2.0);  // between the two
  t.update(sums, t.b.reduce_sum(dy, {0, 2, 3}, false));
  expect_like_reference(t.graph, 1e-5, 3);
}

TEST(OneDnnProgram, AParameterThatIsAnothersGradientIsUpdatedFromItsOldValue) {
  for (const char* op : {"SgdStep", "AdamStep"}) {
    SCOPED_TRACE(op);
    const bool has_moments = std::string(op) == "AdamStep";
    TestGraph t;
    const Shape shape{200000};
    const Expr a = t.state("a", shape, 1), b = t.state("b", shape, 2);
    std::vector<Expr> operands = {t.b.scalar(0.1, DType::f32),
                                  t.b.scalar(1, DType::i64),
                                  t.b.constant(Tensor::scalar(true)),
                                  t.b.scalar(1, DType::f32),
                                  a,
                                  b,
                                  b,
                                  a};
    if (has_moments)
      for (unsigned i = 0; i < 4; ++i) operands.push_back(t.state("m" + std::to_string(i), shape, 3 + i, 0, 1));
    const std::size_t outputs = has_moments ? 6 : 2;
    const std::vector<Expr> next = t.b.multi(op, kOwnDomain, operands, outputs);
    t.update(a, next[0]);
    t.update(b, next[1]);
    for (std::size_t i = 2; i < outputs; ++i) t.update(operands[6 + i], next[i]);
    expect_like_reference(t.graph, 1e-5, 3);
  }
}

TEST(OneDnnProgram, SameSeedSameThreadsSameBits) {
  const Graph graph = descent(16);
  std::vector<Tensor> results;
  for (int repeat = 0; repeat < 2; ++repeat) {
    Compiled compiled(make_onednn_executor({2}), graph);
    for (std::size_t i = 0; i < graph.inputs.size(); ++i)
      set_input(*compiled.program, i,
                random_tensor(DType::f32, graph[graph.inputs[i]].shape, static_cast<unsigned>(i)));
    for (int step = 0; step < 5; ++step) compiled.program->run();
    results.push_back(compiled.store->read("w"));
  }
  EXPECT_TRUE(identical(results[0], results[1]));
}

TEST(OneDnnProgram, NamesEveryOperatorThatCanRunNowhere) {
  TestGraph t;
  Expr x = t.input(DType::f32, {2});
  for (const char* op : {"NoSuchThing", "NorThis"}) {
    const std::size_t n = t.graph.add_node(op, "", {x.id()}, 1);
    Value& y = t.graph[t.graph.nodes[n].outputs[0]];
    y.dtype = DType::f32;
    y.shape = Shape{2};
    t.output(t.b.expr(t.graph.nodes[n].outputs[0]));
  }
  auto executor = make_onednn_executor();
  auto store = executor->make_store();
  try {
    executor->compile(t.graph, *store);
    FAIL() << "compiled unknown operators";
  } catch (const Error& e) {
    EXPECT_THAT(e.what(), HasSubstr("NoSuchThing"));
    EXPECT_THAT(e.what(), HasSubstr("NorThis"));
  }
}

TEST(OneDnnProgram, RefusesTheStoreOfAnotherExecutor) {
  auto executor = make_onednn_executor();
  auto store = make_reference_executor()->make_store();
  EXPECT_THROW(executor->compile(descent(2), *store), Error);
}

TEST(OneDnnProgram, EmptyTensorsRun) {
  TestGraph t;
  Expr x = t.input(DType::f32, {0, 4});
  t.output(t.b.op("Relu", {x}));
  t.output(t.b.op("MatMul", {x, t.input(DType::f32, {4, 3})}));
  expect_like_reference(t.graph, 0);
}

TEST(OneDnnCapabilities, SayWhatAutoTakesAndWhy) {
  const auto executor = make_onednn_executor();
  const Capabilities& c = executor->capabilities();
  EXPECT_TRUE(c.is_native(OpClass::matmul, DType::f32));
  EXPECT_TRUE(c.is_native(OpClass::convolution, DType::f32));
  EXPECT_TRUE(c.is_native(OpClass::matmul, c.auto_precision));
  EXPECT_FALSE(c.auto_reason.empty());
  EXPECT_FALSE(c.device.empty());
  EXPECT_FALSE(c.fusions.empty());
  if (c.is_native(OpClass::matmul, DType::bf16)) {
    EXPECT_EQ(c.auto_precision, DType::bf16);
  }
}

}  // namespace
}  // namespace halfstep::testing
