// Batches in the model's shape and type, prefetched by a thread.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <vector>

#include "data/batch_reader.h"
#include "data/share.h"
#include <halfstep/data/row_transform.h>
#include <halfstep/formats/data_array.h>

namespace halfstep {

struct LoaderOptions {
  std::int64_t batch_size = 32;  ///< rows; more than the data set has means all of it
  Share share = {};              ///< what of each batch is read
  bool shuffle = true;
  bool drop_last = false;  ///< omit an epoch's last batch if it is smaller than the others
  std::uint64_t seed = 0;
  Cursor start = {};
  std::optional<std::int64_t> end_epoch = {};  ///< end of the epochs to read (excluded); unset: no end
  int prefetch = 8;                            ///< maximum number of prefetched batches, at least 1
};

/// How many batches of so many bytes a loader holds: those ahead, which are two where they are large, and the one that
/// is used.
inline std::size_t batches_held(std::size_t batch_bytes, int prefetch = LoaderOptions().prefetch) {
  constexpr std::size_t kAhead = std::size_t{8} << 20;
  const auto most = static_cast<std::size_t>(prefetch);
  return 1 + std::clamp(kAhead / std::max<std::size_t>(batch_bytes, 1), std::min<std::size_t>(2, most), most);
}

/// An array, and what a step takes of its rows.
struct FittedRows {
  DataArray rows;
  RowTransform transform;
};
/// The arrays of the batches, with the same number of rows each.
struct BatchColumns {
  std::vector<FittedRows> x, labels = {}, sample_weights = {};
};

/// Reads, converts and hands out batches in epoch order. Memory is a ring of `batches_held` batches and one index per
/// row; nothing is allocated after construction. Arrays of one RowSource are read by one call for a batch. For one
/// consumer thread.
class BatchLoader : public BatchReader {
 public:
  /// Needs at least one array of x. Throws Error if an option is out of range, a transform was created for other rows,
  /// or the numbers of rows differ.
  explicit BatchLoader(BatchColumns columns, const LoaderOptions& options = {});
  ~BatchLoader() override;
  BatchLoader(const BatchLoader&) = delete;
  BatchLoader& operator=(const BatchLoader&) = delete;

  const Batch* next() override;
  const Batch* ahead() override;

  /// Rows in a full batch, of all ranks together.
  std::int64_t batch_size() const;
  std::int64_t batches_per_epoch() const override;

 private:
  class Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace halfstep
