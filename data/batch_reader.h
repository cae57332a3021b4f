// Batches one after the other, whoever makes them.
#pragma once

#include <cstdint>
#include <vector>

#include <halfstep/graph/tensor.h>

namespace halfstep {

/// A place in the sequence of batches; with the seed it is all that a checkpoint needs to go on from there.
struct Cursor {
  std::int64_t epoch = 0;
  std::int64_t row = 0;  ///< rows of the epoch's order already taken

  bool operator==(const Cursor&) const = default;
};

/// One batch, or one rank's part of it: each tensor is [rows, ...].
struct Batch {
  std::vector<Tensor> x, labels, sample_weights;
  std::int64_t rows = 0;
  std::int64_t all_rows = 0;  ///< of all ranks together, see Share
  /// Whether the rows are another rank's: there are none for this one, and it takes the last to have some. They weigh
  /// nothing.
  bool is_spare = false;
  Cursor at;    ///< where it starts
  Cursor next;  ///< where the batch after it starts: {epoch + 1, 0} after the last of an epoch

  bool ends_epoch() const { return next.epoch != at.epoch; }
};

class BatchReader {
 public:
  virtual ~BatchReader() = default;

  /// The next batch, waiting for it if need be; null at the end. Valid until the next call.
  /// Throws what went wrong while a batch was read, after the good batches before it, and again on every further call.
  virtual const Batch* next() = 0;

  /// Batches of an epoch read from its start; 0 where that is not known.
  virtual std::int64_t batches_per_epoch() const = 0;
};

}  // namespace halfstep
