// Cases with other extents: what drawing them at random and enlarging them share.
#pragma once

#include <cstdint>
#include <map>
#include <vector>

#include "conformance/cases.h"

namespace halfstep {

/// Extent → extent: all that were equal stay equal, so that operands go on to fit each other.
using ExtentMap = std::map<std::int64_t, std::int64_t>;

Shape mapped(const Shape& shape, const ExtentMap& extents);
/// Integers that are extents themselves: targets of Reshape and Expand, attributes such as input_shape.
std::vector<std::int64_t> mapped_values(std::vector<std::int64_t> values, const ExtentMap& extents);
/// The same in every attribute that is a shape.
void change_shape_attributes(Graph& graph, const ExtentMap& extents);

/// Elements taken round and round.
Tensor resized(const Tensor& from, const Shape& shape);
bool can_resize(const Tensor& tensor);

/// Variations::keep_integers of any of its operators.
bool keeps_integers(const Graph& graph);
/// Variations::fits of all of them.
bool is_fit(const Graph& graph);
/// Whether no value whose shape is known has more elements: asked before anything of that size is made.
bool all_within(const Graph& graph, std::int64_t most_elements);
/// Whether the reference executor gives results of the shapes that were inferred, and none larger than that. Throws
/// Error as it does.
bool runs_as_inferred(const ConformanceCase& made, std::int64_t most_elements);

}  // namespace halfstep
