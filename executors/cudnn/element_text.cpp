#include "executors/cudnn/element_text.h"

#include <algorithm>
#include <bit>
#include <cmath>

#include <fmt/format.h>

#include <halfstep/base/dtype.h>
#include <halfstep/ops/op_def.h>

namespace halfstep::cudnn {
namespace {

bool is_whole(DType t) { return t == DType::i32 || t == DType::i64; }
bool is_real(DType t) { return t == DType::f32 || t == DType::f16 || t == DType::bf16; }

constexpr ops::FormulaNumber kFloat{}, kInt{"int", "u32"}, kLong{"i64", "u64"};

/// What the formula is computed in on these types of operands; nothing where it is not.
std::optional<ops::FormulaNumber> number_of(const ops::FormulaDef& def, std::span<const DType> types) {
  const auto any = [&](auto is) { return std::ranges::any_of(types, is); };
  if (any([](DType t) { return !is_whole(t) && !is_real(t) && t != DType::boolean; })) return std::nullopt;
  const bool is_truth = any([](DType t) { return t == DType::boolean; });
  if (def.row.on_truth) return is_truth ? std::optional(kInt) : std::nullopt;
  if (is_truth && !(def.row.on_integers && def.gives_truth)) return std::nullopt;
  if (any(is_real)) return kFloat;
  if (!def.row.on_integers) return std::nullopt;
  return any([](DType t) { return t == DType::i64; }) ? kLong : kInt;
}

std::string literal(float x, const ops::FormulaNumber& number) {
  if (!number.is_integer()) return float_text(x);
  if (std::isfinite(x)) return fmt::format("{}", static_cast<std::int64_t>(x));
  const std::string_view most = number.name == kInt.name ? "0x7fffffff" : "0x7fffffffffffffffll";
  return x > 0 ? std::string(most) : fmt::format("(-{} - 1)", most);  // a bound that bounds nothing
}

std::string formula_call(const ops::FormulaDef& def, const Graph& graph, const Node& node,
                         FormulaFunctions& functions) {
  const bool takes_more = def.row.parameters[0].operand < 0;  // as Min and Max do
  const std::size_t operands = takes_more ? node.inputs.size() : def.operands;
  std::vector<DType> types;
  for (const ValueId id : node.inputs)
    if (id != kNoValue) types.push_back(graph[id].dtype);
  const std::optional<ops::FormulaNumber> number = number_of(def, types);
  if (!number || node.inputs.size() < operands) return {};
  if (operands < def.operands) return "$0";
  std::string parameters;
  for (std::size_t p = 0; p < def.parameters; ++p) {
    const int operand = def.row.parameters[p].operand;
    const bool is_given = operand >= 0 && node.input(static_cast<std::size_t>(operand)) != kNoValue;
    parameters +=
        ", " + (is_given ? fmt::format("${}", operand) : literal(ops::parameter(def, p, node.attributes), *number));
  }
  const std::string function = functions.call(def, *number);
  std::string text = "$0";
  for (std::size_t k = 1; k < def.operands; ++k) text += fmt::format(", ${}", k);
  text = fmt::format("{}({}{})", function, text, parameters);
  for (std::size_t k = def.operands; k < operands; ++k) text = fmt::format("{}({}, ${})", function, text, k);
  return text;
}

/// Operators without a formula.
std::string other_text(const Graph& graph, const Node& node, FormulaFunctions& functions) {
  const DType type = graph[node.inputs[0]].dtype;
  if (node.op == "Cast" || node.op == "CastLike") return "$0";
  if (node.op == "Where") return type == DType::boolean ? "$0 ? $1 : $2" : "";
  if (is_whole(type)) {
    if (node.op == "BitwiseNot") return "~$0";
    if (node.op == "BitwiseAnd") return "$0 & $1";
    if (node.op == "BitwiseOr") return "$0 | $1";
    if (node.op == "BitwiseXor") return "$0 ^ $1";
  }
  if (is_real(type) && (node.op == "Sum" || node.op == "Mean")) {
    const std::string sum = formula_call(ops::def_of(ops::Formula::Add), graph, node, functions);
    return node.op == "Sum" ? sum : fmt::format("{} / {}.0f", sum, node.inputs.size());
  }
  return {};
}

std::string replaced(std::string text, const std::string& from, const std::string& to) {
  for (std::size_t at = 0; (at = text.find(from, at)) != std::string::npos; at += to.size())
    text.replace(at, from.size(), to);
  return text;
}

}  // namespace

std::string_view element_name(DType dtype) {
  switch (dtype) {
    case DType::f32:
      return "float";
    case DType::f16:
      return "f16";
    case DType::bf16:
      return "bf16";
    case DType::i32:
      return "int";
    case DType::i64:
      return "i64";
    case DType::boolean:
      return "bool";
    default:
      return {};
  }
}
std::string_view value_name(DType dtype) {
  return dtype == DType::f16 || dtype == DType::bf16 ? "float" : element_name(dtype);
}

std::string float_text(float x) { return fmt::format("bits_to_float(0x{:08x}u)", std::bit_cast<std::uint32_t>(x)); }

std::string FormulaFunctions::call(const ops::FormulaDef& def, const ops::FormulaNumber& number) {
  std::string name = fmt::format("{}{}_{}", def.row.op, def.row.variant.text, def.row.on_truth ? "bool" : number.name);
  if (known_.insert(name).second)
    text_ += ops::formula_text(def.formula, name, "static __device__ __forceinline__", number);
  return name;
}

std::string ElementText::with(const std::vector<std::string>& names) const {
  std::string result = text;
  for (std::size_t k = reads.size(); k-- > 0;) result = replaced(result, fmt::format("${}", reads[k]), names[k]);
  return result;
}

ElementText element_text(const Graph& graph, const Node& node, FormulaFunctions& functions) {
  if (node.outputs.size() != 1 || node.input(0) == kNoValue) return {};
  ElementText made;
  if (const ops::FormulaDef* def = ops::find_formula(node))
    made.text = formula_call(*def, graph, node, functions);
  else if (node.domain == kOnnxDomain)
    made.text = other_text(graph, node, functions);
  for (std::size_t i = 0; i < node.inputs.size(); ++i) {
    const std::string name = fmt::format("${}", i);
    if (made.text.find(name) == std::string::npos) continue;
    if (node.inputs[i] == kNoValue || element_name(graph[node.inputs[i]].dtype).empty()) return {};
    made.reads.push_back(i);
  }
  return made;
}

bool has_element_text(const Graph& graph, const Node& node) {
  FormulaFunctions unused;
  return static_cast<bool>(element_text(graph, node, unused));
}

}  // namespace halfstep::cudnn
