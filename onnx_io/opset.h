// Declaring no newer an operator set than a graph needs.
#pragma once

#include <cstdint>

#include <halfstep/graph/graph.h>

namespace halfstep {

/// Oldest operator set that is written.
inline constexpr std::int64_t kOldestWrittenOpset = 13;

/// The oldest version of ai.onnx, from kOldestWrittenOpset on, in which every node of the graph (in its newest form) is
/// valid and means the same: a model declared so runs in more runtimes.
std::int64_t lowest_opset(const Graph& graph);

/// The IR version that came with an operator set of ai.onnx.
std::int64_t ir_version_of(std::int64_t opset);

}  // namespace halfstep
