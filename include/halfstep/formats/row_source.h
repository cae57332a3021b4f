// Data of a program's own that is read by row: a database, an archive, rows that are computed.
#pragma once

#include <cstdint>
#include <map>
#include <span>
#include <string>

#include <halfstep/base/api.h>
#include <halfstep/formats/data_array.h>
#include <halfstep/graph/named_tensors.h>

namespace HALFSTEP_API halfstep {

/// Rows that are read in any order, of which each has several tensors: what a data set is made from where the rows are
/// in no file of a known format and too many for memory. Training shuffles them, reads ahead of the step, and resumes,
/// as it does with files.
class RowSource {
 public:
  virtual ~RowSource() = default;

  virtual std::int64_t rows() const = 0;

  /// What a row has, by the names of the model's inputs and, for labels, "labels". Does not change.
  virtual std::map<std::string, RowType> types() const = 0;

  /// Writes to the memory of `out`: tensors [rows.size(), ...] by some of the names, for a batch all of those that it
  /// needs at once. The numbers are the same whenever the same rows are read for the same draw, so that a resumed run
  /// sees what it would have seen; what is random about a row, a picture's crop, is drawn from `draw` and the row's
  /// number. Is called by a thread that reads ahead; by two at once where rows are trained on and evaluated at the same
  /// time. Throws Error(failure) for rows that cannot be read: then training stops, and keeps what it has.
  virtual void read(std::span<const std::int64_t> rows, const RowDraw& draw, NamedTensors& out) = 0;
};

/// `source.read`. Throws Error(failure) where that put other tensors in the place of those it was to write to.
void read_in_place(RowSource& source, std::span<const std::int64_t> rows, const RowDraw& draw, NamedTensors& out);

}  // namespace halfstep
