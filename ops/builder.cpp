#include <fmt/format.h>

#include <halfstep/base/error.h>
#include <halfstep/ops/builder.h>
#include <halfstep/ops/infer.h>

namespace halfstep {

Builder& Expr::builder() const {
  if (!builder_ || id_ == kNoValue)
    throw_failure("an operand of a node", "none, where one was computed with", "this is a defect of a gradient rule");
  return *builder_;
}

DType Expr::dtype() const { return builder().graph()[id_].dtype; }
Shape Expr::shape() const { return builder().graph()[id_].shape; }

Expr operator+(Expr a, Expr b) { return a.builder().op("Add", {a, b}); }
Expr operator-(Expr a, Expr b) { return a.builder().op("Sub", {a, b}); }
Expr operator*(Expr a, Expr b) { return a.builder().op("Mul", {a, b}); }
Expr operator/(Expr a, Expr b) { return a.builder().op("Div", {a, b}); }
Expr operator-(Expr a) { return a.builder().op("Neg", {a}); }
Expr operator+(Expr a, double b) { return a + a.builder().scalar(b, a.dtype()); }
Expr operator-(Expr a, double b) { return a - a.builder().scalar(b, a.dtype()); }
Expr operator-(double a, Expr b) { return b.builder().scalar(a, b.dtype()) - b; }
Expr operator*(Expr a, double b) { return a * a.builder().scalar(b, a.dtype()); }
Expr operator/(Expr a, double b) { return a / a.builder().scalar(b, a.dtype()); }
Expr operator/(double a, Expr b) { return b.builder().scalar(a, b.dtype()) / b; }

Expr Builder::op(std::string_view type, std::vector<Expr> inputs, Attributes attributes) {
  return multi(type, kOnnxDomain, std::move(inputs), 1, std::move(attributes))[0];
}

Expr Builder::own(std::string_view type, std::vector<Expr> inputs, Attributes attributes) {
  return multi(type, kOwnDomain, std::move(inputs), 1, std::move(attributes))[0];
}

std::vector<Expr> Builder::multi(std::string_view type, std::string_view domain, std::vector<Expr> inputs,
                                 std::size_t outputs, Attributes attributes) {
  std::vector<ValueId> ids;
  ids.reserve(inputs.size());
  for (const Expr& input : inputs) ids.push_back(input.id());
  while (!ids.empty() && ids.back() == kNoValue) ids.pop_back();
  std::string name;
  if (!prefix_.empty())
    name = fmt::format("{}{}{}_{}", prefix_, prefix_.ends_with('.') ? "" : "/", type, graph_.next_node_id().index());
  const std::size_t index = graph_.add_node(type, domain, std::move(ids), outputs, std::move(attributes), name);
  graph_.edit(index)->forward = forward_;
  infer_node(graph_, graph_.nodes[index]);
  std::vector<Expr> result;
  for (ValueId id : graph_.nodes[index].outputs) result.push_back(expr(id));
  return result;
}

Expr Builder::constant(Tensor tensor, std::string_view name) {
  return expr(graph_.add_constant(name.empty() ? "const" : name, std::move(tensor)));
}

Expr Builder::scalar(double value, DType dtype) {
  auto [it, is_new] = scalars_.try_emplace({value, dtype}, kNoValue);
  if (is_new) it->second = constant(convert(Tensor::scalar(value), dtype)).id();
  return expr(it->second);
}

Expr Builder::ints(const std::vector<std::int64_t>& values) {
  auto [it, is_new] = ints_.try_emplace(values, kNoValue);
  if (is_new) it->second = constant(Tensor::of(values)).id();
  return expr(it->second);
}

Expr Builder::cast(Expr x, DType to) {
  return x.dtype() == to ? x : op("Cast", {x}, {{"to", static_cast<std::int64_t>(to)}});
}

Expr Builder::reshape(Expr x, const Shape& shape) {
  if (!shape.is_ranked())
    throw_failure("a shape of known rank", shape.to_string(), "this is a defect of the operator's inference");
  if (x.shape() == shape) return x;
  // Without allowzero, 0 would mean "copy the extent", and -1 cannot be used with it.
  return op("Reshape", {x, ints(shape.dims())}, {{"allowzero", std::int64_t{1}}});
}

Expr Builder::transpose(Expr x, std::vector<std::int64_t> perm) {
  return op("Transpose", {x}, {{"perm", std::move(perm)}});
}

Expr Builder::reduce_sum(Expr x, const std::vector<std::int64_t>& axes, bool keep_dims) {
  return op("ReduceSum", {x, ints(axes)}, {{"keepdims", std::int64_t{keep_dims}}});
}

Expr Builder::sum_to(Expr x, Shape shape) {
  const Shape from = x.shape();
  if (from == shape) return x;
  if (from.rank() < shape.rank())
    throw_failure("a gradient of at least its input's rank", from.to_string() + " for " + shape.to_string(),
                  "this is a defect of a gradient rule");
  const std::size_t lead = from.rank() - shape.rank();
  std::vector<std::int64_t> axes;
  for (std::size_t axis = 0; axis < from.rank(); ++axis)
    if (axis < lead || (shape[axis - lead] == 1 && from[axis] != 1)) axes.push_back(static_cast<std::int64_t>(axis));
  if (!axes.empty()) x = reduce_sum(x, axes, /*keep_dims=*/lead == 0);
  return reshape(x, shape);
}

Expr Builder::zeros_like(Expr x) { return constant(Tensor(x.dtype(), x.shape())); }

void Builder::set_context(std::string_view name_prefix, NodeId forward) {
  prefix_ = name_prefix;
  forward_ = forward;
}

}  // namespace halfstep
