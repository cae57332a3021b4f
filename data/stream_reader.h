// Batches of a stream, in a model's types.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "data/batch_reader.h"
#include <halfstep/data/batch_stream.h>
#include <halfstep/data/dataset.h>
#include <halfstep/data/row_transform.h>

namespace halfstep {

/// What the labels of a stream's batches are called where there is one loss.
inline constexpr const char* kStreamLabels = "labels";

/// The first batch of the stream's first epoch as a data set, which tells how rows become batches and what the loss is.
/// Throws Error(input) where there is none.
Dataset first_batch(BatchStream& stream);

struct StreamOptions {
  std::vector<std::string> x_names = {};  ///< in the order of the transforms
  std::vector<RowTransform> x = {};
  std::vector<std::string> label_names = {};  ///< in the order of theirs
  std::vector<RowTransform> labels = {};
  Cursor start = {};
  std::optional<std::int64_t> end_epoch = {};   ///< the first epoch not to read; unset: no end
  std::optional<std::int64_t> batch_size = {};  ///< set: the model takes no other number of rows
};

/// Reads one batch ahead, to know which one ends an epoch.
class StreamReader : public BatchReader {
 public:
  /// The stream must outlive the reader.
  StreamReader(BatchStream& stream, StreamOptions options);

  /// Throws Error(input) for a batch that is not like the first.
  const Batch* next() override;
  std::int64_t batches_per_epoch() const override { return 0; }

 private:
  void begin();
  bool read(Batch& batch);
  Tensor converted(const NamedTensors& given, const std::string& name, const RowTransform& transform,
                   std::int64_t& rows) const;

  BatchStream& stream_;
  StreamOptions options_;
  Cursor at_;
  Batch current_, ahead_;
  bool began_ = false, has_ahead_ = false;
};

}  // namespace halfstep
