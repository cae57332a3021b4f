// What a training run learns from: rows of x, one array for each input of the model, and a target y for each row.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

#include "data/csv.h"
#include "data/data_array.h"

namespace halfstep {

/// Arrays of as many rows each, at least one row.
struct Dataset {
  /// The rows of one input. `name` is the model's input that takes them; empty: the next one that none is named for.
  struct Input {
    std::string name;
    DataArray rows;
    bool optional = false;  ///< left out where the model has no input of this name
  };
  std::vector<Input> x;  ///< at least one
  DataArray y;

  /// Both throw Error when the lengths differ or there is no row.
  Dataset(DataArray x_rows, DataArray y_rows);
  Dataset(std::vector<Input> inputs, DataArray y_rows);
  std::int64_t rows() const { return y.rows(); }
};

/// The same rows with `x` as `inputs` tells, the names of all of a model's inputs in order. Throws Error when an input
/// has no rows, or rows no input.
Dataset in_order_of(const std::vector<std::string>& inputs, const Dataset& data);

enum class Split { train, test };

/// Where a data set lies.
struct DataSpec {
  enum class Kind {
    files,          ///< X,Y: for each input an NPY or IDX file, and last the targets; NAME=FILE names the input
    idx_directory,  ///< the four files `{train,t10k}-{images,labels}*`, plain or .gz
    npz,            ///< arrays x_train, y_train, x_test, y_test; or x, y; or the only two; or the inputs by their names
    csv,            ///< a table with a label column
  };
  Kind kind = Kind::files;
  std::vector<std::filesystem::path> paths;  ///< two or more for `files`, else one
  std::vector<std::string> names = {};       ///< with `files`: an input's name, or "", for each but the last (or none)
};

/// "X.npy,Y.npy", "NAME=X.npy,NAME=X2.npy,Y.npy", a folder of IDX files, "file.npz", "file.csv" or "file.tsv" (the last
/// two also with ".gz"). Throws Error when a file is missing or the text is none of these.
DataSpec parse_data_spec(const std::string& text);

/// The data set, opened. `split` chooses in IDX folders and in NPZ files that have both; other kinds hold one split.
/// `csv` applies to tables only (tabs separate the columns of a .tsv whatever it says).
/// Throws Error for whatever is wrong with the files.
Dataset open_dataset(const DataSpec& spec, Split split = Split::train, const CsvOptions& csv = {});

/// One array: NPY or IDX by the file's first bytes.
DataArray open_array(const std::filesystem::path& path);

}  // namespace halfstep
