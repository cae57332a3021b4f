// Batches of a stream, in the types of a model.
#pragma once

#include <cstddef>
#include <cstdint>
#include <exception>
#include <optional>
#include <string>
#include <vector>

#include "data/batch_reader.h"
#include <halfstep/data/batch_stream.h>
#include <halfstep/data/dataset.h>
#include <halfstep/data/row_transform.h>

namespace halfstep {

/// Name of the labels in the stream's batches if there is one loss.
inline constexpr const char* kStreamLabels = "labels";

/// The first batch of the stream's first epoch as a data set, which determines the conversion of rows and the loss.
/// Throws Error(input) if there is none.
Dataset first_batch(BatchStream& stream);

/// A tensor of the stream's batches, and its conversion for a step.
struct StreamColumn {
  std::string name;
  RowTransform transform;
};

struct StreamOptions {
  std::vector<StreamColumn> x = {}, labels = {}, sample_weights = {};
  Cursor start = {};
  std::optional<std::int64_t> end_epoch = {};   ///< end of the epochs to read (excluded); unset: no end
  std::optional<std::int64_t> batch_size = {};  ///< set: the model requires this number of rows
};

/// Reads one batch ahead, to detect the last one of an epoch.
class StreamReader : public BatchReader {
 public:
  /// The stream must outlive the reader.
  StreamReader(BatchStream& stream, StreamOptions options);

  /// Throws Error(input) for a batch that differs in form from the first.
  const Batch* next() override;
  std::int64_t batches_per_epoch() const override { return 0; }

 private:
  /// A batch and its conversion buffers, which are reused for the batch after the next.
  struct Slot {
    Batch batch;
    std::vector<Tensor> buffers;
  };

  /// Makes the batch that was read ahead the current one; false at the end.
  bool to_next();
  /// Reads the one after it, and where that begins an epoch says so in the current one.
  void read_ahead();
  void begin();
  bool read(Slot& slot);
  Tensor converted(const Tensor& given, const StreamColumn& column, Tensor& buffer);

  BatchStream& stream_;
  StreamOptions options_;
  Cursor at_;
  Slot current_, ahead_;
  std::vector<std::int64_t> numbers_;  // of a batch's rows
  bool began_ = false, has_ahead_ = false;
  std::exception_ptr error_;  // of the batch after the current one
};

}  // namespace halfstep
