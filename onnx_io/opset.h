// Selects the oldest opset that a graph can declare.
#pragma once

#include <cstdint>

#include <halfstep/graph/graph.h>

namespace halfstep {

/// Oldest opset that is written.
inline constexpr std::int64_t kOldestWrittenOpset = 13;

/// The oldest version of ai.onnx, at least kOldestWrittenOpset, in which every node of the graph (in its newest form)
/// is valid with the same meaning: this makes the model usable in more runtimes.
std::int64_t lowest_opset(const Graph& graph);

/// The IR version introduced with an opset of ai.onnx.
std::int64_t ir_version_of(std::int64_t opset);

}  // namespace halfstep
