// Formulas as text: a value is the name of a variable or a literal, an instruction a statement that defines the next.
#include <cmath>
#include <string>

#include <fmt/format.h>

#include "ops/elementwise/formula.h"

namespace halfstep::formulas {
namespace {

struct Body {
  const ops::FormulaNumber& number;
  std::string statements = {};
  int variables = 0;
};

/// A number or a mask: a variable of a body, or a literal, which has no body.
struct Text {
  Body* body = nullptr;
  std::string name = {};
  double literal = 0;

  Text(Body* in, std::string what) : body(in), name(std::move(what)) {}
  Text(double value) : literal(value) {}
};

std::string written(const Text& x, const ops::FormulaNumber& number) {
  if (x.body) return x.name;
  if (number.is_integer()) return fmt::format("{}", static_cast<std::int64_t>(x.literal));
  if (std::isinf(x.literal)) return x.literal > 0 ? "(1.0f / 0.0f)" : "(-1.0f / 0.0f)";
  return fmt::format("{:.9e}f", static_cast<float>(x.literal));
}

/// A variable of the type with the value of the expression: {0}, {1} ... are operands, T the type of numbers and U that
/// of integers that wrap around.
template <class... Operands>
Text define(std::string_view type, std::string_view expression, const Operands&... operands) {
  Body* body = nullptr;
  ((body = operands.body ? operands.body : body), ...);
  const ops::FormulaNumber& number = body->number;
  Text result(body, fmt::format("t{}", body->variables++));
  body->statements += fmt::format("  const {} {} = {};\n", type.empty() ? number.name : type, result.name,
                                  fmt::format(fmt::runtime(expression), written(operands, number)...,
                                              fmt::arg("T", number.name), fmt::arg("U", number.wrapping)));
  return result;
}
/// One expression for floats, another one for integers.
template <class... Operands>
Text number(std::string_view of_floats, std::string_view of_integers, const Operands&... operands) {
  bool is_integer = false;
  ((is_integer = is_integer || (operands.body && operands.body->number.is_integer())), ...);
  return define("", is_integer ? of_integers : of_floats, operands...);
}

[[maybe_unused]] Text operator+(const Text& a, const Text& b) {
  return number("{} + {}", "({T})(({U}){0} + ({U}){1})", a, b);
}
[[maybe_unused]] Text operator-(const Text& a, const Text& b) {
  return number("{} - {}", "({T})(({U}){0} - ({U}){1})", a, b);
}
[[maybe_unused]] Text operator*(const Text& a, const Text& b) {
  return number("{} * {}", "({T})(({U}){0} * ({U}){1})", a, b);
}
Text operator-(const Text& x) { return number("-{}", "({T})(0 - ({U}){0})", x); }
Text operator/(const Text& a, const Text& b) {
  return number("{} / {}", "{1} == 0 ? 0 : {1} == -1 ? ({T})(0 - ({U}){0}) : {0} / {1}", a, b);
}
#define HALFSTEP_TEXT_TRUTH(op) \
  [[maybe_unused]] Text operator op(const Text& a, const Text& b) { return define("bool", "{} " #op " {}", a, b); }
HALFSTEP_TEXT_TRUTH(==)
HALFSTEP_TEXT_TRUTH(!=)
HALFSTEP_TEXT_TRUTH(<)
HALFSTEP_TEXT_TRUTH(<=)
HALFSTEP_TEXT_TRUTH(>)
HALFSTEP_TEXT_TRUTH(>=)
HALFSTEP_TEXT_TRUTH(&)
HALFSTEP_TEXT_TRUTH(|)
HALFSTEP_TEXT_TRUTH(^)
#undef HALFSTEP_TEXT_TRUTH
Text operator!(const Text& x) { return define("bool", "!{}", x); }
Text is_nan(const Text& x) { return define("bool", x.body->number.is_integer() ? "false" : "{0} != {0}", x); }
Text select(const Text& mask, const Text& a, const Text& b) { return define("", "{} ? {} : {}", mask, a, b); }
Text mul_add(const Text& a, const Text& b, const Text& c) { return define("", "{} * {} + {}", a, b, c); }

Text abs(const Text& x) { return number("fabsf({})", "{0} < 0 ? ({T})(0 - ({U}){0}) : {0}", x); }
Text fmod(const Text& a, const Text& b) {
  return number("fmodf({}, {})", "{1} == 0 || {1} == -1 ? 0 : {0} % {1}", a, b);
}
Text copysign(const Text& x, const Text& sign) { return number("copysignf({}, {})", "{0}", x, sign); }
/// Of integers by squaring; a negative exponent gives the truncated reciprocal.
Text pow(const Text& a, const Text& b) {
  if (!a.body->number.is_integer()) return define("", "powf({}, {})", a, b);
  const Text is_one = a == 1, is_unit = is_one | (a == -1);
  Body& body = *a.body;
  const std::string power = fmt::format("t{}", body.variables++), base = fmt::format("t{}", body.variables++);
  body.statements += fmt::format(
      "  {0} {1} = 1, {2} = ({0}){3};\n"
      "  for ({0} e = ({0})({4} < 0 ? {4} & 1 : {4}); e > 0; e >>= 1, {2} *= {2})\n    if (e & 1) {1} *= {2};\n",
      body.number.wrapping, power, base, a.name, b.name);
  return select((b < 0) & !is_unit, 0, define("", "({T}){}", Text(&body, power)));
}

#define HALFSTEP_TEXT_CALL(name, function) \
  Text name(const Text& x) { return define("", function "({})", x); }
HALFSTEP_TEXT_CALL(floor, "floorf")
HALFSTEP_TEXT_CALL(ceil, "ceilf")
HALFSTEP_TEXT_CALL(round, "rintf")
HALFSTEP_TEXT_CALL(sqrt, "sqrtf")
HALFSTEP_TEXT_CALL(exp, "expf")
HALFSTEP_TEXT_CALL(moderate_exp, "expf")
HALFSTEP_TEXT_CALL(expm1, "expm1f")
HALFSTEP_TEXT_CALL(expm1_negative, "expm1f")
HALFSTEP_TEXT_CALL(log, "logf")
HALFSTEP_TEXT_CALL(log1p_unit, "log1pf")
HALFSTEP_TEXT_CALL(erf, "erff")
HALFSTEP_TEXT_CALL(tanh, "tanhf")
HALFSTEP_TEXT_CALL(sin, "sinf")
HALFSTEP_TEXT_CALL(cos, "cosf")
HALFSTEP_TEXT_CALL(tan, "tanf")
HALFSTEP_TEXT_CALL(asin, "asinf")
HALFSTEP_TEXT_CALL(acos, "acosf")
HALFSTEP_TEXT_CALL(atan, "atanf")
HALFSTEP_TEXT_CALL(sinh, "sinhf")
HALFSTEP_TEXT_CALL(cosh, "coshf")
HALFSTEP_TEXT_CALL(asinh, "asinhf")
HALFSTEP_TEXT_CALL(acosh, "acoshf")
HALFSTEP_TEXT_CALL(atanh, "atanhf")
#undef HALFSTEP_TEXT_CALL

template <class... A>
Text apply(Text (*of)(A...), Body& body) {
  return [&]<std::size_t... i>(std::index_sequence<i...>) {
    return of(Text(&body, std::string(1, static_cast<char>('a' + i)))...);
  }
  (std::make_index_sequence<sizeof...(A)>());
}

}  // namespace
}  // namespace halfstep::formulas

namespace halfstep::ops {

std::string formula_text(Formula formula, std::string_view function, std::string_view qualifiers,
                         const FormulaNumber& number) {
  formulas::Body body{number};
  std::string result;
  switch (formula) {
#define HALFSTEP_FORMULA_TEXT(Name)                                                    \
  case Formula::Name:                                                                  \
    result = formulas::apply(&formulas::Name::template of<formulas::Text>, body).name; \
    break;
    HALFSTEP_FORMULAS(HALFSTEP_FORMULA_TEXT)
#undef HALFSTEP_FORMULA_TEXT
  }
  const FormulaDef& def = def_of(formula);
  std::string arguments;
  for (std::size_t i = 0; i < def.operands + def.parameters; ++i)
    arguments +=
        fmt::format("{}{} {}", i == 0 ? "" : ", ", def.row.on_truth ? "bool" : number.name, static_cast<char>('a' + i));
  return fmt::format("{} {} {}({}) {{\n{}  return {};\n}}\n", qualifiers, def.gives_truth ? "bool" : number.name,
                     function, arguments, body.statements, result);
}

}  // namespace halfstep::ops
