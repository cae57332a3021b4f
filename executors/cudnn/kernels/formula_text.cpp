#include "executors/cudnn/kernels/formula_text.h"

#include <algorithm>
#include <bit>
#include <cctype>

#include <fmt/format.h>

#include <halfstep/base/dtype.h>
#include <halfstep/ops/op_def.h>

namespace halfstep::cudnn {
namespace {

/// The types of the first operand that a text is for.
enum class For { floats, integers, numbers, truths, all };

bool holds(For types, DType t) {
  const bool is_whole = t == DType::i32 || t == DType::i64;
  const bool is_real = t == DType::f32 || t == DType::f16 || t == DType::bf16;
  switch (types) {
    case For::floats:
      return is_real;
    case For::integers:
      return is_whole;
    case For::numbers:
      return is_real || is_whole;
    case For::truths:
      return t == DType::boolean;
    case For::all:
      return is_real || is_whole || t == DType::boolean;
  }
  return false;
}

/// An attribute that a text names as $name.
struct Number {
  std::string_view name;
  float fallback;
};

struct Row {
  std::string_view op;
  For types;
  std::string_view text;
  std::vector<Number> numbers = {};
};

const std::vector<Row>& rows() {
  using enum For;
  static const std::vector<Row> table = {
      {"Relu", numbers, "relu($0)"},
      {"LeakyRelu", floats, "$0 < 0 ? $alpha * $0 : $0", {{"alpha", 0.01F}}},
      {"Elu", floats, "$0 < 0 ? $alpha * expm1f($0) : $0", {{"alpha", 1}}},
      {"Selu",
       floats,
       "$gamma * ($0 > 0 ? $0 : $alpha * expm1f($0))",
       {{"alpha", 1.67326319F}, {"gamma", 1.05070102F}}},
      {"Celu", floats, "$0 > 0 ? $0 : $alpha * expm1f($0 / $alpha)", {{"alpha", 1}}},
      {"ThresholdedRelu", floats, "$0 <= $alpha ? 0.0f : $0", {{"alpha", 1}}},
      {"HardSigmoid", floats, "between_0_and_1($alpha * $0 + $beta)", {{"alpha", 0.2F}, {"beta", 0.5F}}},
      {"HardSwish", floats, "$0 * between_0_and_1($0 / 6.0f + 0.5f)"},
      {"Sigmoid", floats, "logistic($0)"},
      {"Tanh", floats, "tanhf($0)"},
      {"Softplus", floats, "softplus($0)"},
      {"Softsign", floats, "$0 / (1.0f + fabsf($0))"},
      {"Mish", floats, "$0 * tanhf(softplus($0))"},
      {"Swish", floats, "$0 * logistic($alpha * $0)", {{"alpha", 1}}},
      {"Shrink",
       floats,
       "$0 < -$lambd ? $0 + $bias : $0 > $lambd ? $0 - $bias : $0 != $0 ? $0 : 0.0f",
       {{"lambd", 0.5F}, {"bias", 0}}},
      {"ReluGrad", floats, "$1 <= 0 ? 0.0f : $0"},
      {"Neg", numbers, "negate($0)"},
      {"Abs", numbers, "absolute($0)"},
      {"Sign", numbers, "sign($0)"},
      {"Sqrt", floats, "sqrtf($0)"},
      {"Reciprocal", floats, "1.0f / $0"},
      {"Exp", floats, "expf($0)"},
      {"Log", floats, "logf($0)"},
      {"Floor", floats, "floorf($0)"},
      {"Ceil", floats, "ceilf($0)"},
      {"Round", floats, "rintf($0)"},
      {"Erf", floats, "erff($0)"},
      {"IsNaN", floats, "$0 != $0"},
      {"IsInf",
       floats,
       "is_infinite($0) && ($0 > 0 ? $detect_positive : $detect_negative) != 0",
       {{"detect_positive", 1}, {"detect_negative", 1}}},
      {"Not", truths, "!$0"},
      {"Sin", floats, "sinf($0)"},
      {"Cos", floats, "cosf($0)"},
      {"Tan", floats, "tanf($0)"},
      {"Asin", floats, "asinf($0)"},
      {"Acos", floats, "acosf($0)"},
      {"Atan", floats, "atanf($0)"},
      {"Sinh", floats, "sinhf($0)"},
      {"Cosh", floats, "coshf($0)"},
      {"Asinh", floats, "asinhf($0)"},
      {"Acosh", floats, "acoshf($0)"},
      {"Atanh", floats, "atanhf($0)"},
      {"BitwiseNot", integers, "~$0"},
      {"Cast", all, "$0"},
      {"CastLike", all, "$0"},
      {"Add", numbers, "add($0, $1)"},
      {"Sub", numbers, "sub($0, $1)"},
      {"Mul", numbers, "mul($0, $1)"},
      {"Div", numbers, "divide($0, $1)"},
      {"PRelu", numbers, "$0 < 0 ? mul($0, $1) : $0"},
      {"Where", truths, "$0 ? $1 : $2"},
      {"And", truths, "$0 && $1"},
      {"Or", truths, "$0 || $1"},
      {"Xor", truths, "$0 != $1"},
      {"Equal", all, "$0 == $1"},
      {"Greater", numbers, "$0 > $1"},
      {"GreaterOrEqual", numbers, "$0 >= $1"},
      {"Less", numbers, "$0 < $1"},
      {"LessOrEqual", numbers, "$0 <= $1"},
      {"BitwiseAnd", integers, "$0 & $1"},
      {"BitwiseOr", integers, "$0 | $1"},
      {"BitwiseXor", integers, "$0 ^ $1"},
  };
  return table;
}

/// f(f($0, $1), $2) and so on.
std::string folded(std::string_view function, std::size_t operands) {
  std::string text = "$0";
  for (std::size_t i = 1; i < operands; ++i) text = fmt::format("{}({}, ${})", function, text, i);
  return text;
}

bool is_whole(DType t) { return t == DType::i32 || t == DType::i64; }

/// Texts that depend on more than the first operand's type.
std::string composed(const Graph& graph, const Node& node, DType type) {
  const std::size_t operands = node.inputs.size();
  const auto has = [&](std::size_t i) { return node.input(i) != kNoValue; };
  const bool is_tanh = node.attributes.get_string("approximate", "none") == "tanh";
  if (!holds(For::numbers, type)) return {};
  if (node.op == "Min") return folded("smaller", operands);
  if (node.op == "Max") return folded("larger", operands);
  if (node.op == "Mod")
    return node.attributes.get_int("fmod", 0) ? "remainder_of($0, $1)" : "floored_remainder($0, $1)";
  if (node.op == "Pow") {
    const DType exponent = graph[node.inputs[1]].dtype;
    return is_whole(type) && is_whole(exponent) ? "integer_power($0, $1)" : "powf((float)$0, (float)$1)";
  }
  if (node.op == "Clip") {
    std::string text = "$0";
    if (has(1)) text = "($0 < $1 ? $1 : $0)";
    if (has(2)) text = fmt::format("({0} > $2 ? $2 : {0})", text);  // the upper bound wins when they cross
    return text;
  }
  if (!holds(For::floats, type)) return {};
  if (node.op == "Sum") return folded("add", operands);
  if (node.op == "Mean") return fmt::format("({}) / {}.0f", folded("add", operands), operands);
  if (node.op == "ClipGrad") {
    std::string text = "$0";
    if (has(2)) text = fmt::format("$1 < $2 ? 0.0f : {}", text);
    if (has(3)) text = fmt::format("$1 > $3 ? 0.0f : {}", text);
    return text;
  }
  if (node.op == "Gelu") return is_tanh ? "gelu_tanh($0)" : "gelu($0)";
  if (node.op == "GeluGrad") return is_tanh ? "$0 * gelu_tanh_slope($1)" : "$0 * gelu_slope($1)";
  return {};
}

/// A float that reads back as it is.
std::string literal(float x) { return fmt::format("bits_to_float(0x{:08x}u)", std::bit_cast<std::uint32_t>(x)); }

std::string replaced(std::string text, const std::string& from, const std::string& to) {
  for (std::size_t at = 0; (at = text.find(from, at)) != std::string::npos; at += to.size())
    text.replace(at, from.size(), to);
  return text;
}

float number_of(const Node& node, const Number& number) {
  if (number.name.starts_with("detect"))
    return static_cast<float>(node.attributes.get_int(number.name, static_cast<std::int64_t>(number.fallback)));
  return node.attributes.get_float(number.name, number.fallback);
}

}  // namespace

std::string Formula::with(const std::vector<std::string>& names) const {
  std::string result = text;
  for (std::size_t k = reads.size(); k-- > 0;) result = replaced(result, fmt::format("${}", reads[k]), names[k]);
  return result;
}

Formula formula_of(const Graph& graph, const Node& node) {
  if ((!node.domain.empty() && node.domain != kOwnDomain) || node.outputs.size() != 1 || node.input(0) == kNoValue)
    return {};
  const DType type = graph[node.inputs[0]].dtype;
  Formula formula;
  const auto row = std::ranges::find(rows(), node.op, &Row::op);
  if (row == rows().end()) {
    formula.text = composed(graph, node, type);
  } else if (holds(row->types, type)) {
    formula.text = row->text;
    for (const Number& number : row->numbers)
      formula.text = replaced(formula.text, "$" + std::string(number.name), literal(number_of(node, number)));
  }
  for (std::size_t i = 0; i < node.inputs.size(); ++i) {
    const std::string name = fmt::format("${}", i);
    const std::size_t at = formula.text.find(name);
    if (at == std::string::npos) continue;
    if (node.inputs[i] == kNoValue || !holds(For::all, graph[node.inputs[i]].dtype)) return {};
    formula.reads.push_back(i);
  }
  return formula;
}

}  // namespace halfstep::cudnn
