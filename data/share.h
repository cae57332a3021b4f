// Which rows of a batch one of several ranks takes.
#pragma once

#include <cstdint>

namespace halfstep {

/// The rows of each batch are dealt in their order: rank 0 takes the first ones. Shares differ by a row at most, and of
/// a batch that has fewer rows than there are ranks the last ranks get none.
struct Share {
  int rank = 0, ranks = 1;

  std::int64_t begin(std::int64_t rows) const { return (rows * rank + ranks - 1) / ranks; }
  std::int64_t end(std::int64_t rows) const { return (rows * (rank + 1) + ranks - 1) / ranks; }
  std::int64_t size(std::int64_t rows) const { return end(rows) - begin(rows); }

  bool operator==(const Share&) const = default;
};

}  // namespace halfstep
