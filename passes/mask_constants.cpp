#include "passes/mask_constants.h"

#include <algorithm>
#include <array>
#include <string_view>

namespace halfstep {
namespace {

constexpr int kAnyOperand = -1;

struct Operand {
  std::string_view op;
  int operand;
};

// Operators whose result does not change when "very small" becomes a little less small.
constexpr std::array kPickers = {
    Operand{"Softmax", kAnyOperand},   Operand{"LogSoftmax", kAnyOperand},    Operand{"Hardmax", kAnyOperand},
    Operand{"ArgMax", kAnyOperand},    Operand{"ArgMin", kAnyOperand},        Operand{"MaxPool", kAnyOperand},
    Operand{"TopK", kAnyOperand},      Operand{"GlobalMaxPool", kAnyOperand}, Operand{"Attention", 3},
    Operand{"ReduceMax", kAnyOperand}, Operand{"ReduceMin", kAnyOperand}};
constexpr std::array kBounds = {Operand{"Clip", 1}, Operand{"Clip", 2}, Operand{"Min", kAnyOperand},
                                Operand{"Max", kAnyOperand}};
constexpr std::array kSums = {Operand{"Add", kAnyOperand}, Operand{"Sub", kAnyOperand}, Operand{"Mul", kAnyOperand},
                              Operand{"Div", 0}, Operand{"Neg", kAnyOperand}};

template <std::size_t n>
bool lists(const std::array<Operand, n>& list, std::string_view op, int operand) {
  return std::any_of(list.begin(), list.end(), [&](const Operand& entry) {
    return entry.op == op && (entry.operand == kAnyOperand || entry.operand == operand);
  });
}

}  // namespace

MaskConstants::MaskConstants(const std::vector<PrecisionNode>& nodes, const std::vector<PrecisionValue>& values,
                             DType half)
    : nodes_(nodes), values_(values), half_(half), readers_(values.size()), on_the_way_(values.size(), false) {
  const auto is_extreme = [&](const PrecisionValue& value) {
    return value.kind == PrecisionValue::Kind::constant && value.wide && value.range &&
           (value.range->overflows(half) || value.range->infinities > 0);
  };
  if (std::none_of(values.begin(), values.end(), is_extreme)) return;
  for (std::size_t i = 0; i < nodes.size(); ++i)
    for (std::size_t k = 0; k < nodes[i].inputs.size(); ++k)
      if (nodes[i].inputs[k] != PrecisionNode::kAbsent)
        readers_[static_cast<std::size_t>(nodes[i].inputs[k])].emplace_back(static_cast<int>(i), static_cast<int>(k));
  for (std::size_t v = 0; v < values.size(); ++v) {
    if (!is_extreme(values[v]) || readers_[v].empty()) continue;
    Mask mask{.value = static_cast<int>(v), .only_bounds = true, .nodes = {}};
    std::vector<int> way{mask.value};
    if (!follow(mask.value, mask, way)) continue;
    for (int on_way : way) on_the_way_[static_cast<std::size_t>(on_way)] = true;
    masks_.push_back(std::move(mask));
  }
}

// Walks along all readers of `value`; false when one of them is no mask's.
bool MaskConstants::follow(int start, Mask& mask, std::vector<int>& way) const {
  std::vector<int> open{start};
  while (!open.empty()) {
    const int value = open.back();
    open.pop_back();
    const auto& readers = readers_[static_cast<std::size_t>(value)];
    if (readers.empty()) return false;
    for (auto [n, operand] : readers) {
      const PrecisionNode& node = nodes_[static_cast<std::size_t>(n)];
      if (node.is_boundary() || !node.domain.empty()) return false;
      mask.nodes.push_back(n);
      if (lists(kBounds, node.op, operand)) continue;
      mask.only_bounds = false;
      if (lists(kPickers, node.op, operand)) continue;
      if (!lists(kSums, node.op, operand) && !moves_data(node)) return false;
      for (int out : node.outputs) {
        if (out == PrecisionNode::kAbsent) continue;
        if (!values_[static_cast<std::size_t>(out)].wide) return false;
        if (std::find(way.begin(), way.end(), out) != way.end()) continue;
        way.push_back(out);
        open.push_back(out);
      }
    }
  }
  return true;
}

void MaskConstants::saturate(int value) {
  if (value == PrecisionNode::kAbsent) return;
  const PrecisionValue& v = values_[static_cast<std::size_t>(value)];
  if (v.kind == PrecisionValue::Kind::constant && v.range && v.range->overflows(half_)) saturated_.push_back(value);
}

std::vector<double> MaskConstants::limits(const std::vector<bool>& node_is_half) const {
  std::vector<double> limits(values_.size(), 0);
  for (int value : saturated_) limits[static_cast<std::size_t>(value)] = largest(half_);
  for (const Mask& mask : masks_) {
    const bool seen = std::any_of(mask.nodes.begin(), mask.nodes.end(),
                                  [&](int n) { return node_is_half[static_cast<std::size_t>(n)]; });
    const auto v = static_cast<std::size_t>(mask.value);
    if (!seen || (mask.only_bounds && !values_[v].range->overflows(half_))) continue;  // an infinite bound stays one
    limits[v] = mask.only_bounds ? largest(half_) : largest(half_) / 2;
  }
  return limits;
}

}  // namespace halfstep
