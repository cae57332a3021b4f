// Arrays of rows whose elements stay on disk.
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

/// Memory layout of an array.
struct StorageOrder {
  bool big_endian = false;
  bool fortran = false;  ///< the first axis varies fastest
};

/// The source of randomness for rows that are read with random transforms, such as images cropped for training.
struct RowDraw {
  std::uint64_t seed = 0;
  std::int64_t epoch = 0;
};

/// Writes rows[0], rows[1], … consecutively to `out`. The same rows and draw give the same bits.
using RowMaker = std::function<void(std::span<const std::int64_t> rows, const RowDraw& draw, void* out)>;

class RowSource;

/// An array of one dtype whose axis 0 counts rows. Rows are read in any order, as native-endian row-major elements;
/// only rows that are read are paged in.
class DataArray {
 public:
  /// `name` identifies the array in errors. Throws Error if the length of `bytes` differs from that required by dtype
  /// and shape, and for elements that are not whole bytes (strings, packed types).
  DataArray(std::string name, DType dtype, Shape shape, SharedBytes bytes, StorageOrder order = {});
  /// Rows that are computed each time they are read.
  static DataArray made(std::string name, RowType type, std::int64_t rows, RowMaker make);
  /// The tensors named `name` of a source's rows. Throws Error(input) if it has none of that name.
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
  /// The source of the rows, in which they are named `name()`; null for other arrays. Code that reads several arrays of
  /// one source reads them in one call.
  const std::shared_ptr<RowSource>& source() const { return source_; }

  /// Copies rows[0], rows[1], … consecutively to `out` (rows.size() * row_bytes() bytes).
  /// Throws Error if an index is out of range, and if a float element is NaN or infinite, naming its row.
  /// Throws Error(failure), naming the first lost row, if the file has been truncated.
  void read_rows(std::span<const std::int64_t> rows, void* out, const RowDraw& draw = {}) const;

  /// Loads the whole array into memory; non-finite elements are accepted.
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

/// Throws Error unless every float element is finite; other types always pass. In the error, row i of `data` has the
/// number `rows[i]`.
void require_finite(const std::string& name, const RowType& type, const void* data, std::span<const std::int64_t> rows);

}  // namespace halfstep
