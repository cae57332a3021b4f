// What GatherFromRanks does on each rank.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "executors/core/transport.h"
#include <halfstep/distributed/communicator.h>

namespace halfstep::core {

/// A rank's part is all that it sends, one tensor behind the other. Parts are gathered window by window, so that little
/// memory is needed beside the tensors.
class GatherParts {
 public:
  /// Bytes of the tensors that this rank sends and takes, and who sends those. Throws Error(failure) for an owner that
  /// is no rank.
  GatherParts(const Communicator& ranks, std::span<const std::size_t> sent, std::span<const std::size_t> taken,
              std::span<const std::int64_t> owners);

  /// Of memory that `run` needs: for a window of this rank's part, and of all.
  std::size_t window_bytes() const { return length_; }
  std::size_t windows_bytes() const { return length_ * ranks_; }

  /// Collective. nullptr: a tensor that nobody wants.
  void run(const Transport& transport, std::span<void* const> sent, std::span<void* const> taken, void* window,
           void* windows) const;

 private:
  struct Place {
    std::size_t rank = 0, offset = 0, bytes = 0;  ///< in the part of that rank
  };
  template <class Copy>
  void in_window(std::span<const Place> places, std::span<void* const> tensors, void* window, std::size_t begin,
                 const Copy& copy) const;

  std::vector<Place> sent_, taken_;
  std::size_t ranks_, longest_ = 0, length_ = 0;
};

}  // namespace halfstep::core
