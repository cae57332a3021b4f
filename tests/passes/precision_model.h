// A model as the choice of precision sees it, written down node by node.
#pragma once

#include <deque>
#include <string_view>
#include <vector>

#include "passes/precision/choose_precision.h"
#include <halfstep/graph/tensor.h>

namespace halfstep::testing {

struct PrecisionModel {
  std::vector<PrecisionNode> nodes;
  ValueMap<PrecisionValue> values;
  std::deque<FloatRange> ranges;

  /// A computed value of which nothing is known.
  ValueId value() { return values.add({.wide = true}); }
  ValueId measured(const std::vector<float>& elements) {
    const ValueId id = value();
    measure(id, elements);
    return id;
  }
  void measure(ValueId id, const std::vector<float>& elements) {
    at(id).range = &ranges.emplace_back(range_of(Tensor::of(elements)));
  }
  ValueId constant(const std::vector<float>& elements) {
    const ValueId id = measured(elements);
    at(id).kind = PrecisionValue::Kind::constant;
    return id;
  }
  ValueId expected(double root_mean_square) {
    const ValueId id = value();
    at(id).expected = root_mean_square;
    return id;
  }

  /// A node of f32 operands, all of which become half with it; gives its result.
  ValueId node(std::string_view op, const std::vector<ValueId>& inputs) {
    const ValueId result = value();
    nodes.push_back({.op = op,
                     .domain = {},
                     .inputs = inputs,
                     .outputs = {result},
                     .input_roles = std::vector<Role>(inputs.size(), Role::tied),
                     .output_roles = {Role::tied},
                     .reason = {}});
    return result;
  }
  /// What leaves the model.
  void output(ValueId id) {
    node({}, {id});
    nodes.back().outputs.clear();
    nodes.back().output_roles.clear();
  }

  PrecisionValue& at(ValueId id) { return values[id]; }
};

}  // namespace halfstep::testing
