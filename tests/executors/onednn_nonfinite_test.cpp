// Where an operand has an infinite element, and where its results are not finite: those alone that are computed from
// it.
#include <cmath>

#include <gtest/gtest.h>

#include "tests/executors/onednn_testing.h"

namespace halfstep::testing {
namespace {

constexpr DType kFloats[] = {DType::f32, DType::bf16, DType::f16};
using Ints = std::vector<std::int64_t>;

/// 'f'inite, '+', '-' or 'n' for each element.
std::string classes_of(const Tensor& tensor) {
  std::string text;
  for (const double x : to_doubles(tensor)) text += std::isnan(x) ? 'n' : std::isfinite(x) ? 'f' : x > 0 ? '+' : '-';
  return text;
}

std::string kernels_of(const Program& program) {
  std::string text;
  for (const PlanEntry& entry : program.plan().entries) text += ", " + entry.op + " by " + entry.kernel;
  return text;
}

/// Runs `graph` with infinities in every operand in turn; no element of the others is 0.
void expect_classes_of_reference(const Graph& graph) {
  Compiled reference(make_reference_executor(), graph), onednn(make_onednn_executor(), graph);
  for (std::size_t with_infinity = 0; with_infinity < graph.inputs.size(); ++with_infinity) {
    for (std::size_t i = 0; i < graph.inputs.size(); ++i) {
      const Value& value = graph[graph.inputs[i]];
      Tensor values = random_tensor(DType::f32, value.shape, 3 + static_cast<unsigned>(i), 0.5, 1);
      const std::span<float> elements = values.span<float>();
      if (i == with_infinity)
        for (std::size_t at = elements.size() / 2; at < elements.size(); at += 29)
          elements[at] = at % 2 ? INFINITY : -INFINITY;
      for (Compiled* side : {&reference, &onednn}) set_input(*side->program, i, convert(values, value.dtype));
    }
    reference.program->run();
    onednn.program->run();
    for (std::size_t i = 0; i < graph.outputs.size(); ++i)
      EXPECT_EQ(classes_of(onednn.program->output(i)), classes_of(reference.program->output(i)))
          << "infinity in operand " << with_infinity << kernels_of(*onednn.program);
  }
}

struct Product {
  Shape a, b;
  bool transposed_a = false, transposed_b = false;
};

TEST(OneDnnNonFinite, OfProductsStaysInItsRowsAndColumns) {
  std::vector<Product> products = {
      {{2, 3, 7, 5}, {2, 3, 5, 9}}, {{70, 7, 3}, {70, 3, 9}}, {{5, 33}, {33, 1}}, {{1, 33}, {33, 70}}};
  for (const std::int64_t depth : {1, 2, 3, 5, 17, 31, 65, 129})
    for (const bool transposed_a : {false, true})
      for (const bool transposed_b : {false, true}) {
        const Shape a = transposed_a ? Shape{depth, 37} : Shape{37, depth};
        products.push_back({a, transposed_b ? Shape{21, depth} : Shape{depth, 21}, transposed_a, transposed_b});
      }
  for (const DType dtype : kFloats) {
    for (const Product& p : products) {
      SCOPED_TRACE(p.a.to_string() + p.b.to_string() + std::string(name_of(dtype)));
      TestGraph t;
      const Expr a = t.input(dtype, p.a), b = t.input(dtype, p.b);
      const Attributes transposed = {{"transA", std::int64_t{p.transposed_a}},
                                     {"transB", std::int64_t{p.transposed_b}}};
      t.output(p.a.rank() == 2 ? t.b.op("Gemm", {a, b}, transposed) : t.b.op("MatMul", {a, b}));
      expect_classes_of_reference(t.graph);
    }
  }
}

TEST(OneDnnNonFinite, OfConvolutionsStaysInItsWindows) {
  struct Case {
    std::int64_t in, out, kernel, stride, group = 1;
  };
  std::vector<Case> cases = {{6, 6, 3, 1, 6}, {6, 9, 3, 1, 3}, {5, 10, 1, 1, 5}};
  for (const std::int64_t in : {1, 3, 5, 16, 17, 33})
    for (const std::int64_t out : {1, 7, 16, 33})
      for (const std::int64_t kernel : {1, 3}) cases.push_back({in, out, kernel, 1 + out % 2});
  for (const DType dtype : kFloats) {
    for (const Case& c : cases) {
      SCOPED_TRACE(std::to_string(c.in) + " to " + std::to_string(c.out) + " channels, kernel " +
                   std::to_string(c.kernel) + ", stride " + std::to_string(c.stride) + ", " + std::to_string(c.group) +
                   " groups, " + std::string(name_of(dtype)));
      const Attributes attributes = {
          {"kernel_shape", Ints{c.kernel, c.kernel}}, {"strides", Ints{c.stride, c.stride}}, {"group", c.group}};
      const Shape source = {2, c.in, 7, 6}, weights = {c.out, c.in / c.group, c.kernel, c.kernel};
      TestGraph t;
      const Expr y = t.b.op("Conv", {t.input(dtype, source), t.input(dtype, weights)}, attributes);
      t.output(y);
      expect_classes_of_reference(t.graph);
      TestGraph transposed;
      transposed.output(transposed.b.op(
          "ConvTranspose", {transposed.input(dtype, y.shape()), transposed.input(dtype, weights)}, attributes));
      expect_classes_of_reference(transposed.graph);

      Attributes of_input = attributes, of_weights = attributes;
      of_input.set("input_shape", source.dims());
      of_weights.set("weight_shape", weights.dims());
      TestGraph input_gradient;
      input_gradient.output(input_gradient.b.own(
          "ConvGradInput", {input_gradient.input(dtype, y.shape()), input_gradient.input(dtype, weights)}, of_input));
      expect_classes_of_reference(input_gradient.graph);
      TestGraph weight_gradient;
      weight_gradient.output(weight_gradient.b.own(
          "ConvGradWeight", {weight_gradient.input(dtype, y.shape()), weight_gradient.input(dtype, source)},
          of_weights));
      expect_classes_of_reference(weight_gradient.graph);
    }
  }
}

// Nothing is multiplied by padding where that is all a window has.
TEST(OneDnnNonFinite, OfWindowsOfPaddingAloneGoesNowhere) {
  struct Case {
    std::int64_t in, out, kernel, pad, dilation = 1;
  };
  for (const Case& c : {Case{3, 5, 1, 1}, {1, 2, 2, 2}, {3, 4, 3, 3}, {16, 16, 3, 4}, {3, 4, 3, 6, 2}, {16, 32, 1, 2}})
    for (const DType dtype : kFloats) {
      SCOPED_TRACE(std::to_string(c.in) + " to " + std::to_string(c.out) + " channels, kernel " +
                   std::to_string(c.kernel) + ", pads " + std::to_string(c.pad) + ", " + std::string(name_of(dtype)));
      const Shape source = {2, c.in, 4, 5}, weights = {c.out, c.in, c.kernel, c.kernel};
      const std::int64_t more = 2 * c.pad - (c.kernel - 1) * c.dilation;
      const Shape result = {2, c.out, 4 + more, 5 + more};
      TestGraph t;
      const Expr dy = t.input(dtype, result), x = t.input(dtype, source);
      t.output(t.b.own("ConvGradWeight", {dy, x},
                       {{"kernel_shape", Ints{c.kernel, c.kernel}},
                        {"pads", Ints(4, c.pad)},
                        {"dilations", Ints{c.dilation, c.dilation}},
                        {"weight_shape", weights.dims()}}));
      Compiled reference(make_reference_executor(), t.graph), onednn(make_onednn_executor(), t.graph);
      Tensor gradient = random_tensor(DType::f32, result, 3, 0.5, 1);
      gradient.span<float>().front() = NAN;  // in a corner
      gradient.span<float>().back() = INFINITY;
      for (Compiled* side : {&reference, &onednn}) {
        set_input(*side->program, 0, convert(gradient, dtype));
        set_input(*side->program, 1, convert(random_tensor(DType::f32, source, 4, 0.5, 1), dtype));
        side->program->run();
      }
      const std::string expected = classes_of(reference.program->output(0));
      EXPECT_EQ(expected.find_first_not_of('f'), std::string::npos) << "what this tests";
      EXPECT_EQ(classes_of(onednn.program->output(0)), expected) << kernels_of(*onednn.program);
    }
}

}  // namespace
}  // namespace halfstep::testing
