// Custom data read by row: a database, an archive, computed rows.
#pragma once

#include <cstdint>
#include <map>
#include <span>
#include <string>

#include <halfstep/base/api.h>
#include <halfstep/formats/data_array.h>
#include <halfstep/graph/named_tensors.h>

namespace HALFSTEP_API halfstep {

/// A custom source of rows with random access; each row has several tensors. It is for data that is not in files of a
/// known format and too large for memory. Training shuffles the rows, prefetches, and resumes as with files.
class RowSource {
 public:
  virtual ~RowSource() = default;

  virtual std::int64_t rows() const = 0;

  /// The tensors of a row, by the names of the model's inputs and, for labels, "labels". Must not change.
  virtual std::map<std::string, RowType> types() const = 0;

  /// Writes rows to the memory of `out`: tensors [rows.size(), ...] for some of the names, all that a batch needs in
  /// one call. The same rows and draw must give the same numbers, so that a resumed run reads the same data; random
  /// transforms of a row, such as an image's crop, must depend only on `draw` and the row's number. Called by a
  /// prefetch thread; by two concurrently if rows are used for training and evaluation at the same time. Throws
  /// Error(failure) for rows that cannot be read: training then stops and keeps its progress.
  virtual void read(std::span<const std::int64_t> rows, const RowDraw& draw, NamedTensors& out) = 0;
};

/// Calls `source.read`. Throws Error(failure) if it replaced the tensors of `out` instead of writing to them.
void read_in_place(RowSource& source, std::span<const std::int64_t> rows, const RowDraw& draw, NamedTensors& out);

}  // namespace halfstep
