// What a training run learns from: rows of x, and a target y for each.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

#include "data/csv.h"
#include "data/data_array.h"

namespace halfstep {

/// Two arrays of as many rows each, at least one.
struct Dataset {
  DataArray x;
  DataArray y;

  /// Throws Error when the lengths differ or there is no row.
  Dataset(DataArray x_rows, DataArray y_rows);
  std::int64_t rows() const { return x.rows(); }
};

enum class Split { train, test };

/// Where a data set lies.
struct DataSpec {
  enum class Kind {
    pair,           ///< two files, x and y, each NPY or IDX
    idx_directory,  ///< the four files `{train,t10k}-{images,labels}*`, plain or .gz
    npz,            ///< arrays x_train, y_train, x_test, y_test; or x, y; or the only two
    csv,            ///< a table with a label column
  };
  Kind kind = Kind::pair;
  std::vector<std::filesystem::path> paths;  ///< two for `pair`, else one
};

/// "X.npy,Y.npy", a folder of IDX files, "file.npz", "file.csv" or "file.tsv" (the last two also with ".gz").
/// Throws Error when a file is missing or the text is none of these.
DataSpec parse_data_spec(const std::string& text);

/// The data set, opened. `split` chooses in IDX folders and in NPZ files that have both; other kinds hold one split.
/// `csv` applies to tables only (tabs separate the columns of a .tsv whatever it says).
/// Throws Error for whatever is wrong with the files.
Dataset open_dataset(const DataSpec& spec, Split split = Split::train, const CsvOptions& csv = {});

/// One array: NPY or IDX by the file's first bytes.
DataArray open_array(const std::filesystem::path& path);

}  // namespace halfstep
