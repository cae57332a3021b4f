// Formulas as text: a value is the name of a variable or a literal, an instruction a statement that defines the next.
#include <cmath>
#include <string>

#include <fmt/format.h>

#include "ops/elementwise/formula.h"

namespace halfstep::formulas {
namespace {

struct Body {
  std::string statements = {};
  int variables = 0;
};

/// A number or a mask. A literal has no body.
struct Text {
  Body* body = nullptr;
  std::string name;

  Text(Body* in, std::string what) : body(in), name(std::move(what)) {}
  Text(double literal) : name(fmt::format("{:.9e}f", static_cast<float>(literal))) {
    if (std::isinf(literal)) name = literal > 0 ? "(1.0f / 0.0f)" : "(-1.0f / 0.0f)";
  }
};

template <class... Operands>
Text define(const char* type, const std::string& expression, const Operands&... operands) {
  Body* body = nullptr;
  ((body = operands.body ? operands.body : body), ...);
  Text result(body, fmt::format("t{}", body->variables++));
  body->statements += fmt::format("  const {} {} = {};\n", type, result.name, expression);
  return result;
}
Text infix(const char* type, const Text& a, const char* op, const Text& b) {
  return define(type, fmt::format("{} {} {}", a.name, op, b.name), a, b);
}
template <class... Operands>
Text call(const char* function, const Text& a, const Operands&... rest) {
  std::string list = a.name;
  ((list += ", " + rest.name), ...);
  return define("float", fmt::format("{}({})", function, list), a, rest...);
}

#define HALFSTEP_TEXT_INFIX(op, type) \
  [[maybe_unused]] Text operator op(const Text& a, const Text& b) { return infix(type, a, #op, b); }
HALFSTEP_TEXT_INFIX(+, "float")
HALFSTEP_TEXT_INFIX(-, "float")
HALFSTEP_TEXT_INFIX(*, "float")
HALFSTEP_TEXT_INFIX(/, "float")
HALFSTEP_TEXT_INFIX(==, "bool")
HALFSTEP_TEXT_INFIX(!=, "bool")
HALFSTEP_TEXT_INFIX(<, "bool")
HALFSTEP_TEXT_INFIX(<=, "bool")
HALFSTEP_TEXT_INFIX(>, "bool")
HALFSTEP_TEXT_INFIX(>=, "bool")
HALFSTEP_TEXT_INFIX(&, "bool")
HALFSTEP_TEXT_INFIX(|, "bool")
HALFSTEP_TEXT_INFIX(^, "bool")
#undef HALFSTEP_TEXT_INFIX
Text operator-(const Text& x) { return define("float", "-" + x.name, x); }
Text operator!(const Text& x) { return define("bool", "!" + x.name, x); }
Text is_nan(const Text& x) { return x != x; }
Text select(const Text& mask, const Text& a, const Text& b) {
  return define("float", fmt::format("{} ? {} : {}", mask.name, a.name, b.name), mask, a, b);
}
Text mul_add(const Text& a, const Text& b, const Text& c) {
  return define("float", fmt::format("{} * {} + {}", a.name, b.name, c.name), a, b, c);
}

#define HALFSTEP_TEXT_CALL(name, function) \
  Text name(const Text& x) { return call(function, x); }
HALFSTEP_TEXT_CALL(abs, "fabsf")
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
Text pow(const Text& a, const Text& b) { return call("powf", a, b); }
Text fmod(const Text& a, const Text& b) { return call("fmodf", a, b); }
Text copysign(const Text& x, const Text& sign) { return call("copysignf", x, sign); }

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

std::string formula_text(Formula formula, std::string_view function, std::string_view qualifiers) {
  formulas::Body body;
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
        fmt::format("{}{} {}", i == 0 ? "" : ", ", def.row.on_truth ? "bool" : "float", static_cast<char>('a' + i));
  return fmt::format("{} {} {}({}) {{\n{}  return {};\n}}\n", qualifiers, def.gives_truth ? "bool" : "float", function,
                     arguments, body.statements, result);
}

}  // namespace halfstep::ops
