// Einsum: its kernel, and its gradient, which is also an Einsum.
#include <algorithm>
#include <string>
#include <vector>

#include "ops/cost_rules.h"
#include "ops/families.h"
#include "ops/matmul/einsum_equation.h"
#include <halfstep/base/error.h>
#include <halfstep/ops/kernel_util.h>

namespace halfstep::ops {
namespace {

Shape einsum_shape(const Node& node, std::span<const Shape> operands) {
  return equation_of(node, operands).result_shape();
}

void einsum(KernelCall& call) {
  std::vector<Shape> shapes;
  for (const Tensor& operand : call.in) shapes.push_back(operand.shape());
  const Equation e = equation_of(call.node, shapes);
  const Shape output = e.result_shape();
  // Strides of every operand along every label; a repeated label follows the diagonal.
  std::vector<std::vector<std::int64_t>> steps;
  for (std::size_t i = 0; i < shapes.size(); ++i) {
    const std::vector<std::int64_t> strides = shapes[i].strides();
    std::vector<std::int64_t>& step = steps.emplace_back(e.extents.size(), 0);
    for (std::size_t axis = 0; axis < strides.size(); ++axis) {
      if (shapes[i][axis] == 1) continue;
      const auto label = std::ranges::find(e.extents, e.operands[i][axis], &std::pair<int, std::int64_t>::first);
      step[label - e.extents.begin()] += strides[axis];
    }
  }
  std::int64_t terms = 1;
  for (std::size_t k = e.output.size(); k < e.extents.size(); ++k) terms *= e.extents[k].second;

  const auto run = [&]<class W>() {
    std::vector<std::vector<W>> operands;
    for (const Tensor& operand : call.in) operands.push_back(load<W>(operand));
    std::vector<W> y(static_cast<std::size_t>(output.count()));
    std::vector<std::int64_t> position(e.extents.size()), offsets(operands.size());
    // The labels are incremented like an odometer, so that the summed ones, which are last, vary fastest.
    auto advance = [&] {
      for (std::size_t k = e.extents.size(); k-- > 0;) {
        const bool wraps = ++position[k] == e.extents[k].second;
        for (std::size_t i = 0; i < operands.size(); ++i)
          offsets[i] += wraps ? -steps[i][k] * (e.extents[k].second - 1) : steps[i][k];
        if (!wraps) return;
        position[k] = 0;
      }
    };
    for (W& sum : y) {
      for (std::int64_t t = 0; t < terms; ++t) {
        W product{1};
        for (std::size_t i = 0; i < operands.size(); ++i) product *= operands[i][offsets[i]];
        sum += product;
        advance();
      }
    }
    store(ensure_out(call, 0, call.in[0].dtype(), output), std::span<const W>(y));
  };
  // Integers wrap, as in MatMul.
  if (is_float(call.in[0].dtype()))
    run.template operator()<double>();
  else
    run.template operator()<std::uint64_t>();
}

// Gradient ------------------------------------------------------------------------------------------------------------

/// Replaces the labels of an equation by unique letters.
class Letters {
 public:
  std::string operator()(const Labels& labels) {
    std::string text;
    for (int label : labels) {
      auto it = std::ranges::find(known_, label);
      const auto index = static_cast<std::size_t>(it - known_.begin());
      if (it == known_.end()) known_.push_back(label);
      if (index >= kLetters.size())
        throw_input_error("an Einsum of at most 52 axes to train through", std::to_string(index + 1),
                          "split the equation");
      text += kLetters[index];
    }
    return text;
  }

 private:
  static constexpr std::string_view kLetters = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ";
  std::vector<int> known_;
};

Tensor unit_matrix(std::int64_t n) {
  Tensor eye(DType::f32, Shape{n, n});
  for (std::int64_t i = 0; i < n; ++i) eye.data<float>()[i * n + i] = 1;
  return eye;
}

Tensor ones(std::int64_t n) { return Tensor::of(std::vector<float>(static_cast<std::size_t>(n), 1)); }

/// The gradient of operand k: dy times all other operands, summed over the labels that k lacks. An axis that only k has
/// gets a vector of ones, a repeated label a unit matrix, so that the gradient is on the diagonal.
Expr operand_gradient(GradientContext& g, const Equation& e, std::size_t k) {
  constexpr int kRepeated = 512;
  const Shape shape = g.in(k).shape();
  std::vector<Expr> inputs{g.dy()};
  std::vector<Labels> terms{e.output};
  for (std::size_t i = 0; i < e.operands.size(); ++i) {
    if (i == k) continue;
    // Without the broadcast axes, so that every term has the full extent of its labels.
    const Shape whole = g.in(i).shape();
    std::vector<std::int64_t> dims;
    terms.emplace_back();
    for (std::size_t axis = 0; axis < whole.rank(); ++axis) {
      if (whole[axis] != e.full_extent(e.operands[i][axis])) continue;
      dims.push_back(whole[axis]);
      terms.back().push_back(e.operands[i][axis]);
    }
    inputs.push_back(g.b.reshape(g.in(i), Shape(std::move(dims))));
  }
  Labels result;
  auto add_constant = [&](const Tensor& tensor, Labels labels) {
    inputs.push_back(g.b.constant(convert(tensor, g.dy().dtype())));
    terms.push_back(std::move(labels));
  };
  for (std::size_t axis = 0; axis < shape.rank(); ++axis) {
    const int label = e.operands[k][axis];
    if (shape[axis] != e.full_extent(label)) continue;  // summed over, and restored by the reshape
    if (std::ranges::count(result, label) > 0) {
      result.push_back(kRepeated + static_cast<int>(axis));
      add_constant(unit_matrix(shape[axis]), {label, result.back()});
      continue;
    }
    result.push_back(label);
    const bool found = std::ranges::any_of(terms, [&](const Labels& l) { return std::ranges::count(l, label) > 0; });
    if (!found) add_constant(ones(shape[axis]), {label});
  }
  Letters letters;
  std::string equation;
  for (const Labels& term : terms) equation += letters(term) + ",";
  equation.pop_back();
  return g.b.reshape(g.b.op("Einsum", inputs, {{"equation", equation + "->" + letters(result)}}), shape);
}

std::vector<Expr> einsum_gradient(GradientContext& g) {
  std::vector<Shape> shapes;
  for (std::size_t i = 0; i < g.node.inputs.size(); ++i) shapes.push_back(g.in(i).shape());
  const Equation e = equation_of(g.node, shapes);
  std::vector<Expr> d(shapes.size());
  for (std::size_t k = 0; k < d.size(); ++k)
    if (g.wants(k)) d[k] = operand_gradient(g, e, k);
  return d;
}

}  // namespace

double einsum_cost(const CostCall& call) {
  std::vector<Shape> shapes;
  for (const ValueId in : call.node().inputs) shapes.push_back(call.graph()[in].shape);
  if (!std::ranges::all_of(shapes, &Shape::is_static)) return 0;
  double choices = 1;
  for (const auto& [label, extent] : equation_of(call.node(), shapes).extents) choices *= static_cast<double>(extent);
  return static_cast<double>(shapes.size()) * choices;
}

std::span<const OpDef> einsum_ops() {
  static const OpDef rows[] = {
      {.name = "Einsum",
       .precision = PrecisionClass::half,
       .traits = {.operands = OperandRoles::all(OperandRole::weight)},
       .reference = einsum,
       .gradient = einsum_gradient,
       .result_shape = einsum_shape,
       .cases =
           {{"(float[2,3] a, float[3,4] b) => (float[2,4] y) { y = Einsum<equation = \"ij,jk->ik\">(a, b) }"},
            {"(float[2,3,4] a, float[2,5,4] b) => (float[2,3,5] y) { y = Einsum<equation = \"bik, bjk\">(a, b) }"},
            {"(float[3,4] a) => (float[4,3] y) { y = Einsum<equation = \"ij->ji\">(a) }"},
            {"(float[3,4] a) => (float[3] y) { y = Einsum<equation = \"ij->i\">(a) }"},
            {"(float[2,3,3] a) => (float[2,3] y) { y = Einsum<equation = \"...ii->...i\">(a) }"},
            {"(float[3,3] a) => (float y) { y = Einsum<equation = \"ii\">(a) }"},
            {"(float[2,2,3] a, float[2,3,2] b) => (float[2,2,2] y) "
             "{ y = Einsum<equation = \"...ij,...jk->...ik\">(a, b) }"},
            {"(float[2,1,3] a, float[1,4,3] b) => (float[2,4] y) { y = Einsum<equation = \"...i,...i->...\">(a, b) }"},
            {"(float[2,3] a, float[3,4] b, float[4,2] c) => (float[2,2] y) "
             "{ y = Einsum<equation = \"ij,jk,kl->il\">(a, b, c) }"},
            {"(float[1,3] a, float[3,1] b) => (float y) { y = Einsum<equation = \"ij,ji->\">(a, b) }"},
            {"(float[2,1] a, float[3,4] b) => (float[2,4] y) { y = Einsum<equation = \"ij,jk->ik\">(a, b) }"},
            {"(float[2,1] a, float[2,4] b) => (float[2,4] y) { y = Einsum<equation = \"ij,ij->ij\">(a, b) }"},
            {"(float[1,3] a, float[2,3] b, float[1,1] c) => (float[2] y) "
             "{ y = Einsum<equation = \"bi,bi,bi->b\">(a, b, c) }"},
            {"(float a, float[3] b) => (float[3] y) { y = Einsum<equation = \",i->i\">(a, b) }"},
            {"(float[0,3] a, float[3] b) => (float[0] y) { y = Einsum<equation = \"ij,j->i\">(a, b) }"},
            {"() => (int32 y) <int32[3] a = {1, 2, -3}, int32[3] b = {4, 5, 6}> "
             "{ y = Einsum<equation = \"i,i\">(a, b) }"}},
       .note = "an axis of extent 1 is broadcast to the other extents of its label"},
  };
  return rows;
}

}  // namespace halfstep::ops
