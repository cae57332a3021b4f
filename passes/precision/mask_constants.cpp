#include "passes/precision/mask_constants.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include <halfstep/ops/op_traits.h>

namespace halfstep {
namespace {

// The result does not change when "very small" becomes a little less small.
bool is_picked(const OpTraits& traits, std::size_t operand) {
  return traits.extremes == Extremes::picked || traits.operands[operand] == OperandRole::mask;
}

bool is_bound(const OpTraits& traits, std::size_t operand) {
  return traits.extremes == Extremes::bounds || traits.operands[operand] == OperandRole::bound;
}

bool is_sum(const OpTraits& traits) { return traits.arithmetic == Arithmetic::sum; }

bool is_scaled(const OpTraits& traits, std::size_t operand) {
  using enum Arithmetic;
  return traits.arithmetic == product || traits.arithmetic == negation ||
         (traits.arithmetic == quotient && operand == 0);
}

}  // namespace

MaskConstants::MaskConstants(const std::vector<PrecisionNode>& nodes, const ValueMap<PrecisionValue>& values,
                             DType half)
    : nodes_(nodes),
      values_(values),
      half_(half),
      readers_(values.size()),
      on_the_way_(values.size(), false),
      full_(nodes.size(), false),
      shared_(nodes.size(), false),
      times_(values.size(), 1) {
  const auto is_extreme = [&](const PrecisionValue& value) {
    return value.is_known() && value.wide && value.range->overflows(half);
  };
  if (std::none_of(values.begin(), values.end(), is_extreme)) return;
  for (std::size_t i = 0; i < nodes.size(); ++i)
    for (std::size_t k = 0; k < nodes[i].inputs.size(); ++k)
      if (nodes[i].inputs[k] != kNoValue) readers_[nodes[i].inputs[k]].push_back({i, k});
  for (const ValueId value : values.ids()) {
    if (!is_extreme(values[value]) || readers_[value].empty()) continue;
    Mask mask{.value = value, .only_bounds = true, .nodes = {}, .way = {value}};
    if (follow(mask)) masks_.push_back(std::move(mask));
  }
  for (const Mask& mask : masks_)
    for (const ValueId value : mask.way) on_the_way_[value] = true;
  for (const Mask& mask : masks_)
    if (meets_others(mask))
      for (const std::size_t node : mask.nodes) full_[node] = true;
  count_sums();
}

// Walks along all readers; false when one of them is no mask's.
bool MaskConstants::follow(Mask& mask) const {
  std::vector<ValueId> open = mask.way;
  while (!open.empty()) {
    const ValueId value = open.back();
    open.pop_back();
    const auto& readers = readers_[value];
    if (readers.empty()) return false;
    for (const auto& [n, operand] : readers) {
      const PrecisionNode& node = nodes_[n];
      if (node.is_boundary() || !node.domain.empty()) return false;
      mask.nodes.push_back(n);
      const OpTraits& traits = traits_of(node);
      if (is_bound(traits, operand)) continue;
      mask.only_bounds = false;
      if (is_picked(traits, operand)) continue;
      if (!is_sum(traits) && !is_scaled(traits, operand) && !moves_data(node)) return false;
      for (const ValueId out : node.outputs) {
        if (out == kNoValue) continue;
        if (!values_[out].wide) return false;
        if (std::find(mask.way.begin(), mask.way.end(), out) != mask.way.end()) continue;
        mask.way.push_back(out);
        open.push_back(out);
      }
    }
  }
  return true;
}

// Not where the user wants half on its way: there a clamped mask is the best that can be.
bool MaskConstants::meets_others(const Mask& mask) const {
  const auto is_other = [&](ValueId v) { return v != kNoValue && !on_the_way_[v] && !values_[v].is_known(); };
  bool meets = false;
  for (const std::size_t n : mask.nodes) {
    const PrecisionNode& node = nodes_[n];
    if (node.forced) return false;
    // What is on the way may have scores in it, too: they are moved with the mask.
    const OpTraits& traits = traits_of(node);
    meets = meets || is_sum(traits) ||
            (is_scaled(traits, 0) && std::any_of(node.inputs.begin(), node.inputs.end(), is_other));
    // It adds the mask to scores of its own.
    for (std::size_t k = 0; k < node.inputs.size(); ++k)
      meets = meets ||
              (traits.operands[k] == OperandRole::mask && node.inputs[k] != kNoValue && on_the_way_[node.inputs[k]]);
  }
  return meets;
}

void MaskConstants::count_sums() {
  for (const PrecisionNode& node : nodes_) {
    if (node.is_boundary() || !node.domain.empty()) continue;
    const Arithmetic arithmetic = traits_of(node).arithmetic;
    const bool adds = arithmetic == Arithmetic::sum;
    double times = 0, scale = 1;
    for (std::size_t k = 0; k < node.inputs.size(); ++k) {
      if (node.inputs[k] == kNoValue) continue;
      const ValueId v = node.inputs[k];
      if (on_the_way_[v])
        times = adds ? times + times_[v] : std::max(times, times_[v]);
      else if (values_[v].is_known() && arithmetic == Arithmetic::product)
        scale = std::max(1.0, values_[v].range->max);
      else if (values_[v].is_known() && arithmetic == Arithmetic::quotient && values_[v].range->min_non_zero > 0)
        scale = std::max(1.0, 1 / values_[v].range->min_non_zero);
    }
    for (const ValueId out : node.outputs)
      if (out != kNoValue && on_the_way_[out]) times_[out] = times * scale;
  }
}

void MaskConstants::saturate(ValueId value) {
  if (value == kNoValue) return;
  const PrecisionValue& v = values_[value];
  if (v.is_known() && v.range->overflows(half_)) saturated_.push_back(value);
}

ValueMap<double> MaskConstants::limits(const std::vector<bool>& node_is_half) const {
  ValueMap<double> limits(values_.size(), 0);
  for (const ValueId value : saturated_) limits[value] = largest(half_);
  for (const Mask& mask : masks_) {
    if (std::none_of(mask.nodes.begin(), mask.nodes.end(), [&](std::size_t n) { return node_is_half[n]; })) continue;
    double times = 1;
    for (const ValueId value : mask.way) times = std::max(times, times_[value]);
    limits[mask.value] = mask.only_bounds ? largest(half_) : largest(half_) / (2 * times);
  }
  return limits;
}

// Whether the node is half, or a half node sees what it makes of a mask.
std::vector<bool> MaskConstants::lead_to_half(const std::vector<bool>& node_is_half) const {
  std::vector<bool> leads = node_is_half;
  for (std::size_t n = nodes_.size(); n-- > 0;)
    for (const ValueId out : nodes_[n].outputs) {
      if (out == kNoValue || !on_the_way_[out]) continue;
      for (const Reader& reader : readers_[out]) leads[n] = leads[n] || leads[reader.node];
    }
  return leads;
}

bool MaskConstants::takes_f32(const Reader& reader, const std::vector<bool>& node_is_half) const {
  return !node_is_half[reader.node] || nodes_[reader.node].input_roles[reader.operand] != Role::tied;
}

bool MaskConstants::find_shared(const std::vector<bool>& node_is_half) {
  if (masks_.empty()) return false;
  const std::vector<bool> leads = lead_to_half(node_is_half);
  ValueMap<bool> made_in_half(values_.size(), false);
  for (std::size_t n = 0; n < nodes_.size(); ++n)
    for (const ValueId out : nodes_[n].outputs)
      if (out != kNoValue) made_in_half[out] = node_is_half[n] && !values_[out].is_known();
  // A constant's copy in half is clamped alone.
  const auto is_torn = [&](ValueId value) {
    const bool is_constant = values_[value].kind == PrecisionValue::Kind::constant;
    bool clamped = false, plain = false;
    for (const Reader& reader : readers_[value]) {
      const bool in_f32 = takes_f32(reader, node_is_half);
      clamped = clamped || (leads[reader.node] && (in_f32 || !is_constant));
      plain = plain || (!leads[reader.node] && in_f32);
    }
    return clamped && plain && !made_in_half[value];
  };
  bool found = false;
  for (const Mask& mask : masks_) {
    if (std::none_of(mask.way.begin(), mask.way.end(), is_torn)) continue;
    for (const std::size_t n : mask.nodes) {
      found = found || !shared_[n];
      shared_[n] = true;
    }
  }
  return found;
}

ValueMap<bool> MaskConstants::clamped_in_f32(const std::vector<bool>& node_is_half) const {
  ValueMap<bool> clamped(values_.size(), false);
  const auto is_constant = [&](ValueId value) { return values_[value].kind == PrecisionValue::Kind::constant; };
  for (const ValueId value : saturated_) clamped[value] = !is_constant(value);
  const std::vector<bool> leads = lead_to_half(node_is_half);
  for (const Mask& mask : masks_)
    for (const Reader& reader : readers_[mask.value])
      if (leads[reader.node] && (!is_constant(mask.value) || takes_f32(reader, node_is_half)))
        clamped[mask.value] = true;
  return clamped;
}

Tensor clamped(const Tensor& tensor, double limit) {
  if (limit == 0) return tensor;
  Tensor result = tensor.clone();
  const auto bound = static_cast<float>(limit);
  for (float& x : result.span<float>())
    if (std::isfinite(x)) x = std::clamp(x, -bound, bound);
  return result;
}

}  // namespace halfstep
