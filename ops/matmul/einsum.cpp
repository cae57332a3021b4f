// Einsum: its equation, its kernel, its gradient, which is also an Einsum, and its result by products of matrices.
#include <algorithm>
#include <cctype>
#include <functional>
#include <iterator>
#include <string>
#include <vector>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "ops/cost_rules.h"
#include "ops/families.h"
#include "ops/written_out.h"
#include <halfstep/base/error.h>
#include <halfstep/ops/kernel_util.h>

namespace halfstep::ops {
namespace {

/// Labels of the axes of a tensor, in order: letters, or kEllipsis + i for the i-th axis (from the back) of an
/// ellipsis.
using Labels = std::vector<int>;
constexpr int kEllipsis = 256;

/// An Einsum equation with every ellipsis expanded for operands of given shapes.
struct Equation {
  std::vector<Labels> operands;
  Labels output;
  /// Every label with its extent, the largest of its axes': those of the output, in order, then the summed ones.
  /// Unknown if an unknown axis may be larger than 1.
  std::vector<std::pair<int, std::int64_t>> extents;

  Equation(const std::string& text, std::span<const Shape> shapes);

  Shape result_shape() const {
    std::vector<std::int64_t> dims;
    for (std::size_t i = 0; i < output.size(); ++i) dims.push_back(extents[i].second);
    return Shape(std::move(dims));
  }
  std::int64_t& extent(int label) {
    auto it = std::ranges::find(extents, label, &std::pair<int, std::int64_t>::first);
    return it != extents.end() ? it->second : extents.emplace_back(label, 1).second;
  }
  /// The extent to which an axis of extent 1 with this label is broadcast.
  std::int64_t full_extent(int label) const {
    return std::ranges::find(extents, label, &std::pair<int, std::int64_t>::first)->second;
  }
};

[[noreturn]] void refuse(const std::string& required, const std::string& text, std::span<const Shape> shapes) {
  std::vector<std::string> found;
  for (const Shape& shape : shapes) found.push_back(shape.to_string());
  throw_input_error(required, fmt::format("'{}' on {}", text, fmt::join(found, ", ")), "correct the Einsum's equation");
}

Equation::Equation(const std::string& text, std::span<const Shape> shapes) {
  std::string packed = text;
  std::erase_if(packed, [](unsigned char c) { return std::isspace(c); });
  const std::size_t arrow = packed.find("->");
  std::vector<std::string> terms{""};
  for (char c : packed.substr(0, arrow)) {
    if (c == ',')
      terms.emplace_back();
    else
      terms.back() += c;
  }
  if (terms.size() != shapes.size()) refuse("one term of the equation for each operand", text, shapes);

  int ellipsis_rank = 0;
  // The labels of a term; its ellipsis represents `hidden` axes.
  auto labels_of = [&](const std::string& term, std::int64_t hidden) {
    Labels labels;
    bool has_ellipsis = false;
    for (std::size_t i = 0; i < term.size(); ++i) {
      if (std::isalpha(static_cast<unsigned char>(term[i]))) {
        labels.push_back(static_cast<unsigned char>(term[i]));
        continue;
      }
      if (term.compare(i, 3, "...") != 0 || has_ellipsis)
        refuse("letters and at most one '...' in each term of the equation", text, shapes);
      has_ellipsis = true;
      i += 2;
      for (auto k = static_cast<int>(hidden); k-- > 0;) labels.push_back(kEllipsis + k);
      ellipsis_rank = std::max(ellipsis_rank, static_cast<int>(hidden));
    }
    return labels;
  };
  for (std::size_t i = 0; i < terms.size(); ++i) {
    const auto rank = static_cast<std::int64_t>(shapes[i].rank());
    const bool has_ellipsis = terms[i].find('.') != std::string::npos;
    const std::int64_t letters = std::ranges::count_if(terms[i], [](unsigned char c) { return std::isalpha(c); });
    if (has_ellipsis ? letters > rank : letters != rank)
      refuse("as many labels in each term as its operand has axes", text, shapes);
    operands.push_back(labels_of(terms[i], rank - letters));
  }
  if (arrow != std::string::npos) {
    output = labels_of(packed.substr(arrow + 2), ellipsis_rank);
  } else {
    // Without an output term: the ellipsis, then the letters that occur once, in alphabetical order.
    for (int k = ellipsis_rank; k-- > 0;) output.push_back(kEllipsis + k);
    const std::string all = packed;
    for (int c = 'A'; c <= 'z'; ++c)
      if (std::isalpha(c) && std::ranges::count(all, static_cast<char>(c)) == 1) output.push_back(c);
  }

  for (int label : output) {
    const bool known = std::ranges::any_of(operands, [&](const Labels& l) { return std::ranges::count(l, label) > 0; });
    if (!known || std::ranges::count(output, label) > 1)
      refuse("output labels that stand in an operand, each once", text, shapes);
    extent(label);
  }
  for (std::size_t i = 0; i < operands.size(); ++i) {
    for (std::size_t axis = 0; axis < operands[i].size(); ++axis) {
      std::int64_t& known = extent(operands[i][axis]);
      const std::int64_t found = shapes[i][axis];
      if (found == 1 || found == known) continue;
      if (known == 1 || known == Shape::kUnknown)
        known = found;
      else if (found != Shape::kUnknown)
        refuse("one extent for each label, or 1", text, shapes);
    }
  }
}

Equation equation_of(const Node& node, std::span<const Shape> shapes) {
  return {node.attributes.get_string("equation", ""), shapes};
}

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

// By other operators --------------------------------------------------------------------------------------------------

/// A tensor and the labels of its axes, each of which stands once.
struct Term {
  Expr x;
  Labels labels;

  std::int64_t extent(int label) const { return x.shape()[std::ranges::find(labels, label) - labels.begin()]; }
  bool has(int label) const { return std::ranges::count(labels, label) > 0; }
};

Labels joined(std::initializer_list<Labels> parts) {
  Labels all;
  for (const Labels& part : parts) all.insert(all.end(), part.begin(), part.end());
  return all;
}

/// The term with its axes in another order; one that it has already costs nothing.
Expr in_order(const Term& term, const Labels& labels) {
  if (labels == term.labels) return term.x;
  std::vector<std::int64_t> perm;
  for (const int label : labels) perm.push_back(std::ranges::find(term.labels, label) - term.labels.begin());
  return term.x.builder().transpose(term.x, std::move(perm));
}

/// Without the axes that are broadcast to other extents.
Term without_broadcast(const Equation& e, Expr x, const Labels& labels) {
  Term term;
  std::vector<std::int64_t> extents;
  const Shape shape = x.shape();
  for (std::size_t axis = 0; axis < labels.size(); ++axis) {
    if (shape[axis] != e.full_extent(labels[axis])) continue;
    extents.push_back(shape[axis]);
    term.labels.push_back(labels[axis]);
  }
  term.x = extents.size() == shape.rank() ? x : x.builder().reshape(x, Shape(std::move(extents)));
  return term;
}

/// The diagonal along the axes of a repeated label: every (n + 1)th of the n * n elements of both.
void take_diagonals(Term& term) {
  for (std::size_t axis = 0; axis < term.labels.size(); ++axis) {
    const auto other =
        std::find(term.labels.begin() + static_cast<std::ptrdiff_t>(axis) + 1, term.labels.end(), term.labels[axis]);
    if (other == term.labels.end()) continue;
    std::vector<std::int64_t> perm, extents;
    Labels labels;
    const auto second = static_cast<std::size_t>(other - term.labels.begin());
    const Shape shape = term.x.shape();
    for (std::size_t i = 0; i < shape.rank(); ++i) {
      if (i == axis || i == second) continue;
      perm.push_back(static_cast<std::int64_t>(i));
      extents.push_back(shape[i]);
      labels.push_back(term.labels[i]);
    }
    const std::int64_t n = shape[axis];
    perm.insert(perm.end(), {static_cast<std::int64_t>(axis), static_cast<std::int64_t>(second)});
    extents.push_back(n * n);
    labels.push_back(term.labels[axis]);
    Builder& b = term.x.builder();
    const Expr last = b.ints({-1}), all = b.reshape(b.transpose(term.x, perm), Shape(std::move(extents)));
    term = {b.op("Slice", {all, b.ints({0}), b.ints({n * n}), last, b.ints({n + 1})}), std::move(labels)};
    axis = static_cast<std::size_t>(-1);
  }
}

/// Summed over the labels for which `stays` does not hold.
void sum_others(Term& term, const std::function<bool(int)>& stays) {
  std::vector<std::int64_t> axes;
  for (std::size_t axis = 0; axis < term.labels.size(); ++axis)
    if (!stays(term.labels[axis])) axes.push_back(static_cast<std::int64_t>(axis));
  if (axes.empty()) return;
  term.x = term.x.builder().reduce_sum(term.x, axes, false);
  std::erase_if(term.labels, [&](int label) { return !stays(label); });
}

/// The product of two terms, summed over the labels of both for which `stays` does not hold: one of matrices where
/// there are any, else of elements.
Term product(const Term& a, const Term& b, const std::function<bool(int)>& stays) {
  Labels batch, rows, columns, summed;
  for (const int label : a.labels) (!b.has(label) ? rows : stays(label) ? batch : summed).push_back(label);
  std::ranges::copy_if(b.labels, std::back_inserter(columns), [&](int label) { return !a.has(label); });
  const Labels labels = joined({batch, rows, columns});
  std::vector<std::int64_t> batches;
  for (const int label : batch) batches.push_back(a.extent(label));
  const auto shaped = [&](Expr x, std::initializer_list<std::int64_t> last) {
    std::vector<std::int64_t> extents = batches;
    extents.insert(extents.end(), last);
    const Shape shape(std::move(extents));
    return x.shape() == shape ? x : x.builder().reshape(x, shape);
  };
  const auto count = [](const Term& term, const Labels& of) {
    std::int64_t n = 1;
    for (const int label : of) n *= term.extent(label);
    return n;
  };
  Builder& builder = a.x.builder();
  const Expr left = in_order(a, joined({batch, rows, summed})), right = in_order(b, joined({batch, summed, columns}));
  const std::int64_t m = count(a, rows), k = count(a, summed), n = count(b, columns);
  if (summed.empty()) {
    if (rows.empty() && columns.empty()) return {left * right, labels};
    const Expr y = shaped(left, {m, 1}) * shaped(right, {1, n});
    std::vector<std::int64_t> extents = batches;
    for (const int label : rows) extents.push_back(a.extent(label));
    for (const int label : columns) extents.push_back(b.extent(label));
    return {builder.reshape(y, Shape(std::move(extents))), labels};
  }
  // Rows of several axes are those of one matrix already where no axis is of both.
  const bool is_plain = batch.empty() && summed.size() == 1 && !rows.empty();
  const Expr y = builder.op("MatMul", {is_plain ? left : shaped(left, {m, k}), shaped(right, {k, n})});
  if (is_plain && columns.size() == 1) return {y, labels};
  std::vector<std::int64_t> extents = batches;
  for (const int label : rows) extents.push_back(a.extent(label));
  for (const int label : columns) extents.push_back(b.extent(label));
  const Shape shape(std::move(extents));
  return {y.shape() == shape ? y : builder.reshape(y, shape), labels};
}

}  // namespace

Expr einsum_by_products(Builder& b, const Node& node) {
  std::vector<Shape> shapes;
  for (const ValueId in : node.inputs) shapes.push_back(b.graph()[in].shape);
  const bool is_known = std::ranges::all_of(shapes, [](const Shape& s) { return s.is_static() && s.count() > 0; });
  // MatMul of integers need not be the wrapping sum.
  if (!is_known || !is_float(b.graph()[node.inputs[0]].dtype)) return {};
  const Equation e = equation_of(node, shapes);
  std::vector<Term> terms;
  for (std::size_t i = 0; i < shapes.size(); ++i) {
    terms.push_back(without_broadcast(e, b.expr(node.inputs[i]), e.operands[i]));
    take_diagonals(terms.back());
  }
  const auto in_result = [&](int label) { return std::ranges::count(e.output, label) > 0; };
  for (std::size_t i = 0; i < terms.size(); ++i)
    sum_others(terms[i], [&](int label) {
      return in_result(label) || std::ranges::count_if(terms, [&](const Term& term) { return term.has(label); }) > 1;
    });
  Term result = std::move(terms.front());
  terms.erase(terms.begin());
  const auto stays_behind = [&](const Term& next) {
    return [&, taken = &next](int label) {
      return in_result(label) ||
             std::ranges::any_of(terms, [&](const Term& other) { return &other != taken && other.has(label); });
    };
  };
  const auto count_behind = [&](const Term& next) {
    const auto stays = stays_behind(next);
    double count = 1;
    for (const int label : result.labels)
      if (stays(label)) count *= static_cast<double>(result.extent(label));
    for (const int label : next.labels)
      if (!result.has(label)) count *= static_cast<double>(next.extent(label));
    return count;
  };
  // Each time the term with the smallest product: that of terms without a common axis may not even fit into memory.
  while (!terms.empty()) {
    const auto next = std::ranges::min_element(terms, {}, count_behind);
    result = product(result, *next, stays_behind(*next));
    terms.erase(next);
  }
  return in_order(result, e.output);
}

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
