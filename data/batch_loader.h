// Batches in the model's shape and dtype, prepared ahead by a thread.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <vector>

#include <halfstep/data/dataset.h>
#include <halfstep/data/row_transform.h>
#include <halfstep/graph/tensor.h>

namespace halfstep {

/// A place in the sequence of batches; with the seed it is all that a checkpoint needs to go on from there.
struct Cursor {
  std::int64_t epoch = 0;
  std::int64_t row = 0;  ///< rows of the epoch's order already taken

  bool operator==(const Cursor&) const = default;
};

struct LoaderOptions {
  std::int64_t batch_size = 32;  ///< rows; more than the data set has means all of it
  bool shuffle = true;
  bool drop_last = false;  ///< leave out an epoch's last batch when it is smaller than the others
  std::uint64_t seed = 0;
  Cursor start = {};
  std::optional<std::int64_t> end_epoch = {};  ///< the first epoch not to read; unset: no end
  int prefetch = 8;                            ///< batches that may be ready ahead of the consumer, at least 1
};

/// One batch: each of x, and y where there are labels, is [rows, ...].
struct Batch {
  std::vector<Tensor> x;
  Tensor y;
  std::int64_t rows = 0;
  Cursor at;    ///< where it starts
  Cursor next;  ///< where the batch after it starts: {epoch + 1, 0} after the last of an epoch

  bool ends_epoch() const { return next.epoch != at.epoch; }
};

/// Reads, converts and hands out batches in epoch order. Memory is a ring of `prefetch + 1` batches and one index per
/// row; nothing is allocated after construction. For one consumer thread.
class BatchLoader {
 public:
  /// `x` has a transform for each array of data.x. Throws Error when an option is out of range or a transform was made
  /// for other rows. `y` is unset to leave labels out.
  BatchLoader(const Dataset& data, std::vector<RowTransform> x, std::optional<RowTransform> y,
              const LoaderOptions& options = {});
  ~BatchLoader();
  BatchLoader(const BatchLoader&) = delete;
  BatchLoader& operator=(const BatchLoader&) = delete;

  /// The next batch, waiting for it if need be; null at the end. Valid until the next call.
  /// Throws what went wrong while a batch was read, after the good batches before it, and again on every further call.
  const Batch* next();

  /// Rows in a full batch.
  std::int64_t batch_size() const;
  /// Batches of an epoch read from its start.
  std::int64_t batches_per_epoch() const;

 private:
  class Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace halfstep
