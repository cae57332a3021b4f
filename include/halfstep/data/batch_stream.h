// Batches that a program makes itself.
#pragma once

#include <cstdint>
#include <optional>

#include <halfstep/base/api.h>
#include <halfstep/graph/named_tensors.h>

namespace HALFSTEP_API halfstep {

/// A source of batches that are read once each, in its own order: a generator, a queue, another framework's loader. Is
/// called by one thread, that of Trainer::fit.
class BatchStream {
 public:
  virtual ~BatchStream() = default;

  /// Starts an epoch, counted from 0, at its first batch. Epoch 0 is started twice: its first batch tells what a model
  /// is trained on. The epochs should have the same batches, or batches drawn from their number: a run is resumed by
  /// reading again, and leaving out, what it has seen of its epoch.
  virtual void begin(std::int64_t epoch) = 0;

  /// The next batch of the epoch, tensors by the names of the model's inputs and, for labels, "labels" or, as for
  /// sample weights, the names in OutputLoss; their first axis is the batch's. Empty at the end of the epoch. The
  /// tensors must stay as they are for one more call: a batch is read ahead.
  virtual NamedTensors next() = 0;

  /// Rows of an epoch, where that is known.
  virtual std::optional<std::int64_t> rows() const { return {}; }
};

}  // namespace halfstep
