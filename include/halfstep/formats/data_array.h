// An array of rows whose elements stay on disk.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include <halfstep/base/api.h>
#include <halfstep/base/dtype.h>
#include <halfstep/formats/shared_bytes.h>
#include <halfstep/graph/shape.h>
#include <halfstep/graph/tensor.h>

namespace HALFSTEP_API halfstep {

/// Element type and shape of one row.
struct RowType {
  DType dtype = DType::undefined;
  Shape shape;

  bool operator==(const RowType&) const = default;
  /// "u8 [28, 28]".
  std::string to_string() const;
};

/// How an array lies in its bytes.
struct StorageOrder {
  bool big_endian = false;
  bool fortran = false;  ///< the first axis varies fastest
};

/// What rows are drawn by whose reading is partly random, such as pictures that are cropped for training.
struct RowDraw {
  std::uint64_t seed = 0;
  std::int64_t epoch = 0;
};

/// Makes rows[0], rows[1], … one after the other at `out`: the same bits whenever it is called for the same draw.
using RowMaker = std::function<void(std::span<const std::int64_t> rows, const RowDraw& draw, void* out)>;

class RowSource;

/// Elements of one dtype under a shape whose axis 0 counts rows. Rows are read in any order, as native-endian row-major
/// elements; only what is read is paged in.
class DataArray {
 public:
  /// `name` is what errors call the array. Throws Error when `bytes` is not exactly as long as dtype and shape ask for,
  /// and for elements that are no whole bytes (strings, packed types).
  DataArray(std::string name, DType dtype, Shape shape, SharedBytes bytes, StorageOrder order = {});
  /// Rows that are made each time they are read.
  static DataArray made(std::string name, RowType type, std::int64_t rows, RowMaker make);
  /// The tensors of a source's rows that it calls `name`. Throws Error(input) where it has none of that name.
  static DataArray of(std::shared_ptr<RowSource> source, const std::string& name);
  /// An array in memory (shares the tensor's buffer).
  static DataArray of(const Tensor& tensor, std::string name);

  const std::string& name() const { return name_; }
  DType dtype() const { return dtype_; }
  const Shape& shape() const { return shape_; }
  /// Extent of axis 0; 1 for a scalar.
  std::int64_t rows() const { return shape_.rank() ? shape_[0] : 1; }
  const RowType& row_type() const { return row_type_; }
  std::size_t row_bytes() const { return row_bytes_; }
  /// Where the rows are read from, and what it calls them, which is `name()`; null for other arrays. Whoever reads
  /// several arrays of one source reads them by one call of it.
  const std::shared_ptr<RowSource>& source() const { return source_; }

  /// Copies rows[0], rows[1], … one after the other to `out` (rows.size() * row_bytes() bytes).
  /// Throws Error when an index is out of range, and when a float element is NaN or infinite: the error names its row.
  /// Throws Error(failure), naming the first row that is lost, when the file was truncated meanwhile.
  void read_rows(std::span<const std::int64_t> rows, void* out, const RowDraw& draw = {}) const;

  /// All of it in memory; non-finite elements are taken as they are.
  Tensor load() const;

 private:
  DataArray(std::string name, DType dtype, Shape shape);
  void copy_row(std::int64_t row, std::byte* out) const;
  void check_rows_are_there() const;

  std::string name_;
  DType dtype_;
  Shape shape_;
  RowType row_type_;
  std::size_t row_bytes_ = 0;
  SharedBytes bytes_;
  RowMaker make_;  // instead of bytes
  std::shared_ptr<RowSource> source_;
  StorageOrder order_;
  std::vector<std::int64_t> fortran_offsets_;  // where each element of a row lies, counted from the row's first
};

/// Bytes that an array takes, or nothing when that overflows or an extent is negative.
std::optional<std::uint64_t> array_bytes(DType dtype, const Shape& shape);

/// Throws Error unless every float element is finite; other types pass. Row i of `data` is called `rows[i]` in the
/// error.
void require_finite(const std::string& name, const RowType& type, const void* data, std::span<const std::int64_t> rows);

}  // namespace halfstep
