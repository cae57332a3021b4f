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
  std::vector<PrecisionValue> values;
  std::deque<FloatRange> ranges;

  /// A computed value of which nothing is known.
  int value() {
    values.push_back({.wide = true});
    return static_cast<int>(values.size()) - 1;
  }
  int measured(const std::vector<float>& elements) {
    const int id = value();
    measure(id, elements);
    return id;
  }
  void measure(int id, const std::vector<float>& elements) {
    at(id).range = &ranges.emplace_back(range_of(Tensor::of(elements)));
  }
  int constant(const std::vector<float>& elements) {
    const int id = measured(elements);
    at(id).kind = PrecisionValue::Kind::constant;
    return id;
  }
  int expected(double root_mean_square) {
    const int id = value();
    at(id).expected = root_mean_square;
    return id;
  }

  /// A node of f32 operands, all of which become half with it; gives its result.
  int node(std::string_view op, const std::vector<int>& inputs) {
    const int result = value();
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
  void output(int id) {
    node({}, {id});
    nodes.back().outputs.clear();
    nodes.back().output_roles.clear();
  }

  PrecisionValue& at(int id) { return values[static_cast<std::size_t>(id)]; }
};

}  // namespace halfstep::testing
