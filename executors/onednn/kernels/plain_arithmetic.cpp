// Formulas on integers and bool: loops that are left to the compiler to vectorise.
#include <cstdint>
#include <type_traits>

#include "executors/onednn/kernels/element_function.h"
#include "executors/onednn/kernels/kernels.h"
#include "executors/onednn/simd/broadcast_rows.h"

namespace halfstep::onednn {
namespace {

using simd::PlainFn;

namespace formulas = halfstep::formulas;
using ops::Formula;

/// Of elements of type T; a formula of one operand sees it as `a`.
template <class F, class T>
auto value(T a, T b) {
  using V = std::conditional_t<F::row.on_truth, bool, formulas::Scalar<T>>;
  const auto in = [](T x) -> V {
    if constexpr (F::row.on_truth)
      return x;
    else
      return V::of(x);
  };
  const auto y = [&] {
    if constexpr (ops::count_arguments(&F::template of<V>) == 1)
      return F::of(in(a));
    else
      return F::of(in(a), in(b));
  }();
  if constexpr (std::is_same_v<std::remove_cv_t<decltype(y)>, formulas::Scalar<T>>)
    return y.raw;
  else
    return static_cast<bool>(y);
}

template <class F, class T>
void row(const void* a, std::int64_t step_a, const void* b, std::int64_t step_b, void* y, std::int64_t n) {
  using R = decltype(value<F, T>(T{}, T{}));
  const T *left = static_cast<const T*>(a), *right = static_cast<const T*>(b);
  const T value_of_left = *left, value_of_right = *right;
  R* to = static_cast<R*>(y);
  if (step_a && step_b) {
    for (std::int64_t i = 0; i < n; ++i) to[i] = value<F, T>(left[i], right[i]);
  } else if (step_a) {
    for (std::int64_t i = 0; i < n; ++i) to[i] = value<F, T>(left[i], value_of_right);
  } else {
    for (std::int64_t i = 0; i < n; ++i) to[i] = value<F, T>(value_of_left, right[i * step_b]);
  }
}

struct ByType {
  PlainFn i64 = nullptr, i32 = nullptr, boolean = nullptr;
};
template <class F>
constexpr ByType by_type_of(Formula formula) {
  ByType result;
  if constexpr (F::row.on_integers && !F::row.divides && F::row.count_parameters() == 0) {
    result.i64 = row<F, std::int64_t>;
    result.i32 = row<F, std::int32_t>;
    if (formula == Formula::Equal) result.boolean = row<F, std::uint8_t>;
  }
  if constexpr (F::row.on_truth) result.boolean = row<F, bool>;
  return result;
}

constexpr ByType kFunctions[] = {
#define HALFSTEP_PLAIN_FUNCTIONS(Name) by_type_of<formulas::Name>(Formula::Name),
    HALFSTEP_FORMULAS(HALFSTEP_PLAIN_FUNCTIONS)
#undef HALFSTEP_PLAIN_FUNCTIONS
};

}  // namespace

PlainFn plain_function(Formula formula, DType dtype) {
  const ByType& functions = kFunctions[static_cast<std::size_t>(formula)];
  switch (dtype) {
    case DType::i64:
      return functions.i64;
    case DType::i32:
      return functions.i32;
    case DType::boolean:
      return functions.boolean;
    default:
      return nullptr;
  }
}

Made make_plain_arithmetic(KernelContext& context) {
  const Value& x = context.in(0);
  const std::vector<ValueId>& inputs = context.node().inputs;
  const std::size_t second = inputs.size() == 2 && inputs[0] != inputs[1] ? 1 : 0;
  const ElementFunction element = element_function(context.graph(), context.node());
  const PlainFn function = element.refusal.empty() ? plain_function(element.def->formula, x.dtype) : nullptr;
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
