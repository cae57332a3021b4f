// Einsum by transpositions, sums and products of matrices.
#include <algorithm>
#include <functional>
#include <iterator>
#include <vector>

#include "ops/matmul/einsum_equation.h"
#include "ops/written_out.h"

namespace halfstep::ops {
namespace {

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

}  // namespace halfstep::ops
