// Interface for reading batches one after the other.
#pragma once

#include <cstdint>
#include <vector>

#include <halfstep/graph/tensor.h>

namespace halfstep {

/// A position in the sequence of batches; with the seed it is all that a checkpoint needs to resume there.
struct Cursor {
  std::int64_t epoch = 0;
  std::int64_t row = 0;  ///< number of rows of the epoch's order already used

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

  /// The next batch; waits for it if necessary; null at the end. Valid until the next call. Throws errors of reading a
  /// batch after the valid batches before it, and again on every further call.
  virtual const Batch* next() = 0;

  /// What the next call of `next` will give, if it is there already; null where it is not. Valid until the call after
  /// that one.
  virtual const Batch* ahead() { return nullptr; }

  /// Number of batches of an epoch read from its start; 0 if unknown.
  virtual std::int64_t batches_per_epoch() const = 0;
};

}  // namespace halfstep
