#include "passes/model_facts.h"

#include <algorithm>
#include <array>
#include <string_view>

#include "passes/constant_names.h"

namespace halfstep {
namespace {

template <std::size_t N>
bool is_any(const Node& node, const std::array<std::string_view, N>& ops) {
  return node.domain.empty() && std::find(ops.begin(), ops.end(), node.op) != ops.end();
}

constexpr std::array<std::string_view, 13> kMovement{"Identity", "Cast",    "CastLike", "Expand",    "Reshape",
                                                     "Slice",    "Squeeze", "Concat",   "Transpose", "Flatten",
                                                     "Tile",     "Split",   "Unsqueeze"};
constexpr std::array<std::string_view, 9> kSpreading{"Add", "Sub", "Mul", "Div", "Pow", "Min", "Max", "Where", "Mod"};
constexpr std::array<std::string_view, 3> kRecurrent{"RNN", "LSTM", "GRU"};

// Operands that layers keep their parameters in.
struct WeightOperand {
  std::string_view op;
  std::size_t input;
  WeightRole role;
};
constexpr WeightRole kVector = WeightRole::vector, kMatrix = WeightRole::matrix;
constexpr std::array<WeightOperand, 32> kWeightOperands{{{"Conv", 1, kMatrix},
                                                         {"Conv", 2, kVector},
                                                         {"ConvTranspose", 1, kMatrix},
                                                         {"ConvTranspose", 2, kVector},
                                                         {"DeformConv", 1, kMatrix},
                                                         {"DeformConv", 3, kVector},
                                                         {"Gemm", 0, kMatrix},
                                                         {"Gemm", 1, kMatrix},
                                                         {"Gemm", 2, kVector},
                                                         {"MatMul", 0, kMatrix},
                                                         {"MatMul", 1, kMatrix},
                                                         {"Gather", 0, kMatrix},
                                                         {"RNN", 1, kMatrix},
                                                         {"RNN", 2, kMatrix},
                                                         {"RNN", 3, kVector},
                                                         {"LSTM", 1, kMatrix},
                                                         {"LSTM", 2, kMatrix},
                                                         {"LSTM", 3, kVector},
                                                         {"LSTM", 7, kVector},
                                                         {"GRU", 1, kMatrix},
                                                         {"GRU", 2, kMatrix},
                                                         {"GRU", 3, kVector},
                                                         {"BatchNormalization", 1, kVector},
                                                         {"BatchNormalization", 2, kVector},
                                                         {"InstanceNormalization", 1, kVector},
                                                         {"InstanceNormalization", 2, kVector},
                                                         {"LayerNormalization", 1, kVector},
                                                         {"LayerNormalization", 2, kVector},
                                                         {"GroupNormalization", 1, kVector},
                                                         {"GroupNormalization", 2, kVector},
                                                         {"RMSNormalization", 1, kVector},
                                                         {"PRelu", 1, kVector}}};

WeightRole role_of(const Node& node, std::size_t input) {
  if (!node.domain.empty()) return WeightRole::none;
  if (node.op == "Einsum") return kMatrix;
  for (const auto& w : kWeightOperands)
    if (w.op == node.op && w.input == input) return w.role;
  return WeightRole::none;
}

struct Setting {
  std::string_view op;
  std::size_t first, last;  ///< inputs
};
constexpr std::array<Setting, 8> kSettings{{{"Resize", 1, 3},
                                            {"Upsample", 1, 1},
                                            {"Dropout", 1, 2},
                                            {"Clip", 1, 2},
                                            {"Pad", 1, 3},
                                            {"OneHot", 1, 2},
                                            {"Range", 0, 2},
                                            {"BatchNormalization", 3, 4}}};

}  // namespace

std::vector<std::vector<Use>> uses_of(const Graph& graph) {
  std::vector<std::vector<Use>> uses(graph.values.size());
  for (std::size_t n = 0; n < graph.nodes.size(); ++n)
    for (std::size_t i = 0; i < graph.nodes[n].inputs.size(); ++i)
      if (const ValueId in = graph.nodes[n].inputs[i]; in != kNoValue)
        uses[static_cast<std::size_t>(in)].push_back({n, i});
  return uses;
}

bool is_movement(const Node& node) { return is_any(node, kMovement); }
bool is_spreading(const Node& node) { return is_any(node, kSpreading); }
bool is_recurrent(const Node& node) { return is_any(node, kRecurrent); }

bool is_setting(const Node& node, std::size_t input) {
  return node.domain.empty() && std::any_of(kSettings.begin(), kSettings.end(), [&](const Setting& s) {
           return s.op == node.op && s.first <= input && input <= s.last;
         });
}

ModelFacts::ModelFacts(const Graph& typed, Exporter by)
    : graph(typed), exporter(by), uses_(uses_of(typed)), producers_(typed.producers()) {
  find_statistics();
  find_gradients();
  find_roles();
  find_habits();
}

const Node* ModelFacts::producer(ValueId id) const {
  const std::int32_t i = id == kNoValue ? -1 : producers_[index(id)];
  return i < 0 ? nullptr : &graph.nodes[static_cast<std::size_t>(i)];
}

void ModelFacts::find_statistics() {
  statistics_.assign(graph.values.size(), false);
  for (const Node& node : graph.nodes) {
    if (!node.is("BatchNormalization")) continue;
    for (std::size_t i : {3u, 4u})
      if (node.input(i) != kNoValue) statistics_[index(node.input(i))] = true;
  }
  for (auto node = graph.nodes.rbegin(); node != graph.nodes.rend(); ++node) {
    const bool passes_on = node->is("Expand") || node->is("CastLike") || node->is("Cast") || node->is("Identity");
    if (passes_on && is_statistic(node->outputs[0])) statistics_[index(node->inputs[0])] = true;
  }
}

void ModelFacts::find_gradients() {
  gradients_.assign(graph.values.size(), false);
  for (ValueId id : graph.outputs) gradients_[index(id)] = is_float(graph[id].dtype);
  for (auto node = graph.nodes.rbegin(); node != graph.nodes.rend(); ++node) {
    if (std::none_of(node->outputs.begin(), node->outputs.end(),
                     [&](ValueId out) { return out != kNoValue && has_gradient(out); }))
      continue;
    for (std::size_t i = 0; i < node->inputs.size(); ++i) {
      const ValueId in = node->inputs[i];
      if (in != kNoValue && is_float(graph[in].dtype) && !is_setting(*node, i)) gradients_[index(in)] = true;
    }
  }
}

void ModelFacts::find_roles() {
  // Values that are made of constants by movement alone.
  std::vector<bool> moved(graph.values.size(), false);
  for (std::size_t i = 0; i < moved.size(); ++i) moved[i] = graph.values[i].is_constant();
  const auto data_inputs = [](const Node& node) { return node.is("Concat") ? node.inputs.size() : std::size_t{1}; };
  const auto is_moved = [&](const Node& node) {
    if (!is_movement(node)) return false;
    for (std::size_t i = 0; i < data_inputs(node); ++i)
      if (node.input(i) == kNoValue || !moved[index(node.input(i))]) return false;
    return true;
  };
  for (const Node& node : graph.nodes)
    if (is_moved(node))
      for (ValueId out : node.outputs)
        if (out != kNoValue) moved[index(out)] = true;

  roles_.assign(graph.values.size(), WeightRole::none);
  const auto raise = [&](ValueId id, WeightRole role) {
    if (id != kNoValue && moved[index(id)]) roles_[index(id)] = std::max(roles_[index(id)], role);
  };
  for (auto node = graph.nodes.rbegin(); node != graph.nodes.rend(); ++node) {
    for (std::size_t i = 0; i < node->operands().size(); ++i) {
      const ValueId in = node->inputs[i];
      WeightRole role = role_of(*node, i);
      const bool is_flat = in != kNoValue && graph[in].shape.is_ranked() && graph[in].shape.rank() < 2;
      // Of a vector Gather takes single numbers: extents, settings.
      if (role == WeightRole::matrix && is_flat)
        role = node->is("Gather") || graph[in].shape.rank() == 0 ? WeightRole::none : WeightRole::vector;
      raise(in, role);
    }
    if (!is_moved(*node)) continue;
    // One element that fills a tensor is a number: the zero of an initial state.
    const bool repeats = node->is("Expand") || node->is("Tile");
    if (repeats && graph[node->inputs[0]].shape.is_static() && graph[node->inputs[0]].shape.count() == 1) continue;
    for (ValueId out : node->outputs)
      if (out != kNoValue)
        for (std::size_t i = 0; i < data_inputs(*node); ++i) raise(node->inputs[i], roles_[index(out)]);
  }
}

void ModelFacts::find_habits() {
  for (std::size_t i = 0; i < graph.values.size(); ++i) {
    const Value& value = graph.values[i];
    has_declarations_ = has_declarations_ || value.declared != Declared::nothing;
    if (!value.is_constant() || !is_float(value.dtype) || roles_[i] != WeightRole::matrix) continue;
    const bool is_path = kind_of_name(value.name) == NameKind::path;
    names_modules_ = names_modules_ || is_path;
    if (value.is_initializer) initializers_hold_weights_ = true;
    if (!value.is_initializer && (exporter != Exporter::pytorch || is_path)) constants_hold_weights_ = true;
  }
}

}  // namespace halfstep
