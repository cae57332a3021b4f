// Batches provided by the caller.
#pragma once

#include <cstdint>
#include <optional>

#include <halfstep/base/api.h>
#include <halfstep/graph/named_tensors.h>

namespace HALFSTEP_API halfstep {

/// A sequential source of batches: a generator, a queue, another framework's data loader. Called only by the thread of
/// Trainer::fit.
class BatchStream {
 public:
  virtual ~BatchStream() = default;

  /// Starts an epoch, counted from 0, at its first batch. Epoch 0 is started twice: its first batch determines types,
  /// shapes and defaults. Epochs should have the same batches, or batches that depend only on the epoch's number: a
  /// resumed run reads and skips the batches of its epoch that were already used.
  virtual void begin(std::int64_t epoch) = 0;

  /// The next batch of the epoch: tensors by the names of the model's inputs and, for labels, "labels" or, as for
  /// sample weights, the names in OutputLoss; the first axis is the batch axis. Empty at the end of the epoch. The
  /// tensors must remain unchanged during one more call: one batch is prefetched.
  virtual NamedTensors next() = 0;

  /// Number of rows of an epoch, if known.
  virtual std::optional<std::int64_t> rows() const { return {}; }
};

}  // namespace halfstep
