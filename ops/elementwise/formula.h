// The formulas of elementwise operators as values: of which node, with which parameters, and what they give.
#pragma once

#include <array>
#include <cstdint>
#include <initializer_list>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "ops/elementwise/formulas.h"
#include <halfstep/base/api.h>
#include <halfstep/ops/op_def.h>

namespace HALFSTEP_API halfstep {
namespace ops {

/// What a formula is. `of` computes it, from operands and then parameters.
struct FormulaDef {
  Formula formula;
  FormulaRow row;
  std::size_t operands = 0, parameters = 0;
  bool gives_truth = false;  ///< results are bool, else of the operands' type

  template <class W>
  using Of = W (*)(const W* arguments);
  Of<double> on_floats = nullptr;  ///< nullptr where operands are bool
  // On integers and bool; nullptr where the formula is none of theirs.
  Of<std::int64_t> on_signed = nullptr;
  Of<std::uint64_t> on_unsigned = nullptr;

  std::string_view domain() const { return row.is_own ? kOwnDomain : kOnnxDomain; }
};
std::span<const FormulaDef> all_formulas();
const FormulaDef& def_of(Formula formula);

/// The formula of an operator with these attributes; nullptr where it has none.
const FormulaDef* find_formula(std::string_view op, std::string_view domain, const Attributes& attributes);
inline const FormulaDef* find_formula(const Node& node) { return find_formula(node.op, node.domain, node.attributes); }

/// The value of parameter i, where it is no operand of the node.
float parameter(const FormulaDef& def, std::size_t i, const Attributes& attributes);

/// In double: operands, then parameters.
double evaluate(Formula formula, std::initializer_list<double> arguments);

/// The reference kernel of every operator with a formula: floats in double, integers in 64 bits.
void run_formula(KernelCall& call);

/// The row of an operator that is its formula.
OpDef formula_row(std::string_view name, PrecisionClass precision, const OpTraits& traits, GradientRule gradient,
                  std::vector<OpCase> cases, std::string_view note = {});

/// The type that a formula's text computes in: float, or an integer type and the unsigned one that its sums wrap in.
struct FormulaNumber {
  std::string_view name = "float", wrapping = {};

  bool is_integer() const { return !wrapping.empty(); }
};

/// The formula as a function in C, C++ and CUDA, whose arguments are the operands and then the parameters:
/// `static inline float mish(float a) { ... }`, with `qualifiers` in front. Integers are for formulas that have
/// `on_signed`; divided by 0 they give 0.
std::string formula_text(Formula formula, std::string_view function, std::string_view qualifiers = "static inline",
                         const FormulaNumber& number = {});

}  // namespace ops
}  // namespace halfstep
