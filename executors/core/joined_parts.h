// Where the tensors of a StartAllReduce lie in the memory in which they are reduced.
#pragma once

#include <cstddef>
#include <vector>

#include <halfstep/graph/graph.h>

namespace halfstep::core {

/// The same on every rank and for every executor. Each begins as kernels ask for, which read and write it there; what
/// is between two is reduced, too, and nobody reads it.
struct JoinedParts {
  JoinedParts(const Graph& graph, const Node& start);

  DType dtype = DType::undefined;
  std::vector<std::size_t> offsets, sizes;  ///< bytes
  std::size_t bytes = 0;                    ///< of all

  std::size_t count() const { return bytes / bytes_of(dtype, 1); }
};

}  // namespace halfstep::core
