// The equation of an Einsum.
#pragma once

#include <algorithm>
#include <cstdint>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include <halfstep/graph/graph.h>

namespace halfstep::ops {

/// Labels of the axes of a tensor, in order: letters, or kEllipsis + i for the i-th axis (from the back) of an
/// ellipsis.
using Labels = std::vector<int>;
constexpr int kEllipsis = 256;

/// An Einsum equation with every ellipsis expanded for operands of given shapes.
struct Equation {
  std::vector<Labels> operands;
  Labels output;
  /// Every label with its extent, the largest of its axes': those of the output, in order, then the summed ones.
  /// Unknown if an unknown axis may be larger than 1.
  std::vector<std::pair<int, std::int64_t>> extents;

  Equation(const std::string& text, std::span<const Shape> shapes);

  Shape result_shape() const {
    std::vector<std::int64_t> dims;
    for (std::size_t i = 0; i < output.size(); ++i) dims.push_back(extents[i].second);
    return Shape(std::move(dims));
  }
  std::int64_t& extent(int label) {
    auto it = std::ranges::find(extents, label, &std::pair<int, std::int64_t>::first);
    return it != extents.end() ? it->second : extents.emplace_back(label, 1).second;
  }
  /// The extent to which an axis of extent 1 with this label is broadcast.
  std::int64_t full_extent(int label) const {
    return std::ranges::find(extents, label, &std::pair<int, std::int64_t>::first)->second;
  }
};

Equation equation_of(const Node& node, std::span<const Shape> shapes);

}  // namespace halfstep::ops
