#include "executors/core/joined_parts.h"

#include "ops/collective/all_reduce.h"

namespace halfstep::core {
namespace {

constexpr std::size_t kAlignment = 64;

constexpr std::size_t aligned(std::size_t bytes) { return (bytes + kAlignment - 1) / kAlignment * kAlignment; }

}  // namespace

JoinedParts::JoinedParts(const Graph& graph, const Node& start) : dtype(graph[start.outputs[0]].dtype) {
  for (std::size_t i = kFirstReduced; i < start.inputs.size(); ++i) {
    sizes.push_back(bytes_of(dtype, static_cast<std::size_t>(graph[start.inputs[i]].shape.count())));
    offsets.push_back(aligned(bytes));
    bytes = offsets.back() + sizes.back();
  }
}

}  // namespace halfstep::core
