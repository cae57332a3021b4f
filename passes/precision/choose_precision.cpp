#include "passes/precision/choose_precision.h"

#include <algorithm>
#include <numeric>

#include <fmt/format.h>
#include <onnx/defs/schema.h>

#include "passes/precision/find_misfit.h"
#include "passes/precision/mask_constants.h"
#include "passes/precision/min_cut.h"
#include <halfstep/ops/op_def.h>

namespace halfstep {
namespace {

constexpr int kNone = -1;  // no node

// Costs that the cut weighs. Parameters are small beside activations; a constant in two types costs only memory; what
// is preferred decides between answers with the same casts.
constexpr std::int64_t kCastCost = 4096, kParameterCastCost = 1024, kSecondCopyCost = 1024, kPreferenceCost = 1;

std::size_t index(int i) { return static_cast<std::size_t>(i); }

class Chooser {
 public:
  Chooser(const std::vector<PrecisionNode>& nodes, const ValueMap<PrecisionValue>& values, DType half)
      : nodes_(nodes),
        values_(values),
        half_(half),
        masks_(nodes, values, half),
        finder_(nodes, values, masks_, half),
        producer_(values.size(), kNone),
        integral_(values.size()) {
    for (std::size_t i = 0; i < nodes.size(); ++i)
      for (const ValueId out : nodes[i].outputs)
        if (out != kNoValue) producer_[out] = static_cast<int>(i);
  }

  PrecisionChoice run() {
    paint_.resize(nodes_.size());
    find_integers();
    PrecisionChoice choice;
    do {
      reasons_.assign(nodes_.size(), {});
      misfits_.assign(nodes_.size(), Misfit::none);
      prefers_f32_.assign(nodes_.size(), false);
      for (std::size_t i = 0; i < nodes_.size(); ++i) paint_[i] = decide(i);
      paint_open();
      choice.half.assign(nodes_.size(), false);
      for (std::size_t i = 0; i < nodes_.size(); ++i) choice.half[i] = paint_[i] == Paint::half;
    } while (masks_.find_shared(choice.half));
    for (std::size_t i = 0; i < nodes_.size(); ++i) {
      // A node that was forced takes what overflows as the largest number.
      if (choice.half[i] && nodes_[i].forced)
        for (std::size_t k = 0; k < nodes_[i].inputs.size(); ++k)
          if (nodes_[i].input_roles[k] == Role::tied) masks_.saturate(nodes_[i].inputs[k]);
    }
    choice.reasons = std::move(reasons_);
    choice.misfits = std::move(misfits_);
    choice.moved_from = finder_.moved_from();
    choice.limits = masks_.limits(choice.half);
    choice.clamped_in_f32 = masks_.clamped_in_f32(choice.half);
    return choice;
  }

 private:
  Paint because(std::size_t node, Paint paint, std::string reason) {
    reasons_[node] = std::move(reason);
    return paint;
  }

  PrecisionClass class_of(const PrecisionNode& node) const {
    const OpDef* row = find_op(node.op, node.domain);
    return row ? row->precision : PrecisionClass::full;
  }

  void find_integers() {
    for (const ValueId v : values_.ids()) integral_[v] = values_[v].integral;
    for (const PrecisionNode& node : nodes_) {
      if (node.is_boundary() || !node.domain.empty()) continue;
      const bool keeps =
          node.op != "Cast" && (class_of(node) == PrecisionClass::neutral || traits_of(node).keeps_integers);
      if (node.op == "Range" || (keeps && all_integral(node)))
        for (const ValueId out : node.outputs)
          if (out != kNoValue) integral_[out] = true;
    }
  }

  template <class F>
  void for_tied_inputs(const PrecisionNode& node, const F& visit) const {
    for (std::size_t k = 0; k < node.inputs.size(); ++k)
      if (node.inputs[k] != kNoValue && node.input_roles[k] == Role::tied) visit(node.inputs[k]);
  }

  bool all_integral(const PrecisionNode& node) const {
    int integral = 0, others = 0;
    for_tied_inputs(node, [&](ValueId v) {
      if (values_[v].kind == PrecisionValue::Kind::computed) ++(integral_[v] ? integral : others);
    });
    return integral > 0 && others == 0;
  }
  bool any_integral(const PrecisionNode& node) const {
    bool any = false;
    for_tied_inputs(node, [&](ValueId v) { any = any || integral_[v]; });
    return any;
  }

  Paint decide(std::size_t i) {
    const PrecisionNode& node = nodes_[i];
    if (node.pin != Paint::open && !(node.forced && !node.has_tied())) return because(i, node.pin, node.reason);
    if (!node.has_tied()) return because(i, Paint::full, describe_untied(node));
    if (node.is_boundary())
      return any_integral(node) || finder_.find(node).kind != Misfit::none ? Paint::full : Paint::open;
    const OpTraits& traits = traits_of(node);
    if (traits.quantizes) return because(i, Paint::full, "quantises");
    const PrecisionClass c = class_of(node);
    if (c == PrecisionClass::full && !is_root_of_constant(node))
      return because(i, Paint::full,
                     find_op(node.op, node.domain) ? "exponentials, long sums and the like need f32"
                                                   : "no rule for this operator");
    if (reads_quantized(node)) return because(i, Paint::full, "works on quantised data");
    if (masks_.must_stay_full(i)) return because(i, Paint::full, "scores beside a mask, which has to outweigh them");
    if (masks_.is_shared(i)) return because(i, Paint::full, "a mask that other f32 nodes read, too");
    if (node.op == "Mul" && node.inputs.size() == 2 && node.inputs[0] == node.inputs[1])
      return because(i, Paint::full, "squares, which overflow first");
    const OperandRole first = traits.operands[0];
    if ((first == OperandRole::table || first == OperandRole::source) && node.inputs[0] != kNoValue &&
        values_[node.inputs[0]].kind == PrecisionValue::Kind::parameter)
      return because(i, Paint::full, "a whole table would be cast for a few rows");
    if (any_integral(node))
      return because(i, Paint::full, fmt::format("computes with integers, which {} does not hold", name_of(half_)));
    MisfitFinder::Found found = finder_.find(node);
    if (found.is_small && moves_data(node)) {
      prefers_f32_[i] = true;
    } else if (found.kind != Misfit::none) {
      misfits_[i] = found.kind;
      return because(i, Paint::full, std::move(found.reason));
    }
    if (c == PrecisionClass::half) return because(i, Paint::half, "matrix products and their like gain most");
    return Paint::open;
  }

  static std::string describe_untied(const PrecisionNode& node) {
    const auto fixed = [](const std::vector<Role>& roles) {
      return std::find(roles.begin(), roles.end(), Role::fixed) != roles.end();
    };
    return fixed(node.input_roles) || fixed(node.output_roles) ? "the operator has no half-precision form here"
                                                               : "nothing of type f32 here";
  }

  // Roots are kept in f32 for the sake of small variances. What is scaled by the root of a constant is none.
  bool is_root_of_constant(const PrecisionNode& node) const {
    if (node.op != "Sqrt" || !node.domain.empty()) return false;
    const ValueId v = node.inputs[0];
    return v != kNoValue && (values_[v].kind == PrecisionValue::Kind::constant || values_[v].of_constant);
  }

  bool reads_quantized(const PrecisionNode& node) const {
    bool found = false;
    for_tied_inputs(node, [&](ValueId v) {
      const int p = producer_[v];
      found = found || (p != kNone && nodes_[index(p)].op == "DequantizeLinear");
    });
    return found;
  }

  // Half nodes on the source's side, full ones on the sink's; what is cut are the casts.
  void paint_open() {
    MinCut cut;
    std::vector<int> vertex(nodes_.size());
    for (std::size_t i = 0; i < nodes_.size(); ++i) {
      if (paint_[i] == Paint::half) vertex[i] = MinCut::kSource;
      if (paint_[i] == Paint::full) vertex[i] = MinCut::kSink;
      if (paint_[i] == Paint::open) vertex[i] = cut.add_vertex();
      if (paint_[i] == Paint::open && prefers_f32_[i]) cut.add_arc(vertex[i], MinCut::kSink, kPreferenceCost);
    }
    const ValueMap<std::vector<int>> readers = tied_readers(vertex);
    for (const ValueId v : values_.ids()) {
      const PrecisionValue& value = values_[v];
      if (!value.wide || readers[v].empty()) continue;
      if (value.kind == PrecisionValue::Kind::constant) {
        if (readers[v].size() > 1) {
          const int some_half = cut.add_vertex(), some_full = cut.add_vertex();
          cut.add_arc(some_half, some_full, kSecondCopyCost);
          for (int reader : readers[v]) {
            cut.add_arc(reader, some_half, MinCut::kInfinite);
            cut.add_arc(some_full, reader, MinCut::kInfinite);
          }
        }
        continue;
      }
      const bool parameter = value.kind == PrecisionValue::Kind::parameter;
      const int producer = parameter ? MinCut::kSink : producer_vertex(v, vertex);
      const std::int64_t cost = parameter ? kParameterCastCost : kCastCost;
      if (producer != MinCut::kSink) {
        const int some_full = cut.add_vertex();
        cut.add_arc(producer, some_full, cost);
        for (int reader : readers[v]) cut.add_arc(some_full, reader, MinCut::kInfinite);
      }
      if (producer != MinCut::kSource) {
        const int some_half = cut.add_vertex();
        cut.add_arc(some_half, producer, cost);
        for (int reader : readers[v]) cut.add_arc(reader, some_half, MinCut::kInfinite);
      }
    }
    const std::vector<bool> half_side = cut.source_side();
    const std::vector<bool> near_half = connected_to_half(readers, vertex);
    for (std::size_t i = 0; i < nodes_.size(); ++i) {
      if (paint_[i] != Paint::open) continue;
      const bool half = half_side[index(vertex[i])] && near_half[index(vertex[i])];
      paint_[i] = half ? Paint::half : Paint::full;
      reasons_[i] = half ? "goes with half-precision neighbours" : "goes with f32 neighbours";
    }
  }

  int producer_vertex(ValueId v, const std::vector<int>& vertex) const {
    const int p = producer_[v];
    if (p == kNone) return MinCut::kSink;
    const PrecisionNode& node = nodes_[index(p)];
    for (std::size_t k = 0; k < node.outputs.size(); ++k)
      if (node.outputs[k] == v && node.output_roles[k] == Role::tied) return vertex[index(p)];
    return MinCut::kSink;
  }

  // For each value the vertices that read it, each once; an operand that stays f32 is read by the sink.
  ValueMap<std::vector<int>> tied_readers(const std::vector<int>& vertex) const {
    ValueMap<std::vector<int>> readers(values_.size());
    for (std::size_t i = 0; i < nodes_.size(); ++i)
      for (std::size_t k = 0; k < nodes_[i].inputs.size(); ++k) {
        const ValueId v = nodes_[i].inputs[k];
        const Role role = nodes_[i].input_roles[k];
        if (v == kNoValue || role == Role::other || role == Role::any) continue;
        readers[v].push_back(nodes_[i].input_roles[k] == Role::tied ? vertex[i] : MinCut::kSink);
      }
    for (auto& list : readers) {
      std::sort(list.begin(), list.end());
      list.erase(std::unique(list.begin(), list.end()), list.end());
    }
    return readers;
  }

  // Open vertices from which a half node can be reached along f32 values without passing a full one: others would
  // become half for nobody.
  std::vector<bool> connected_to_half(const ValueMap<std::vector<int>>& readers, const std::vector<int>& vertex) const {
    std::vector<int> root(nodes_.size() + 2);
    for (int v : vertex) root.resize(std::max(root.size(), index(v) + 1));
    std::iota(root.begin(), root.end(), 0);
    const auto find = [&](int v) {
      while (root[index(v)] != v) v = root[index(v)] = root[index(root[index(v)])];
      return v;
    };
    for (const ValueId v : values_.ids()) {
      if (!values_[v].wide || values_[v].kind == PrecisionValue::Kind::parameter) continue;
      const bool computed = values_[v].kind == PrecisionValue::Kind::computed;
      int first = computed ? producer_vertex(v, vertex) : MinCut::kSink;
      for (int reader : readers[v]) {
        if (reader == MinCut::kSink) continue;
        if (first == MinCut::kSink) first = reader;
        root[index(find(reader))] = find(first);
      }
    }
    std::vector<bool> connected(root.size());
    for (std::size_t v = 0; v < root.size(); ++v) connected[v] = find(static_cast<int>(v)) == find(MinCut::kSource);
    return connected;
  }

  const std::vector<PrecisionNode>& nodes_;
  const ValueMap<PrecisionValue>& values_;
  const DType half_;
  MaskConstants masks_;
  MisfitFinder finder_;
  ValueMap<int> producer_;
  ValueMap<bool> integral_;
  std::vector<Paint> paint_;
  std::vector<std::string> reasons_;
  std::vector<Misfit> misfits_;
  std::vector<bool> prefers_f32_;  ///< it moves small values, which only its readers can keep
};

}  // namespace

bool PrecisionNode::has_tied() const {
  const auto tied = [](const std::vector<Role>& roles) {
    return std::find(roles.begin(), roles.end(), Role::tied) != roles.end();
  };
  return tied(input_roles) || tied(output_roles);
}

bool moves_data(const PrecisionNode& node) {
  const OpDef* row = node.domain.empty() ? find_op(node.op) : nullptr;
  return row && row->precision == PrecisionClass::neutral;
}

bool may_underflow(const PrecisionNode& node, std::size_t operand) {
  const OperandRoles& roles = traits_of(node).operands;
  return roles[operand] == OperandRole::mean || (roles[operand] == OperandRole::bias && roles.has(OperandRole::mean));
}

int count_tied_inputs(const PrecisionNode& node) {
  return static_cast<int>(std::count(node.input_roles.begin(), node.input_roles.end(), Role::tied));
}

void assign_roles(PrecisionNode& node, const onnx::OpSchema* schema, DType half,
                  const ValueMap<PrecisionValue>& values) {
  const auto is_wide = [&](ValueId v) { return v != kNoValue && values[v].wide; };
  using Parameters = std::vector<onnx::OpSchema::FormalParameter>;
  const auto parameter = [](const Parameters& formal, std::size_t k) -> const onnx::OpSchema::FormalParameter* {
    return formal.empty() ? nullptr : &formal[std::min(k, formal.size() - 1)];
  };
  const onnx::OpSchema::FormalParameter* key = nullptr;
  if (schema) {
    const auto first = std::find_if(node.outputs.begin(), node.outputs.end(), [](ValueId v) { return v != kNoValue; });
    const bool has_result = first != node.outputs.end();
    if (has_result && is_wide(*first))
      key = parameter(schema->outputs(), static_cast<std::size_t>(first - node.outputs.begin()));
    bool already_half = has_result && values[*first].half;
    for (std::size_t k = 0; !key && !already_half && k < node.inputs.size(); ++k) {
      if (is_wide(node.inputs[k])) key = parameter(schema->inputs(), k);
      already_half = node.inputs[k] != kNoValue && values[node.inputs[k]].half;
    }
  }
  // A result type that no operand decides is an attribute's: of those only these two are known to be changed.
  const bool by_attribute =
      key && std::none_of(schema->inputs().begin(), schema->inputs().end(),
                          [&](const auto& formal) { return formal.GetTypeStr() == key->GetTypeStr(); });
  const auto allows_half = [&](const onnx::OpSchema::FormalParameter& formal) {
    return formal.GetTypes().size() > 1 &&
           std::any_of(formal.GetTypes().begin(), formal.GetTypes().end(), [&](const std::string* type) {
             return *type == (half == DType::f16 ? "tensor(float16)" : "tensor(bfloat16)");
           });
  };
  bool can_be_half = key && allows_half(*key) && (!by_attribute || node.op == "Cast" || node.op == "ConstantOfShape");
  const OpTraits& traits = traits_of(node);
  const bool one_type = traits.one_type;
  for (std::size_t k = 0; one_type && can_be_half && k < node.inputs.size(); ++k)
    can_be_half = node.inputs[k] == kNoValue || !values[node.inputs[k]].unknown;
  const auto role = [&](ValueId v, const onnx::OpSchema::FormalParameter* formal) {
    if (!is_wide(v)) return Role::other;
    // A variadic operand of mixed types ties nothing to anything.
    if (!can_be_half || !formal || !formal->GetIsHomogeneous()) return Role::fixed;
    const bool tied = formal->GetTypeStr() == key->GetTypeStr() || (one_type && allows_half(*formal));
    return tied ? Role::tied : Role::fixed;
  };
  node.input_roles.clear();
  node.output_roles.clear();
  const bool takes_any = traits.movement == Movement::convert || traits.operands[0] == OperandRole::shape_only;
  for (std::size_t k = 0; k < node.inputs.size(); ++k) {
    const Role assigned = role(node.inputs[k], schema ? parameter(schema->inputs(), k) : nullptr);
    node.input_roles.push_back(takes_any && k == 0 && assigned != Role::other ? Role::any : assigned);
  }
  for (std::size_t k = 0; k < node.outputs.size(); ++k)
    node.output_roles.push_back(role(node.outputs[k], schema ? parameter(schema->outputs(), k) : nullptr));
}

std::vector<ValueMisfit> find_misfits(const std::vector<PrecisionNode>& nodes, const ValueMap<PrecisionValue>& values,
                                      const std::vector<ValueId>& wanted, DType half) {
  // A mask that leaves the model is none.
  std::vector<PrecisionNode> read = nodes;
  PrecisionNode& boundary = read.emplace_back();
  boundary.inputs = wanted;
  boundary.input_roles.assign(wanted.size(), Role::tied);
  const MaskConstants masks(read, values, half);
  const MisfitFinder finder(read, values, masks, half);
  std::vector<ValueMisfit> misfits;
  for (const ValueId v : wanted) {
    MisfitFinder::Found found = finder.find_value(v);
    misfits.push_back({found.kind, std::move(found.reason)});
  }
  return misfits;
}

PrecisionChoice choose_precision(const std::vector<PrecisionNode>& nodes, const ValueMap<PrecisionValue>& values,
                                 DType half) {
  return Chooser(nodes, values, half).run();
}

}  // namespace halfstep
