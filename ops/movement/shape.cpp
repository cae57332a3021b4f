// Operators that read or change shapes without changing the elements.
#include <algorithm>

#include "ops/families.h"
#include "ops/family_parts.h"
#include "ops/onnx_row.h"
#include <halfstep/ops/kernel_util.h>

namespace halfstep::ops {
namespace {

using Gradients = std::vector<Expr>;

void copy_as(KernelCall& call, const Shape& shape) {
  if (shape.count() != call.in[0].count())
    throw_input_error(call.node.op + ": a shape of " + std::to_string(call.in[0].count()) + " elements",
                      shape.to_string(), "check the shapes fed to this operator");
  copy_elements(call.in[0], ensure_out(call, 0, call.in[0].dtype(), shape));
}

void reshape(KernelCall& call) {
  const Shape& from = call.in[0].shape();
  std::vector<std::int64_t> dims = to_int64s(call.in[1]);
  const bool allow_zero = call.node.attributes.get_int("allowzero", 0) != 0;
  std::ptrdiff_t inferred = -1;
  for (std::size_t i = 0; i < dims.size(); ++i) {
    if (dims[i] == 0 && !allow_zero && i < from.rank()) dims[i] = from[i];
    if (dims[i] >= 0) continue;
    if (dims[i] != -1 || inferred >= 0)
      throw_input_error("extents of at least 0 and at most one -1 in Reshape's shape", Shape(dims).to_string(),
                        "check the node's shape operand");
    inferred = static_cast<std::ptrdiff_t>(i);
  }
  if (inferred >= 0) {
    std::int64_t& extent = dims[inferred];
    extent = 1;
    const std::int64_t rest = Shape(dims).count();
    extent = rest == 0 ? 0 : from.count() / rest;
  }
  copy_as(call, Shape(std::move(dims)));
}

void flatten(KernelCall& call) {
  const Shape& from = call.in[0].shape();
  const std::int64_t given = call.node.attributes.get_int("axis", 1);
  // axis == rank is allowed: the first extent is then the product of all.
  const std::size_t axis =
      given == static_cast<std::int64_t>(from.rank()) ? from.rank() : normalize_axis(given, from.rank());
  copy_as(call, {from.count(0, axis), from.count(axis, from.rank())});
}

void squeeze(KernelCall& call) {
  const Shape& from = call.in[0].shape();
  std::vector<std::size_t> axes;
  if (call.has_in(1)) axes = normalize_axes(to_int64s(call.in[1]), from.rank());
  std::vector<std::int64_t> dims;
  for (std::size_t axis = 0; axis < from.rank(); ++axis) {
    const bool named = std::ranges::find(axes, axis) != axes.end();
    if (named && from[axis] != 1)
      throw_input_error("extent 1 along every squeezed axis", from.to_string() + " along axis " + std::to_string(axis),
                        "check the node's axes");
    if (!(named || (!call.has_in(1) && from[axis] == 1))) dims.push_back(from[axis]);
  }
  copy_as(call, Shape(std::move(dims)));
}

void unsqueeze(KernelCall& call) {
  const Shape& from = call.in[0].shape();
  const std::vector<std::int64_t> given = to_int64s(call.in[1]);
  const std::vector<std::size_t> axes = normalize_axes(given, from.rank() + given.size());
  std::vector<std::int64_t> dims(from.rank() + axes.size(), Shape::kUnknown);
  for (std::size_t axis : axes) dims[axis] = 1;
  auto next = from.begin();
  for (std::int64_t& extent : dims)
    if (extent == Shape::kUnknown) extent = *next++;
  copy_as(call, Shape(std::move(dims)));
}

void shape_of(KernelCall& call) {
  const Shape& from = call.in[0].shape();
  const auto rank = static_cast<std::int64_t>(from.rank());
  auto bound = [&](const char* name, std::int64_t fallback) {
    const std::int64_t given = call.node.attributes.get_int(name, fallback);
    return std::clamp(given < 0 ? given + rank : given, std::int64_t{0}, rank);
  };
  const std::int64_t start = bound("start", 0), end = std::max(start, bound("end", rank));
  Tensor& out = ensure_out(call, 0, DType::i64, {end - start});
  std::copy(from.begin() + start, from.begin() + end, out.data<std::int64_t>());
}

void size_of(KernelCall& call) { *ensure_out(call, 0, DType::i64, {}).data<std::int64_t>() = call.in[0].count(); }

Gradients reshape_gradient(GradientContext& g) { return {g.b.reshape(g.dy(), g.in(0).shape())}; }

std::vector<OpDef> reshape_rows() {
  using enum PrecisionClass;
  return {
      onnx_row("Reshape", neutral, {.movement = Movement::reshape}, reshape, reshape_gradient,
               {{"(float[2,3,4] x) => (float[4,6] y) <int64[2] s = {4, -1}> { y = Reshape(x, s) }"},
                {"(float[2,3,4] x) => (float[2,12] y) <int64[2] s = {0, 12}> { y = Reshape(x, s) }"},
                {"(float[1] x) => (float y) <int64[0] s = {}> { y = Reshape(x, s) }"},
                {"(float[0,3] x) => (float[3,0] y) <int64[2] s = {3, 0}> { y = Reshape<allowzero=1>(x, s) }"}}),
      onnx_row("Flatten", neutral, {.movement = Movement::reshape}, flatten, reshape_gradient,
               {{"(float[2,3,4] x) => (float[2,12] y) { y = Flatten(x) }"},
                {"(float[2,3,4] x) => (float[6,4] y) { y = Flatten<axis=-1>(x) }"},
                {"(float[2,3,4] x) => (float[24,1] y) { y = Flatten<axis=3>(x) }"},
                {"(float x) => (float[1,1] y) { y = Flatten<axis=0>(x) }"}}),
      onnx_row("Squeeze", neutral, {.movement = Movement::reshape}, squeeze, reshape_gradient,
               {{"(float[1,3,1] x) => (float[3] y) { y = Squeeze(x) }"},
                {"(float[1,3,1] x) => (float[1,3] y) <int64[1] axes = {-1}> { y = Squeeze(x, axes) }"}}),
      onnx_row("Unsqueeze", neutral, {.movement = Movement::reshape}, unsqueeze, reshape_gradient,
               {{"(float[2,3] x) => (float[1,2,3,1] y) <int64[2] axes = {0, -1}> { y = Unsqueeze(x, axes) }"},
                {"(float x) => (float[1] y) <int64[1] axes = {0}> { y = Unsqueeze(x, axes) }"}}),
      onnx_row("Shape", neutral, {.operands = {OperandRole::shape_only}}, shape_of, no_gradient,
               {{"(float[2,3,4] x) => (int64[3] y) { y = Shape(x) }", -2, 2, false},
                {"(float[2,3,4] x) => (int64[2] y) { y = Shape<start=-2>(x) }", -2, 2, false},
                {"(float[2,3,4] x) => (int64[1] y) { y = Shape<start=1, end=2>(x) }", -2, 2, false}}),
      onnx_row("Size", neutral, {.operands = {OperandRole::shape_only}}, size_of, no_gradient,
               {{"(float[2,3,4] x) => (int64 y) { y = Size(x) }", -2, 2, false},
                {"(float[0,3] x) => (int64 y) { y = Size(x) }", -2, 2, false}}),
  };
}

}  // namespace

std::span<const OpDef> shape_ops() {
  static const std::vector<OpDef> rows = join({reshape_rows(), generator_rows(), random_rows(), movement_rows(),
                                               slicing_rows(), resize_rows(), indexing_rows()});
  return rows;
}

}  // namespace halfstep::ops
