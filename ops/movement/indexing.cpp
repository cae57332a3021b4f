// Operators that read or write elements at data-dependent positions: Gather, Scatter and related ones.

#include "ops/family_parts.h"
#include "ops/magnitude.h"
#include "ops/movement/index_map.h"
#include "ops/onnx_row.h"
#include "ops/schemas.h"
#include <halfstep/ops/kernel_util.h>

namespace halfstep::ops {
namespace {

using Gradients = std::vector<Expr>;

std::size_t axis_of(const KernelCall& call, std::size_t rank) {
  return normalize_axis(call.node.attributes.get_int("axis", 0), rank);
}

/// Extents [0, first) of a, all of b, and extents [last, rank) of a.
Shape spliced(const Shape& a, std::size_t first, std::size_t last, const std::vector<std::int64_t>& b) {
  std::vector<std::int64_t> dims(a.begin(), a.begin() + static_cast<std::ptrdiff_t>(first));
  dims.insert(dims.end(), b.begin(), b.end());
  dims.insert(dims.end(), a.begin() + static_cast<std::ptrdiff_t>(last), a.end());
  return Shape(std::move(dims));
}

void gather(KernelCall& call) {
  const Tensor &data = call.in[0], &indices = call.in[1];
  const std::size_t axis = axis_of(call, data.shape().rank());
  const Shape shape = spliced(data.shape(), axis, axis + 1, indices.shape().dims());
  take(data, gather_map(data.shape(), axis, indices), ensure_out(call, 0, data.dtype(), shape));
}

void gather_grad(KernelCall& call) {
  const Tensor &dy = call.in[0], &indices = call.in[1];
  const Shape shape(call.node.attributes.get_ints("input_shape"));
  const std::size_t axis = axis_of(call, shape.rank());
  const Shape expected = spliced(shape, axis, axis + 1, indices.shape().dims());
  if (dy.shape() != expected)
    throw_input_error("a gradient of shape " + expected.to_string(), dy.shape().to_string(),
                      "check GatherGrad's operands");
  const IndexMap map = gather_map(shape, axis, indices);
  const std::vector<double> values = to_doubles(dy);
  std::vector<double> dx(static_cast<std::size_t>(shape.count()));
  for (std::size_t i = 0; i < map.size(); ++i) dx[map[i]] += values[i];
  store(ensure_out(call, 0, dy.dtype(), shape), std::span<const double>(dx));
}

void gather_elements(KernelCall& call) {
  const Tensor &data = call.in[0], &indices = call.in[1];
  const IndexMap map = gather_elements_map(data.shape(), axis_of(call, data.shape().rank()), indices);
  take(data, map, ensure_out(call, 0, data.dtype(), indices.shape()));
}

/// Shape of the parts of data selected by `indices` (of GatherND or ScatterND).
Shape addressed(const Shape& data, std::int64_t batch_dims, const Shape& indices) {
  const std::size_t tuple = indices.rank() - 1;
  const auto depth = static_cast<std::size_t>(batch_dims + indices[tuple]);
  std::vector<std::int64_t> dims(indices.begin(), indices.end() - 1);
  return spliced(data, 0, depth, dims);
}

void gather_nd(KernelCall& call) {
  const Tensor &data = call.in[0], &indices = call.in[1];
  const std::int64_t batch_dims = call.node.attributes.get_int("batch_dims", 0);
  const IndexMap map = gather_nd_map(data.shape(), batch_dims, indices);  // checks the shapes
  take(data, map, ensure_out(call, 0, data.dtype(), addressed(data.shape(), batch_dims, indices.shape())));
}

/// out[0] = data with `updates` written at the positions of the map, combined according to the attribute `reduction`.
void scatter(KernelCall& call, const IndexMap& map) {
  const Tensor &data = call.in[0], &updates = call.in[2];
  const std::string reduction = call.node.attributes.get_string("reduction", "none");
  Tensor& out = ensure_out(call, 0, data.dtype(), data.shape());
  if (reduction == "none") {
    copy_elements(data, out);
    put(updates, map, out);
    return;
  }
  visit_wide(data.dtype(), [&]<class W>() {
    std::vector<W> values = load<W>(data);
    const std::vector<W> given = load<W>(updates);
    auto combine = [&](auto f) {
      for (std::size_t i = 0; i < map.size(); ++i) {
        W& value = values[map[i]];
        value = f(value, given[i]);
      }
    };
    // Sums and products of integers wrap; computed unsigned, because signed overflow is undefined in C++.
    using Modular = std::conditional_t<std::is_integral_v<W>, std::uint64_t, W>;
    auto modular = [](W x) { return static_cast<Modular>(x); };
    if (reduction == "add")
      combine([&](W a, W b) { return static_cast<W>(modular(a) + modular(b)); });
    else if (reduction == "mul")
      combine([&](W a, W b) { return static_cast<W>(modular(a) * modular(b)); });
    else if (reduction == "max")
      combine([](W a, W b) { return a != a || a > b ? a : b; });
    else if (reduction == "min")
      combine([](W a, W b) { return a != a || a < b ? a : b; });
    else
      throw_input_error("the reduction none, add, mul, max or min", "'" + reduction + "'", "check the node");
    store(out, std::span<const W>(values));
  });
}

void require_updates(const KernelCall& call, const Shape& expected) {
  if (call.in[2].shape() != expected)
    throw_input_error(call.node.op + ": updates of shape " + expected.to_string(), call.in[2].shape().to_string(),
                      "check the shapes fed to this operator");
}

void scatter_elements(KernelCall& call) {
  const Shape& shape = call.in[0].shape();
  require_updates(call, call.in[1].shape());
  scatter(call, gather_elements_map(shape, axis_of(call, shape.rank()), call.in[1]));
}

void scatter_nd(KernelCall& call) {
  const IndexMap map = gather_nd_map(call.in[0].shape(), 0, call.in[1]);  // checks the shapes
  require_updates(call, addressed(call.in[0].shape(), 0, call.in[1].shape()));
  scatter(call, map);
}

Gradients gather_gradient(GradientContext& g) {
  return {g.b.own("GatherGrad", {g.dy(), g.in(1)},
                  {{"axis", g.node.attributes.get_int("axis", 0)}, {"input_shape", g.in(0).shape().dims()}})};
}

Gradients gather_elements_gradient(GradientContext& g) {
  return {g.b.op("ScatterElements", {g.b.zeros_like(g.in(0)), g.in(1), g.dy()},
                 {{"axis", g.node.attributes.get_int("axis", 0)}, {"reduction", "add"}})};
}

/// GatherND's indices with the batch coordinates prepended to each tuple, so that batch_dims may be 0.
Expr without_batch(GradientContext& g, std::size_t batch_dims) {
  if (batch_dims == 0) return g.in(1);
  Shape shape = g.in(1).shape();
  const std::int64_t per_batch = shape.count(batch_dims, shape.rank() - 1);
  shape[shape.rank() - 1] = static_cast<std::int64_t>(batch_dims);
  Tensor coordinates(DType::i64, shape);
  auto* to = coordinates.data<std::int64_t>();
  for (std::int64_t batch = 0; batch < shape.count(0, batch_dims); ++batch)
    for (std::int64_t i = 0; i < per_batch; ++i)
      for (std::size_t axis = 0; axis < batch_dims; ++axis)
        *to++ = batch / shape.count(axis + 1, batch_dims) % shape[axis];
  return g.b.op("Concat", {g.b.constant(coordinates), g.in(1)}, {{"axis", std::int64_t{-1}}});
}

Gradients gather_nd_gradient(GradientContext& g) {
  const auto batch_dims = static_cast<std::size_t>(g.node.attributes.get_int("batch_dims", 0));
  return {g.b.op("ScatterND", {g.b.zeros_like(g.in(0)), without_batch(g, batch_dims), g.dy()}, {{"reduction", "add"}})};
}

/// For ScatterElements with `read` GatherElements, for ScatterND with GatherND.
Gradients scatter_gradient(GradientContext& g, std::string_view read, const Attributes& place) {
  const Expr data = g.in(0), indices = g.in(1), updates = g.in(2), y = g.out(0);
  const std::string reduction = g.node.attributes.get_string("reduction", "none");
  auto at = [&](Expr x) { return g.b.op(read, {x, indices}, place); };
  auto write = [&](Expr x, Expr at_places, const char* how) {
    Attributes attributes = place;
    attributes.set("reduction", how);
    return g.b.op(g.node.op, {x, indices, at_places}, attributes);
  };
  if (reduction == "none") return {write(g.dy(), g.b.zeros_like(updates), "none"), Expr(), at(g.dy())};
  Gradients result;
  if (reduction == "add") {
    result = {g.dy(), Expr(), at(g.dy())};
  } else if (reduction == "mul") {
    result = {write(g.dy(), updates, "mul"), Expr(), Expr()};
    if (g.wants(2)) {
      // The product of the others is y over the update. Where that is 0 it is the product of those that are not, if it
      // is the only 0.
      const Expr zero = g.b.scalar(0, y.dtype()), one = g.b.scalar(1, y.dtype());
      const auto where = [&](Expr which, Expr a, Expr b) { return g.b.op("Where", {which, a, b}); };
      const Expr is_zero = g.b.op("Equal", {updates, zero});
      const Expr factors = where(is_zero, one, updates);
      const Expr zeros = write(g.b.zeros_like(data), g.b.cast(is_zero, y.dtype()), "add");
      const Expr rest = where(g.b.op("Equal", {zeros, one}), write(data, factors, "mul"), zero);
      result[2] = where(is_zero, at(g.dy() * rest), at(g.dy() * y) / factors);
    }
  } else {
    const DType dtype = y.dtype();
    const Expr from_data = g.b.cast(g.b.op("Equal", {data, y}), dtype);
    const Expr from_updates = g.b.cast(g.b.op("Equal", {updates, at(y)}), dtype);
    const Expr share = g.dy() / write(from_data, from_updates, "add");
    result = {share * from_data, Expr(), at(share) * from_updates};
  }
  return result;
}
Gradients scatter_elements_gradient(GradientContext& g) {
  return scatter_gradient(g, "GatherElements", {{"axis", g.node.attributes.get_int("axis", 0)}});
}
Gradients scatter_nd_gradient(GradientContext& g) { return scatter_gradient(g, "GatherND", {}); }

constexpr std::string_view kScatterNote =
    "mul: the gradient of an update that is not 0 divides by it; max, min: ties split evenly; none: the last of "
    "several updates of "
    "one element is written, and all of them get its gradient";

}  // namespace

std::vector<OpDef> indexing_rows() {
  using enum PrecisionClass;
  return {
      onnx_row("Gather", neutral, {.operands = {OperandRole::table}, .magnitude = magnitude::same}, gather,
               gather_gradient,
               {{"(float[4,3] x) => (float[2,3] y) <int64[2] i = {2, 0}> { y = Gather(x, i) }"},
                {"(float[2,4,3] x) => (float[2,2,2,3] y) <int64[2,2] i = {0, -1, 3, 3}> { y = Gather<axis=-2>(x, i) }"},
                {"(float[4,3] x) => (float[4] y) <int32 i = {1}> { y = Gather<axis=1>(x, i) }"},
                {"(float[4,3] x) => (float[0,3] y) <int64[0] i = {}> { y = Gather(x, i) }"},
                {"() => (int64 y) <int64[3] x = {5, 6, 7}, int64 i = {1}> { y = Gather(x, i) }"}}),
      onnx_row("GatherElements", neutral, {.operands = {OperandRole::source}}, gather_elements,
               gather_elements_gradient,
               {{"(float[3,2] x) => (float[2,2] y) <int64[2,2] i = {1, 2, 0, -1}> { y = GatherElements(x, i) }"},
                {"(float[2,3] x) => (float[2,4] y) <int64[2,4] i = {1, 1, 0, 2, 2, 2, 0, 0}>"
                 " { y = GatherElements<axis=-1>(x, i) }"}}),
      onnx_row("GatherND", neutral, {.operands = {OperandRole::source}}, gather_nd, gather_nd_gradient,
               {{"(float[2,3] x) => (float[3] y) <int64[3,2] i = {0, 0, 1, -1, 0, 0}> { y = GatherND(x, i) }"},
                {"(float[2,3,4] x) => (float[2,4] y) <int64[2,2] i = {0, 1, 1, 2}> { y = GatherND(x, i) }"},
                {"(float[2,3,4] x) => (float[2,4] y) <int64[2,1] i = {2, 0}> { y = GatherND<batch_dims=1>(x, i) }"}}),
      {.name = "ScatterElements",
       .precision = neutral,
       .reference = scatter_elements,
       .gradient = scatter_elements_gradient,
       .cases = {{"(float[3,2] x, float[2,2] u) => (float[3,2] y) <int64[2,2] i = {1, 2, 0, -2}>"
                  " { y = ScatterElements(x, i, u) }"},
                 {"(float[2,3] x, float[2,2] u) => (float[2,3] y) <int64[2,2] i = {1, 1, 0, -1}>"
                  " { y = ScatterElements<axis=1, reduction=\"add\">(x, i, u) }"},
                 {"(float[2,3] x, float[2,2] u) => (float[2,3] y) <int64[2,2] i = {1, 1, 0, 2}>"
                  " { y = ScatterElements<axis=1, reduction=\"mul\">(x, i, u) }",
                  0.5, 2},
                 {"(float[2,3] x, float[2,2] u) => (float[2,3] y) <int64[2,2] i = {1, 1, 0, 2}>"
                  " { y = ScatterElements<axis=1, reduction=\"max\">(x, i, u) }"},
                 {"(float[2,3] x, float[2,2] u) => (float[2,3] y) <int64[2,2] i = {1, 1, 0, 2}>"
                  " { y = ScatterElements<axis=1, reduction=\"min\">(x, i, u) }"}},
       .variations = {.keep_integers = true},
       .note = kScatterNote},
      {.name = "ScatterND",
       .precision = neutral,
       .reference = scatter_nd,
       .gradient = scatter_nd_gradient,
       .cases = {{"(float[4,3] x, float[2,3] u) => (float[4,3] y) <int64[2,1] i = {3, 1}> { y = ScatterND(x, i, u) }"},
                 {"(float[2,3] x, float[3] u) => (float[2,3] y) <int64[3,2] i = {0, 0, 1, 2, 0, 0}>"
                  " { y = ScatterND<reduction=\"add\">(x, i, u) }"},
                 {"(float[2,3] x, float[2] u) => (float[2,3] y) <int64[2,2] i = {0, 0, 1, -1}>"
                  " { y = ScatterND<reduction=\"max\">(x, i, u) }"}},
       .variations = {.keep_integers = true},
       .note = kScatterNote},
      {.name = "GatherGrad",
       .domain = kOwnDomain,
       .precision = neutral,
       .reference = gather_grad,
       .cases = {{"(float[2,3] dy) => (float[4,3] dx) <int64[2] i = {2, 2}>"
                  " { dx = ai.halfstep.GatherGrad<input_shape=[4,3]>(dy, i) }"},
                 {"(float[2,2,2,3] dy) => (float[2,4,3] dx) <int64[2,2] i = {0, -1, 3, 3}>"
                  " { dx = ai.halfstep.GatherGrad<axis=1, input_shape=[2,4,3]>(dy, i) }"}},
       .schema = gather_grad_schema},
  };
}

}  // namespace halfstep::ops
