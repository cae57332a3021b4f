// Comparisons, logic, and arithmetic on integers: loops that are left to the compiler to vectorise.
#include <algorithm>
#include <cmath>
#include <string_view>
#include <type_traits>

#include "executors/onednn/kernels/element_function.h"
#include "executors/onednn/kernels/kernels.h"
#include "executors/onednn/simd/broadcast_rows.h"

namespace halfstep::onednn {
namespace {

using simd::PlainFn;

template <class T, class R, class F>
void row(const void* a, std::int64_t step_a, const void* b, std::int64_t step_b, void* y, std::int64_t n) {
  const T *left = static_cast<const T*>(a), *right = static_cast<const T*>(b);
  const T value_of_left = *left, value_of_right = *right;
  R* to = static_cast<R*>(y);
  if (step_a && step_b) {
    for (std::int64_t i = 0; i < n; ++i) to[i] = F{}(left[i], right[i]);
  } else if (step_a) {
    for (std::int64_t i = 0; i < n; ++i) to[i] = F{}(left[i], value_of_right);
  } else {
    for (std::int64_t i = 0; i < n; ++i) to[i] = F{}(value_of_left, right[i * step_b]);
  }
}

/// Signed overflow wraps, as in the reference.
template <class F>
struct Wrapping {
  template <class T>
  T operator()(T a, T b) const {
    using Unsigned = std::make_unsigned_t<T>;
    return static_cast<T>(F{}(static_cast<Unsigned>(a), static_cast<Unsigned>(b)));
  }
};
struct Smaller {
  template <class T>
  T operator()(T a, T b) const {
    return std::min(a, b);
  }
};
struct Larger {
  template <class T>
  T operator()(T a, T b) const {
    return std::max(a, b);
  }
};
// Operators of one operand see it twice.
struct IsNaN {
  bool operator()(float a, float) const { return std::isnan(a); }
};
struct Not {
  bool operator()(bool a, bool) const { return !a; }
};

struct Row {
  std::string_view op;
  PlainFn i64 = nullptr, i32 = nullptr, f32 = nullptr, boolean = nullptr;
};
using I64 = std::int64_t;
using I32 = std::int32_t;

template <class F>
constexpr Row arithmetic(std::string_view op) {
  return {op, row<I64, I64, F>, row<I32, I32, F>};
}
template <class F>
constexpr Row comparison(std::string_view op) {
  return {op, row<I64, bool, F>, row<I32, bool, F>, row<float, bool, F>};
}
template <class F>
constexpr Row logic(std::string_view op) {
  return {op, nullptr, nullptr, nullptr, row<bool, bool, F>};
}

constexpr Row kRows[] = {
    arithmetic<Wrapping<std::plus<>>>("Add"),
    arithmetic<Wrapping<std::minus<>>>("Sub"),
    arithmetic<Wrapping<std::multiplies<>>>("Mul"),
    arithmetic<Smaller>("Min"),
    arithmetic<Larger>("Max"),
    {"Equal", row<I64, bool, std::equal_to<>>, row<I32, bool, std::equal_to<>>, row<float, bool, std::equal_to<>>,
     row<bool, bool, std::equal_to<>>},
    comparison<std::less<>>("Less"),
    comparison<std::greater<>>("Greater"),
    comparison<std::less_equal<>>("LessOrEqual"),
    comparison<std::greater_equal<>>("GreaterOrEqual"),
    logic<std::logical_and<>>("And"),
    logic<std::logical_or<>>("Or"),
    logic<std::not_equal_to<>>("Xor"),
    logic<Not>("Not"),
    {"IsNaN", nullptr, nullptr, row<float, bool, IsNaN>},
};

}  // namespace

PlainFn plain_function(std::string_view op, DType dtype) {
  const Row* found = std::find_if(std::begin(kRows), std::end(kRows), [&](const Row& r) { return r.op == op; });
  if (found == std::end(kRows)) return nullptr;
  switch (dtype) {
    case DType::i64:
      return found->i64;
    case DType::i32:
      return found->i32;
    case DType::f32:
      return found->f32;
    case DType::boolean:
      return found->boolean;
    default:
      return nullptr;
  }
}

Made make_plain_arithmetic(KernelContext& context) {
  const Value& x = context.in(0);
  const std::size_t operands = context.node().inputs.size(), second = operands == 2 ? 1 : 0;
  const PlainFn function = operands <= 2 ? plain_function(context.node().op, x.dtype) : nullptr;
  if (!function) return refuse("no native loop for this type or number of operands");
  const simd::Broadcast walk(context.out(0).shape.dims(), {x.shape.dims(), context.in(second).shape.dims()});
  if (!walk.valid()) return refuse("broadcasting over too many axes");
  const Operand a = context.read(0, Layout()), b = second ? context.read(1, Layout()) : a;
  const Operand y = context.out(0).dtype == x.dtype && x.shape == context.out(0).shape ? context.write_over(0, a)
                                                                                       : context.write(0, Layout());
  const std::size_t in_bytes = bytes_of(x.dtype, 1), out_bytes = bytes_of(context.out(0).dtype, 1);
  const auto bytes = walk.size() * static_cast<std::int64_t>(2 * in_bytes + out_bytes);
  return {"native", {}, [=](const Memory& memory) -> Run {
            return [=, left = memory.at(a), right = memory.at(b), to = memory.at(y)] {
              const std::int64_t step_a = walk.moves(0), step_b = walk.moves(1);
              simd::for_row_pieces(walk, 8192, bytes, [&](const simd::RowPiece& piece) {
                function(simd::at(left, piece.offsets[0] + step_a * piece.begin, in_bytes), step_a,
                         simd::at(right, piece.offsets[1] + step_b * piece.begin, in_bytes), step_b,
                         simd::at(to, piece.result, out_bytes), piece.count);
              });
            };
          }};
}

}  // namespace halfstep::onednn
