#include "executors/onednn/kernels/zero_flow.h"

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <type_traits>
#include <utility>

namespace halfstep::formulas {
namespace {

/// A number as a formula meets it, as far as it is known: 0, some finite number but 0, or any.
struct Known {
  enum class Kind : std::uint8_t { zero, finite, any } kind = Kind::any;

  Known(double literal) : kind(literal == 0 ? Kind::zero : std::isfinite(literal) ? Kind::finite : Kind::any) {}
  Known(Kind known) : kind(known) {}
  bool is_zero() const { return kind == Kind::zero; }
  bool is_finite() const { return kind == Kind::finite; }
};
using Kind = Known::Kind;

/// A comparison's result, where it is known.
struct Truth {
  std::optional<bool> value;
};
[[maybe_unused]] Truth operator|(Truth a, Truth b) {
  if (a.value == true || b.value == true) return {true};
  return a.value && b.value ? Truth{false} : Truth{};
}
[[maybe_unused]] Truth operator&(Truth a, Truth b) {
  if (a.value == false || b.value == false) return {false};
  return a.value && b.value ? Truth{true} : Truth{};
}
[[maybe_unused]] Truth operator^(Truth a, Truth b) {
  return a.value && b.value ? Truth{*a.value != *b.value} : Truth{};
}

Known operator+(Known a, Known b) { return a.is_zero() ? b : b.is_zero() ? a : Known(Kind::any); }
Known operator-(Known x) { return x; }
Known operator-(Known a, Known b) { return a + b; }
Known operator*(Known a, Known b) {
  const bool is_zero = (a.is_zero() && b.kind != Kind::any) || (b.is_zero() && a.kind != Kind::any);
  return is_zero ? Kind::zero : Kind::any;  // a product of others may be 0, or infinite
}
Known operator/(Known a, Known b) { return a.is_zero() && b.is_finite() ? Kind::zero : Kind::any; }

/// Of what is equal: two zeros alone.
Truth compared(Known a, Known b, bool of_equal) { return a.is_zero() && b.is_zero() ? Truth{of_equal} : Truth{}; }
Truth operator==(Known a, Known b) {
  const bool differ = (a.is_zero() && b.is_finite()) || (a.is_finite() && b.is_zero());
  return differ ? Truth{false} : compared(a, b, true);
}
[[maybe_unused]] Truth operator!=(Known a, Known b) {
  const Truth equal = a == b;
  return equal.value ? Truth{!*equal.value} : equal;
}
Truth operator<(Known a, Known b) { return compared(a, b, false); }
Truth operator>(Known a, Known b) { return compared(a, b, false); }
Truth operator<=(Known a, Known b) { return compared(a, b, true); }
Truth operator>=(Known a, Known b) { return compared(a, b, true); }
Truth is_nan(Known x) { return x.kind == Kind::any ? Truth{} : Truth{false}; }

Known select(Truth mask, Known a, Known b) {
  if (mask.value) return *mask.value ? a : b;
  return a.kind == b.kind ? a : Known(Kind::any);
}
Known mul_add(Known a, Known b, Known c) { return a * b + c; }
Known abs(Known x) { return x; }
Known copysign(Known x, Known) { return x; }
Known fmod(Known a, Known b) { return a / b; }
Known pow(Known, Known) { return Kind::any; }

#define HALFSTEP_KEEPS_ZERO(name) \
  [[maybe_unused]] Known name(Known x) { return x.is_zero() ? Kind::zero : Kind::any; }
#define HALFSTEP_GIVES_ANY(name) \
  [[maybe_unused]] Known name(Known) { return Kind::any; }
HALFSTEP_KEEPS_ZERO(floor)
HALFSTEP_KEEPS_ZERO(ceil)
HALFSTEP_KEEPS_ZERO(round)
HALFSTEP_KEEPS_ZERO(sqrt)
HALFSTEP_KEEPS_ZERO(expm1)
HALFSTEP_KEEPS_ZERO(expm1_negative)
HALFSTEP_KEEPS_ZERO(log1p_unit)
HALFSTEP_KEEPS_ZERO(erf)
HALFSTEP_KEEPS_ZERO(tanh)
HALFSTEP_KEEPS_ZERO(sin)
HALFSTEP_KEEPS_ZERO(tan)
HALFSTEP_KEEPS_ZERO(asin)
HALFSTEP_KEEPS_ZERO(atan)
HALFSTEP_KEEPS_ZERO(sinh)
HALFSTEP_KEEPS_ZERO(asinh)
HALFSTEP_KEEPS_ZERO(atanh)
HALFSTEP_GIVES_ANY(exp)
HALFSTEP_GIVES_ANY(moderate_exp)
HALFSTEP_GIVES_ANY(log)
HALFSTEP_GIVES_ANY(cos)
HALFSTEP_GIVES_ANY(acos)
HALFSTEP_GIVES_ANY(cosh)
HALFSTEP_GIVES_ANY(acosh)
#undef HALFSTEP_KEEPS_ZERO
#undef HALFSTEP_GIVES_ANY

/// Of 0, a scalar, and parameters that may be anything.
template <class F>
bool keeps_zero() {
  if constexpr (!F::row.on_truth) {
    return []<class R, class... A>(R (*of)(A...)) {
      if constexpr (std::is_same_v<R, Known> && sizeof...(A) >= 2)
        return [&]<std::size_t... i>(std::index_sequence<i...>) {
          return of(Kind::zero, Kind::finite, ((void)i, Known(Kind::any))...).is_zero();
        }
      (std::make_index_sequence<sizeof...(A) - 2>());
      else return false;
    }(&F::template of<Known>);
  }
  return false;
}

}  // namespace
}  // namespace halfstep::formulas

namespace halfstep::onednn {

bool keeps_zero_beside_scalar(const ops::FormulaDef& def) {
  if (def.operands != 2) return false;
  switch (def.formula) {
#define HALFSTEP_FORMULA_KEEPS_ZERO(Name) \
  case ops::Formula::Name:                \
    return formulas::keeps_zero<formulas::Name>();
    HALFSTEP_FORMULAS(HALFSTEP_FORMULA_KEEPS_ZERO)
#undef HALFSTEP_FORMULA_KEEPS_ZERO
  }
  return false;
}

}  // namespace halfstep::onednn
