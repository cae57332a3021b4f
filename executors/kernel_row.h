// One row of an executor's table of kernels.
#pragma once

#include <algorithm>
#include <span>
#include <string_view>
#include <vector>

#include "graph/graph.h"

namespace halfstep {

/// The makers for an operator, best first: the first that takes a node wins, a refusal says why.
template <class Maker>
struct KernelRow {
  std::string_view op, domain;
  std::vector<Maker> makers;
};

/// The makers for a node; none when the table lacks its operator.
template <class Maker>
std::span<const Maker> makers_of(std::span<const KernelRow<Maker>> table, const Node& node) {
  const auto row = std::ranges::find_if(
      table, [&](const KernelRow<Maker>& candidate) { return node.is(candidate.op, candidate.domain); });
  if (row == table.end()) return {};
  return row->makers;
}

}  // namespace halfstep
