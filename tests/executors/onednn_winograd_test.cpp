// Convolutions that Winograd's algorithm computes, against the reference kernels.
#include <cfloat>

#include "executors/onednn/simd/winograd.h"
#include "tests/executors/onednn_testing.h"

namespace halfstep::testing {
namespace {

using Ints = std::vector<std::int64_t>;

struct Case {
  Shape image;
  std::int64_t channels, kernel, pad;
  bool is_winograd = true;

  Attributes attributes() const { return {{"kernel_shape", Ints{kernel, kernel}}, {"pads", Ints{pad, pad, pad, pad}}}; }
  Shape weights() const { return {channels, image[1], kernel, kernel}; }
  Shape result() const {
    return {image[0], channels, image[2] + 2 * pad - kernel + 1, image[3] + 2 * pad - kernel + 1};
  }
};

const Case kCases[] = {
    {{4, 64, 13, 12}, 64, 3, 1},        {{4, 64, 16, 15}, 128, 3, 0},
    {{8, 32, 12, 13}, 64, 5, 2},        {{4, 60, 13, 12}, 64, 3, 1, false},  // a block of channels that is filled up
    {{4, 64, 13, 12}, 66, 3, 1, false}, {{4, 3, 13, 12}, 64, 3, 1, false},
};
/// The outer taps meet padding alone along the short axis.
const Case kIdle = {{32, 64, 2, 16}, 64, 5, 2};

/// The convolution and its gradients, of inputs: image, weights, gradient of the result.
Graph all_three(const Case& c) {
  TestGraph t;
  const Expr x = t.input(DType::f32, c.image), w = t.input(DType::f32, c.weights());
  const Expr dy = t.input(DType::f32, c.result());
  Attributes of_input = c.attributes(), of_weights = c.attributes();
  of_input.set("input_shape", c.image.dims());
  of_weights.set("weight_shape", c.weights().dims());
  t.output(t.b.op("Conv", {x, w}, c.attributes()));
  t.b.set_context("grad", t.graph.nodes.back().id);  // operands of oneDNN's kernels for inference lie otherwise
  t.output(t.b.own("ConvGradInput", {dy, w}, of_input));
  t.output(t.b.own("ConvGradWeight", {dy, x}, of_weights));
  t.output(t.b.reduce_sum(dy, {0, 2, 3}, false));  // the bias'
  return t.graph;
}

/// Whether the machine's vectors divide the blocks in which oneDNN's convolutions keep channels on it.
bool has_blocks() { return simd::has_winograd(3, 16) || simd::has_winograd(3, 8); }

TEST(OneDnnWinograd, ComputesConvolutionsAndTheirGradients) {
  for (const Case& c : kCases) {
    SCOPED_TRACE(c.image.to_string() + " kernel " + std::to_string(c.kernel));
    const Graph graph = all_three(c);
    expect_like_reference(graph, epsilon_of(DType::f32));
    const Compiled compiled(make_onednn_executor(), graph);
    for (const char* op : {"Conv", "ai.halfstep.ConvGradInput", "ai.halfstep.ConvGradWeight"})
      EXPECT_EQ(plan_entry(*compiled.program, op).kernel == "simd: winograd", c.is_winograd && has_blocks()) << op;
  }
}

// An optimizer that divides by the gradient's size would make updates of what rounding leaves there.
TEST(OneDnnWinograd, WeightsThatMeetPaddingAloneHaveNoGradient) {
  const Graph graph = all_three(kIdle);
  Compiled onednn(make_onednn_executor(), graph);
  for (std::size_t i = 0; i < graph.inputs.size(); ++i)
    set_input(*onednn.program, i, random_tensor(DType::f32, graph[graph.inputs[i]].shape, static_cast<unsigned>(i)));
  onednn.program->run();
  const std::vector<double> gradient = to_doubles(onednn.program->output(2));
  for (std::size_t k = 0; k < gradient.size(); ++k)
    if (const std::size_t row = k / 5 % 5; row == 0 || row == 4)
      ASSERT_EQ(gradient[k], 0) << k;
    else
      ASSERT_NE(gradient[k], 0) << k;
}

TEST(OneDnnWinograd, TakesBiasResidualAndActivation) {
  for (const Case& c : {kCases[0], kCases[2]}) {
    for (const bool bias : {false, true}) {
      for (const bool residual : {false, true}) {
        for (const char* activation : {"", "Relu"}) {
          SCOPED_TRACE(std::string(bias ? "bias " : "") + (residual ? "residual " : "") + activation);
          TestGraph t;
          std::vector<Expr> in = {t.input(DType::f32, c.image), t.input(DType::f32, c.weights()), Expr(), Expr()};
          if (bias) in[2] = t.input(DType::f32, {c.channels});
          if (residual) in[3] = t.input(DType::f32, c.result());
          Attributes attributes = c.attributes();
          attributes.set("activation", std::string(activation));
          t.output(t.b.own("FusedConv", in, attributes));
          t.b.set_context("grad", t.graph.nodes.back().id);
          attributes = c.attributes();
          attributes.set("input_shape", c.image.dims());
          t.output(t.b.own("ConvGradInput", {t.input(DType::f32, c.result()), in[1]}, attributes));
          expect_like_reference(t.graph, epsilon_of(DType::f32));
          const Compiled compiled(make_onednn_executor(), t.graph);
          EXPECT_EQ(plan_entry(*compiled.program, "ai.halfstep.FusedConv").kernel == "simd: winograd", has_blocks());
        }
      }
    }
  }
}

TEST(OneDnnWinograd, GivesTheSameBitsAgain) {
  for (const Case& c : {kCases[0], kCases[2]}) {
    const Graph graph = all_three(c);
    std::vector<Tensor> first;
    for (const int threads : {1, 2, 2, 3}) {
      Compiled onednn(make_onednn_executor({.threads = threads}), graph);
      for (std::size_t i = 0; i < graph.inputs.size(); ++i)
        set_input(*onednn.program, i,
                  random_tensor(DType::f32, graph[graph.inputs[i]].shape, static_cast<unsigned>(i)));
      std::vector<Tensor> found;
      for (int run = 0; run < 2; ++run) {
        onednn.program->run();
        for (std::size_t i = 0; i < graph.outputs.size(); ++i) {
          if (run == 0)
            found.push_back(onednn.program->output(i).clone());
          else
            expect_close(onednn.program->output(i), found[i], 0, "again");
        }
      }
      if (first.empty()) first = found;
      // Sums over images are divided among threads.
      for (std::size_t i = 0; i < found.size(); ++i)
        expect_close(found[i], first[i], i < 2 ? 0 : epsilon_of(DType::f32), "threads " + std::to_string(threads));
    }
  }
}

TEST(OneDnnWinograd, SpecialElementsReachTheirWindowsAlone) {
  for (const Case& c : {kCases[0], kCases[2]}) {
    const Graph graph = all_three(c);
    Compiled reference(make_reference_executor(), graph), onednn(make_onednn_executor(), graph);
    for (const float special : {INFINITY, -INFINITY, NAN, FLT_MAX, 1e30F}) {
      for (std::size_t operand = 0; operand < graph.inputs.size(); ++operand) {
        SCOPED_TRACE(::testing::Message() << special << " in operand " << operand);
        for (std::size_t i = 0; i < graph.inputs.size(); ++i) {
          Tensor values = random_tensor(DType::f32, graph[graph.inputs[i]].shape, static_cast<unsigned>(i), 0.25, 0.5);
          if (i == operand) {
            const std::span<float> elements = values.span<float>();
            for (std::size_t at = 5; at < elements.size(); at += elements.size() / 2) elements[at] = special;
          }
          for (Compiled* side : {&reference, &onednn}) set_input(*side->program, i, values);
        }
        reference.program->run();
        onednn.program->run();
        for (std::size_t i = 0; i < graph.outputs.size(); ++i) {
          const std::vector<double> found = to_doubles(onednn.program->output(i));
          const std::vector<double> wanted = to_doubles(reference.program->output(i));
          double largest = 0;
          for (const double value : wanted)
            if (std::isfinite(value)) largest = std::max(largest, std::abs(value));
          for (std::size_t k = 0; k < wanted.size(); ++k) {
            // Results of windows without a special pixel are as exact as without it. A special weight takes part in
            // all, if only times the zeros of padding; and a special pixel in the gradients of all taps.
            const bool is_pixel = i == 0 ? operand == 0 : i == 1 && operand == 2;
            const double scale = is_pixel ? std::max(std::abs(wanted[k]), 1.0) : largest;
            const std::string what = "element " + std::to_string(k) + " of output " + std::to_string(i);
            if (std::isnan(wanted[k]))
              ASSERT_TRUE(std::isnan(found[k])) << what << ": " << found[k];
            else if (std::isinf(wanted[k]))
              ASSERT_EQ(found[k], wanted[k]) << what;
            else
              ASSERT_NEAR(found[k], wanted[k], 1e-5 * scale) << what;
          }
        }
      }
    }
  }
}

}  // namespace
}  // namespace halfstep::testing
