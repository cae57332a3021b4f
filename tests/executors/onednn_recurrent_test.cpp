// RNN, LSTM and GRU on the oneDNN executor against the reference kernels, forward and backward.
#include "tests/executors/onednn_testing.h"

namespace halfstep::testing {
namespace {

struct RecurrentCase {
  std::string op, gradient;
  std::int64_t gates;
  Attributes attributes;
};
const std::vector<RecurrentCase>& recurrent_cases() {
  static const std::vector<RecurrentCase> cases = {
      {"RNN", "RnnGrad", 1, {}},
      {"RNN", "RnnGrad", 1, {{"activations", std::vector<std::string>{"Relu"}}}},
      {"LSTM", "LstmGrad", 4, {}},
      {"GRU", "GruGrad", 3, {{"linear_before_reset", std::int64_t{1}}}},
  };
  return cases;
}

/// Around the widths of vectors, and of what the kernels take together.
struct Extents {
  std::int64_t steps, batch, inputs, hidden;
};
constexpr Extents kExtents[] = {{1, 1, 1, 1}, {3, 5, 7, 16}, {4, 4, 3, 33}, {2, 9, 20, 40}, {6, 13, 8, 5}};

/// The node and its gradient, twice: with a run of the forward pass of its own, and with what the node left.
TestGraph recurrent_graph(const RecurrentCase& c, const Extents& e, std::int64_t directions, bool optional_inputs,
                          DType dtype) {
  TestGraph t;
  const bool lstm = c.op == "LSTM";
  const Shape state{directions, e.batch, e.hidden};
  Attributes attributes = c.attributes;
  attributes.set("hidden_size", e.hidden);
  if (directions == 2) {
    attributes.set("direction", std::string("bidirectional"));
    if (c.attributes.find("activations")) attributes.set("activations", std::vector<std::string>{"Relu", "Relu"});
  } else if (optional_inputs) {
    attributes.set("direction", std::string("reverse"));
  }
  std::vector<Expr> in = {t.input(dtype, {e.steps, e.batch, e.inputs}),
                          t.input(dtype, {directions, c.gates * e.hidden, e.inputs}),
                          t.input(dtype, {directions, c.gates * e.hidden, e.hidden})};
  if (optional_inputs) {
    in.push_back(t.input(dtype, {directions, 2 * c.gates * e.hidden}));
    in.push_back(Expr());
    in.push_back(t.input(dtype, state));
    if (lstm) in.push_back(t.input(dtype, state));
  }
  const std::size_t states = lstm ? 2 : 1;
  for (Expr y : t.b.multi(c.op, "", in, 1 + states, attributes)) t.output(y);
  const NodeId forward = t.graph.nodes.back().id;
  in.resize(lstm ? 8 : 6);
  in.push_back(t.input(dtype, {e.steps, directions, e.batch, e.hidden}));
  for (std::size_t i = 0; i < states; ++i) in.push_back(optional_inputs ? t.input(dtype, state) : Expr());
  auto gradient = [&] {
    const std::size_t count = optional_inputs ? 4 + states : 3;
    for (Expr g : t.b.multi(c.gradient, "ai.halfstep", in, count, attributes)) t.output(g);
  };
  gradient();
  t.b.set_context("grad", forward);
  gradient();
  return t;
}

TEST(OneDnnRecurrent, AgreesWithReferenceBothWays) {
  for (const RecurrentCase& c : recurrent_cases()) {
    for (const Extents& e : kExtents) {
      for (std::int64_t directions : {1, 2}) {
        for (bool optional_inputs : {false, true}) {
          SCOPED_TRACE(c.op + " hidden " + std::to_string(e.hidden) + " directions " + std::to_string(directions) +
                       (optional_inputs ? " with bias and states" : ""));
          const TestGraph t = recurrent_graph(c, e, directions, optional_inputs, DType::f32);
          expect_like_reference(t.graph, 1e-5);
          Compiled compiled(make_onednn_executor(), t.graph);
          EXPECT_EQ(plan_entry(*compiled.program, c.op).kernel, "simd");
          EXPECT_EQ(plan_entry(*compiled.program, "ai.halfstep." + c.gradient).kernel, "simd");
        }
      }
    }
  }
}

// Products of bf16 come in pairs of k, in tiles of rows and of vectors; an odd number of states is left to f32. Weights
// are small, so that states forget what was rounded; Relu's slope may differ where a sum is about 0.
TEST(OneDnnRecurrent, MultipliesBf16WhereTheCpuDoes) {
  const auto executor = make_onednn_executor();
  const Capabilities& cpu = executor->capabilities();
  const bool has = cpu.is_native(OpClass::matmul, DType::bf16) && std::ranges::count(cpu.features, "avx512_bf16") > 0;
  constexpr Extents kWithTiles[] = {{1, 1, 1, 2},   {3, 5, 7, 16},  {4, 9, 3, 34},
                                    {3, 6, 20, 78}, {2, 4, 9, 300}, {3, 3, 5, 5}};
  for (const RecurrentCase& c : recurrent_cases()) {
    if (c.attributes.find("activations")) continue;
    for (const Extents& e : kWithTiles) {
      for (std::int64_t directions : {1, 2}) {
        SCOPED_TRACE(c.op + " hidden " + std::to_string(e.hidden) + " directions " + std::to_string(directions));
        const TestGraph t = recurrent_graph(c, e, directions, true, DType::bf16);
        expect_like_reference(t.graph, 2 * epsilon_of(DType::bf16), 1, -0.1, 0.1);
        const Compiled compiled(make_onednn_executor(), t.graph);
        const bool multiplies = has && e.hidden % 2 == 0;
        for (const std::string& op : {c.op, "ai.halfstep." + c.gradient})
          EXPECT_EQ(plan_entry(*compiled.program, op).reason.empty(), multiplies) << op;
      }
    }
  }
}

TEST(OneDnnRecurrent, TakesHalfTypes) {
  for (DType dtype : {DType::f16, DType::bf16})
    for (const RecurrentCase& c : recurrent_cases())
      expect_like_reference(recurrent_graph(c, {3, 5, 7, 16}, 2, true, dtype).graph, 4 * epsilon_of(dtype));
}

// The gradient is that of its own operands, whatever the forward pass saw.
TEST(OneDnnRecurrent, ReadsNothingThatTheForwardPassLeftOfOtherOperands) {
  for (const RecurrentCase& c : recurrent_cases()) {
    for (const std::size_t other : {0, 1, 2, 3, 5, 6}) {
      SCOPED_TRACE(c.op + " with another input " + std::to_string(other));
      TestGraph t = recurrent_graph(c, {3, 5, 7, 16}, 1, true, DType::f32);
      if (other == 6 && c.op != "LSTM") continue;
      const Shape shape = t.graph[t.graph.nodes.back().inputs[other]].shape;
      const ValueId input = t.graph.add_input("other", DType::f32, shape);
      t.graph.edit(t.graph.nodes.size() - 1)->inputs[other] = input;
      expect_like_reference(t.graph, 1e-5);
    }
  }
}

// Threads take shares of the sequences and of the directions through the steps.
TEST(OneDnnRecurrent, AgreesForAnyNumberOfThreads) {
  for (const DType dtype : {DType::f32, DType::bf16}) {
    for (const RecurrentCase& c : recurrent_cases()) {
      SCOPED_TRACE(c.op + " in " + std::string(name_of(dtype)));
      const TestGraph t = recurrent_graph(c, {9, 22, 24, 48}, 1, true, dtype);
      std::vector<Tensor> alone;
      for (int threads : {1, 2, 3, 5}) {
        Compiled compiled(make_onednn_executor({.threads = threads}), t.graph);
        for (std::size_t i = 0; i < t.graph.inputs.size(); ++i)
          set_input(*compiled.program, i,
                    random_tensor(dtype, t.graph[t.graph.inputs[i]].shape, static_cast<unsigned>(i) + 1));
        compiled.program->run();
        for (std::size_t i = 0; i < t.graph.outputs.size(); ++i) {
          const Tensor found = compiled.program->output(i);
          if (threads == 1)
            alone.push_back(found.clone());
          else  // the products of all steps are oneDNN's
            expect_close(found, alone[i], epsilon_of(dtype), "output " + std::to_string(i));
        }
        std::vector<Tensor> once;
        for (std::size_t i = 0; i < t.graph.outputs.size(); ++i) once.push_back(compiled.program->output(i).clone());
        compiled.program->run();
        for (std::size_t i = 0; i < once.size(); ++i)
          expect_close(compiled.program->output(i), once[i], 0, "the same bits again");
      }
    }
  }
}

}  // namespace
}  // namespace halfstep::testing
