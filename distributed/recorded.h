// A communicator that remembers when its all-reduces were under way.
#pragma once

#include <chrono>
#include <cstddef>
#include <memory>
#include <vector>

#include <halfstep/base/api.h>
#include <halfstep/distributed/communicator.h>

namespace HALFSTEP_API halfstep {

struct RecordedReduction {
  std::chrono::steady_clock::time_point start = {};
  std::chrono::steady_clock::time_point end = {};  ///< when it was done, where that is known, or awaited
  std::size_t bytes = 0;

  double seconds() const { return std::chrono::duration<double>(end - start).count(); }
};

/// In the order in which they were started: those of `make_all_reduce` alone.
using RecordedReductions = std::vector<RecordedReduction>;

/// `ranks`, which adds to `records`; both outlive the result's last call.
std::shared_ptr<Communicator> recorded(std::shared_ptr<Communicator> ranks,
                                       std::shared_ptr<RecordedReductions> records);

}  // namespace halfstep
