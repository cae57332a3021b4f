#include "passes/precision/find_misfit.h"

#include <fmt/format.h>

#include <halfstep/ops/op_traits.h>

namespace halfstep {
namespace {

// Elements of a normal distribution hardly ever lie beyond so many times its root mean square.
constexpr double kReach = 4;

}  // namespace

MisfitFinder::MisfitFinder(const std::vector<PrecisionNode>& nodes, const ValueMap<PrecisionValue>& values,
                           const MaskConstants& masks, DType half)
    : values_(values), masks_(masks), half_(half), moved_from_(values.size(), kNoValue) {
  for (const PrecisionNode& node : nodes) {
    if (!moves_data(node)) continue;
    const int operands = count_tied_inputs(node);
    ValueId from = kNoValue;
    for (std::size_t k = 0; k < node.inputs.size(); ++k) {
      if (node.inputs[k] == kNoValue || node.input_roles[k] != Role::tied) continue;
      const ValueId constant = origin(node.inputs[k]);
      if (constant != kNoValue && (operands == 1 || values_[constant].range->overflows(half_))) from = constant;
    }
    for (const ValueId out : node.outputs)
      if (out != kNoValue) moved_from_[out] = from;
  }
}

bool MisfitFinder::is_constant(ValueId value) const { return values_[value].is_known(); }

ValueId MisfitFinder::origin(ValueId value) const { return is_constant(value) ? value : moved_from_[value]; }

MisfitFinder::Found MisfitFinder::check_expected(const Operand& operand, double expected) const {
  if (expected == 0) return {};
  const bool is_large = kReach * expected > largest(half_);
  const bool is_small = !operand.may_be_small && expected_underflow_error(expected, half_) > kMaxUnderflowError;
  if (!is_large && !is_small) return {};
  return {Misfit::expected,
          fmt::format("{} of about {:.2g} are expected, too {} for {}", operand.what, expected,
                      is_large ? "large" : "small", name_of(half_)),
          is_small};
}

MisfitFinder::Found MisfitFinder::check(const Operand& operand) const {
  if (operand.value == kNoValue || operand.role != Role::tied || masks_.is_mask(operand.value)) return {};
  const ValueId constant = origin(operand.value);
  const PrecisionValue& value = values_[constant != kNoValue ? constant : operand.value];
  if (!value.range) return check_expected(operand, value.expected);
  const FloatRange& range = *value.range;
  const Misfit kind = constant != kNoValue ? Misfit::constant : Misfit::measured;
  if (range.overflows(half_))
    return {kind, fmt::format("{} reach{} {:.3g}, beyond the {:.5g} of {}", operand.what,
                              constant != kNoValue ? "" : "ed", range.max, largest(half_), name_of(half_))};
  if (!operand.may_be_small &&
      (constant != kNoValue ? range.underflows_as_constant(half_) : range.underflow_error(half_) > kMaxUnderflowError))
    return {kind,
            fmt::format("{} are too small: {} of {} elements below {:.2g}, the smallest normal {}", operand.what,
                        range.below_normal(half_), range.count(), smallest_normal(half_), name_of(half_)),
            true};
  return {};
}

MisfitFinder::Found MisfitFinder::find(const PrecisionNode& node) const {
  const auto is_known = [&](ValueId v) { return v != kNoValue && (values_[v].range || values_[v].expected > 0); };
  // Small operands of a sum matter only as part of the result.
  const bool sums = traits_of(node).arithmetic == Arithmetic::sum && is_known(node.outputs[0]);
  Found first_small;
  const auto decides = [&](const Operand& operand, Found& found) {
    found = check(operand);
    if (found.kind != Misfit::none && found.is_small && first_small.kind == Misfit::none) first_small = found;
    return found.kind != Misfit::none && !found.is_small;
  };
  Found found;
  for (std::size_t k = 0; k < node.inputs.size(); ++k) {
    const bool constant = node.inputs[k] != kNoValue && origin(node.inputs[k]) != kNoValue;
    if (decides({.value = node.inputs[k],
                 .role = node.input_roles[k],
                 .what = constant ? "its constants" : "operands",
                 .may_be_small = (sums && !constant) || may_underflow(node, k)},
                found))
      return found;
  }
  for (std::size_t k = 0; k < node.outputs.size(); ++k)
    if (decides({.value = node.outputs[k], .role = node.output_roles[k], .what = "results"}, found)) return found;
  return first_small;
}

}  // namespace halfstep
