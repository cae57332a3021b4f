#include "ops/elementwise/formula.h"

#include <algorithm>
#include <type_traits>
#include <utility>
#include <variant>

#include <fmt/format.h>

#include "ops/elementwise/cast.h"
#include "ops/onnx_row.h"
#include <halfstep/base/error.h>
#include <halfstep/ops/kernel_util.h>

namespace halfstep::ops {
namespace {

using formulas::Scalar;

template <class F, class W>
W of(const W* arguments) {
  using V = std::conditional_t<F::row.on_truth, bool, Scalar<W>>;
  constexpr std::size_t count = count_arguments(&F::template of<V>);
  const auto argument = [&](std::size_t i) -> V {
    if constexpr (F::row.on_truth)
      return arguments[i] != 0;
    else
      return V::of(arguments[i]);
  };
  const auto result = [&]<std::size_t... i>(std::index_sequence<i...>) { return F::of(argument(i)...); }
  (std::make_index_sequence<count>());
  if constexpr (std::is_same_v<std::remove_cv_t<decltype(result)>, Scalar<W>>)
    return result.raw;
  else
    return static_cast<W>(static_cast<bool>(result));
}

template <class F>
constexpr FormulaDef define(Formula formula) {
  FormulaDef def{.formula = formula, .row = F::row, .parameters = F::row.count_parameters()};
  if constexpr (F::row.on_truth) {
    def.operands = count_arguments(&F::template of<bool>);
    def.gives_truth = true;
  } else {
    using R = decltype(&F::template of<Scalar<double>>);
    def.operands = count_arguments(R{}) - def.parameters;
    def.on_floats = of<F, double>;
    def.gives_truth = []<class Result, class... A>(Result (*)(A...)) {
      return !std::is_same_v<Result, Scalar<double>>;
    }(R{});
  }
  if constexpr (F::row.on_integers) def.on_signed = of<F, std::int64_t>;
  if constexpr (F::row.on_integers || F::row.on_truth) def.on_unsigned = of<F, std::uint64_t>;
  return def;
}

constexpr FormulaDef kFormulas[] = {
#define HALFSTEP_FORMULA_DEF(Name) define<formulas::Name>(Formula::Name),
    HALFSTEP_FORMULAS(HALFSTEP_FORMULA_DEF)
#undef HALFSTEP_FORMULA_DEF
};

bool holds(const FormulaVariant& variant, const Attributes& attributes) {
  if (variant.attribute.empty()) return true;
  const Attribute* given = attributes.find(variant.attribute);
  if (!given) return false;
  if (const auto* number = std::get_if<std::int64_t>(given)) return *number != 0;
  const auto* text = std::get_if<std::string>(given);
  return text && *text == variant.text;
}

/// An operand and where its elements are for those of the result.
template <class W>
struct Operand {
  std::vector<W> elements;
  BroadcastOffsets offset;

  W at(std::int64_t i) const { return elements[offset(i)]; }
};

/// Integers cannot be divided by 0, and 0 has no power below 0.
template <class W>
void require_divisor(const FormulaDef& def, W a, W b) {
  if (!def.row.divides || (def.formula == Formula::Pow ? b >= 0 || a != 0 : b != 0)) return;
  throw_input_error("integer divisors other than 0", "a 0", "check the divisor fed to the model");
}

/// As the kernels of other operators read elements, and 8-bit floats too, in double.
template <class W>
std::vector<W> elements_of(const Tensor& tensor) {
  if constexpr (std::is_same_v<W, double>)
    return decode(tensor);
  else
    return load<W>(tensor);
}

template <class W>
W only_element(const Tensor& tensor, std::string_view op) {
  if (tensor.count() != 1)
    throw_input_error(fmt::format("a bound of {} with one element", op), "shape " + tensor.shape().to_string(),
                      "bounds are the same for all elements");
  return load<W>(tensor)[0];
}

template <class W>
void run(const FormulaDef& def, FormulaDef::Of<W> of, KernelCall& call) {
  if (!of)
    throw_input_error("a type that the operator computes in", std::string(name_of(call.in[0].dtype())), "cast it");
  // Min and Max take any number of operands; their formula, two.
  const std::size_t operands = def.row.parameters[0].operand < 0 ? call.in.size() : def.operands;
  Shape shape = call.in[0].shape();
  for (std::size_t k = 1; k < operands; ++k) shape = broadcast(shape, call.in[k].shape());
  std::vector<Operand<W>> read;
  for (std::size_t k = 0; k < operands; ++k)
    read.push_back({elements_of<W>(call.in[k]), BroadcastOffsets(call.in[k].shape(), shape)});
  std::array<W, 4> arguments{};
  for (std::size_t p = 0; p < def.parameters; ++p) {
    const FormulaParameter& each = def.row.parameters[p];
    W& value = arguments[def.operands + p];
    const auto operand = static_cast<std::size_t>(each.operand);
    if (each.operand < 0)
      value = static_cast<W>(parameter(def, p, call.node.attributes));
    else if (call.has_in(operand))
      value = only_element<W>(call.in[operand], def.row.op);
    else if constexpr (std::is_floating_point_v<W>)
      value = each.fallback;
    else
      value = each.fallback < 0 ? std::numeric_limits<W>::lowest() : std::numeric_limits<W>::max();
  }
  std::vector<W> y(static_cast<std::size_t>(shape.count()));
  for (std::size_t i = 0; i < y.size(); ++i) {
    const auto index = static_cast<std::int64_t>(i);
    for (std::size_t k = 0; k < def.operands && k < operands; ++k) arguments[k] = read[k].at(index);
    if constexpr (std::is_integral_v<W>) require_divisor(def, arguments[0], arguments[1]);
    y[i] = operands < def.operands ? arguments[0] : of(arguments.data());
    for (std::size_t k = def.operands; k < operands; ++k) {
      arguments = {y[i], read[k].at(index)};
      y[i] = of(arguments.data());
    }
  }
  const DType to = def.gives_truth ? DType::boolean : call.in[0].dtype();
  store(ensure_out(call, 0, to, shape), std::span(std::as_const(y)));
}

}  // namespace

std::span<const FormulaDef> all_formulas() { return kFormulas; }

const FormulaDef& def_of(Formula formula) { return kFormulas[static_cast<std::size_t>(formula)]; }

const FormulaDef* find_formula(std::string_view op, std::string_view domain, const Attributes& attributes) {
  const FormulaDef* found = std::find_if(std::begin(kFormulas), std::end(kFormulas), [&](const FormulaDef& def) {
    return def.row.op == op && def.domain() == domain && holds(def.row.variant, attributes);
  });
  return found == std::end(kFormulas) ? nullptr : found;
}

float parameter(const FormulaDef& def, std::size_t i, const Attributes& attributes) {
  const FormulaParameter& parameter = def.row.parameters[i];
  const Attribute* given = attributes.find(parameter.name);
  if (given && std::holds_alternative<std::int64_t>(*given))
    return static_cast<float>(attributes.get_int(parameter.name, 0));
  return attributes.get_float(parameter.name, parameter.fallback);
}

double evaluate(Formula formula, std::initializer_list<double> arguments) {
  return def_of(formula).on_floats(arguments.begin());
}

void run_formula(KernelCall& call) {
  const FormulaDef* def = find_formula(call.node);
  if (!def)
    throw_failure("an operator with a formula", std::string(call.node.op), "add it to ops/elementwise/formulas-inl.h");
  // Pow's exponent may have another type.
  const DType dtypes[] = {call.in[0].dtype(), call.in[call.has_in(1) ? 1 : 0].dtype()};
  const auto is_any = [&](auto is) { return is(dtypes[0]) || is(dtypes[1]); };
  if (!def->on_unsigned || is_any([](DType d) { return is_float(d); })) return run<double>(*def, def->on_floats, call);
  if (is_any([](DType d) { return is_integer(d) && !is_unsigned(d); }))
    return run<std::int64_t>(*def, def->on_signed, call);
  run<std::uint64_t>(*def, def->on_unsigned, call);
}

OpDef formula_row(std::string_view name, PrecisionClass precision, const OpTraits& traits, GradientRule gradient,
                  std::vector<OpCase> cases, std::string_view note) {
  return onnx_row(name, precision, traits, run_formula, gradient, std::move(cases), note);
}

}  // namespace halfstep::ops
