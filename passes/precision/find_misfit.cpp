#include "passes/precision/find_misfit.h"

#include <algorithm>

#include <fmt/format.h>

#include <halfstep/ops/op_traits.h>

namespace halfstep {
namespace {

constexpr int kAbsent = PrecisionNode::kAbsent;

// Elements of a normal distribution hardly ever lie beyond so many times its root mean square.
constexpr double kReach = 4;

std::size_t index(int i) { return static_cast<std::size_t>(i); }

}  // namespace

MisfitFinder::MisfitFinder(const std::vector<PrecisionNode>& nodes, const std::vector<PrecisionValue>& values,
                           const MaskConstants& masks, DType half)
    : values_(values), masks_(masks), half_(half), moved_from_(values.size(), kAbsent) {
  for (const PrecisionNode& node : nodes) {
    if (!moves_data(node)) continue;
    const int operands = count_tied_inputs(node);
    int from = kAbsent;
    for (std::size_t k = 0; k < node.inputs.size(); ++k) {
      if (node.inputs[k] == kAbsent || node.input_roles[k] != Role::tied) continue;
      const int constant = origin(node.inputs[k]);
      if (constant != kAbsent && (operands == 1 || values_[index(constant)].range->overflows(half_))) from = constant;
    }
    for (int out : node.outputs)
      if (out != kAbsent) moved_from_[index(out)] = from;
  }
}

bool MisfitFinder::is_constant(int value) const { return values_[index(value)].is_known(); }

int MisfitFinder::origin(int value) const { return is_constant(value) ? value : moved_from_[index(value)]; }

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
  if (operand.value == kAbsent || operand.role != Role::tied || masks_.is_mask(operand.value)) return {};
  const int constant = origin(operand.value);
  const PrecisionValue& value = values_[index(constant != kAbsent ? constant : operand.value)];
  if (!value.range) return check_expected(operand, value.expected);
  const FloatRange& range = *value.range;
  const Misfit kind = constant != kAbsent ? Misfit::constant : Misfit::measured;
  if (range.overflows(half_))
    return {kind, fmt::format("{} reach{} {:.3g}, beyond the {:.5g} of {}", operand.what,
                              constant != kAbsent ? "" : "ed", range.max, largest(half_), name_of(half_))};
  if (!operand.may_be_small &&
      (constant != kAbsent ? range.underflows_as_constant(half_) : range.underflow_error(half_) > kMaxUnderflowError))
    return {kind,
            fmt::format("{} are too small: {} of {} elements below {:.2g}, the smallest normal {}", operand.what,
                        range.below_normal(half_), range.count(), smallest_normal(half_), name_of(half_)),
            true};
  return {};
}

MisfitFinder::Found MisfitFinder::find(const PrecisionNode& node) const {
  const auto is_known = [&](int v) {
    return v != kAbsent && (values_[index(v)].range || values_[index(v)].expected > 0);
  };
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
    const bool constant = node.inputs[k] != kAbsent && origin(node.inputs[k]) != kAbsent;
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
