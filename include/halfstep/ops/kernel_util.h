// Helpers of reference kernels: reading operands in a wide type, writing results, iterating over broadcast shapes.
#pragma once

#include <array>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include <halfstep/base/api.h>
#include <halfstep/base/visit.h>
#include <halfstep/graph/tensor.h>
#include <halfstep/ops/op_def.h>

namespace HALFSTEP_API halfstep {
namespace ops {

/// Rounds `values` to out's element type (floats, integers saturating, bool) and writes them.
void store(Tensor& out, std::span<const double> values);
/// The same from integers: exact where the value fits, otherwise the low bits (two's complement).
void store(Tensor& out, std::span<const std::int64_t> values);
void store(Tensor& out, std::span<const std::uint64_t> values);

/// All elements in a wide type: double, int64_t or uint64_t.
template <class W>
std::vector<W> load(const Tensor& tensor);
template <>
std::vector<double> load<double>(const Tensor& tensor);
template <>
std::vector<std::int64_t> load<std::int64_t>(const Tensor& tensor);
template <>
std::vector<std::uint64_t> load<std::uint64_t>(const Tensor& tensor);

/// u8, u16, u32, u64.
bool is_unsigned(DType dtype);

/// Calls `f.template operator()<W>()` with the type in which reference kernels compute for `dtype`: double for floats,
/// uint64_t for unsigned integers and bool, int64_t for signed integers. Throws Error for any other type.
template <class F>
decltype(auto) visit_wide(DType dtype, F&& f) {
  if (is_float(dtype)) return f.template operator()<double>();
  if (is_unsigned(dtype) || dtype == DType::boolean) return f.template operator()<std::uint64_t>();
  if (is_integer(dtype)) return f.template operator()<std::int64_t>();
  throw_input_error("a numeric element type", std::string(name_of(dtype)), "convert the tensor first");
}

/// Calls `f.template operator()<S>()` with a copyable type of the size of an element of `dtype` (std::string for
/// strings), for kernels that only move elements. Throws Error for packed 4- and 2-bit types.
template <class F>
decltype(auto) visit_storage(DType dtype, F&& f) {
  using Complex128 = std::array<std::uint64_t, 2>;
  if (dtype == DType::string) return f.template operator()<std::string>();
  switch (bits_of(dtype)) {
    case 8:
      return f.template operator()<std::uint8_t>();
    case 16:
      return f.template operator()<std::uint16_t>();
    case 32:
      return f.template operator()<std::uint32_t>();
    case 64:
      return f.template operator()<std::uint64_t>();
    case 128:
      return f.template operator()<Complex128>();
    default:
      throw_input_error("elements of whole bytes", std::string(name_of(dtype)), "cast the tensor first");
  }
}

/// out[i], allocated with this dtype and shape unless it already has them.
Tensor& ensure_out(KernelCall& call, std::size_t i, DType dtype, const Shape& shape);

/// Copies the elements of `from` to `to`, which has the same dtype and count; shapes may differ.
void copy_elements(const Tensor& from, Tensor& to);

/// The single element of a tensor of any shape as int64. Throws Error naming `what` unless there is exactly one.
std::int64_t single_int(const Tensor& tensor, const char* what);

/// Converts `axes` to non-negative axes, in order. Throws Error if one is out of range or repeated.
std::vector<std::size_t> normalize_axes(const std::vector<std::int64_t>& axes, std::size_t rank);

/// Elements of input i of a node under differentiation. Throws Error unless the input is a constant.
std::vector<std::int64_t> constant_ints(const GradientContext& g, std::size_t i);

/// Offsets into an operand of shape `operand` that is broadcast to shape `result`, one for each element of `result`.
/// The stride is 0 along axes that the operand lacks or has with extent 1.
class BroadcastOffsets {
 public:
  BroadcastOffsets(const Shape& operand, const Shape& result);
  /// Offset for the element of `result` with this row-major index.
  std::int64_t operator()(std::int64_t index) const {
    std::int64_t offset = 0;
    for (std::size_t axis = extents_.size(); axis-- > 0;) {
      offset += index % extents_[axis] * steps_[axis];
      index /= extents_[axis];
    }
    return offset;
  }

 private:
  std::vector<std::int64_t> extents_, steps_;
};

/// A tensor as [outer, extent, inner] around one axis, for softmax, cumulative sums and arg-max.
struct AxisView {
  std::int64_t outer, extent, inner;

  AxisView(const Shape& shape, std::size_t axis)
      : outer(shape.count(0, axis)), extent(shape[axis]), inner(shape.count(axis + 1, shape.rank())) {}

  /// Calls f(offset of the first element, stride between elements) for every line along the axis.
  template <class F>
  void for_each_line(F&& f) const {
    for (std::int64_t o = 0; o < outer; ++o)
      for (std::int64_t i = 0; i < inner; ++i) f(o * extent * inner + i, inner);
  }
};

/// out[0][i] = f(in[0][i]), computed in W, stored with element type `to`.
template <class W, class F>
void map_unary(KernelCall& call, DType to, F f) {
  using R = decltype(f(W{}));
  const std::vector<W> x = load<W>(call.in[0]);
  std::vector<std::conditional_t<std::is_same_v<R, bool>, std::uint64_t, R>> y(x.size());
  for (std::size_t i = 0; i < x.size(); ++i) y[i] = f(x[i]);
  store(ensure_out(call, 0, to, call.in[0].shape()), std::span(std::as_const(y)));
}

/// out[0] = f(in[0], in[1]) with broadcasting, computed in W, stored with element type `to`.
template <class W, class F>
void map_binary(KernelCall& call, DType to, F f) {
  using R = decltype(f(W{}, W{}));
  const Shape shape = broadcast(call.in[0].shape(), call.in[1].shape());
  const BroadcastOffsets a_offset(call.in[0].shape(), shape), b_offset(call.in[1].shape(), shape);
  const std::vector<W> a = load<W>(call.in[0]), b = load<W>(call.in[1]);
  std::vector<std::conditional_t<std::is_same_v<R, bool>, std::uint64_t, R>> y(static_cast<std::size_t>(shape.count()));
  for (std::size_t i = 0; i < y.size(); ++i) {
    const auto index = static_cast<std::int64_t>(i);
    y[i] = f(a[a_offset(index)], b[b_offset(index)]);
  }
  store(ensure_out(call, 0, to, shape), std::span(std::as_const(y)));
}

}  // namespace ops
}  // namespace halfstep
