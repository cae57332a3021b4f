// What a training run learns from: rows of x, one array for each input of the model, and mostly a target y for each
// row.
#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include <halfstep/base/api.h>
#include <halfstep/formats/csv.h>
#include <halfstep/formats/data_array.h>
#include <halfstep/formats/data_format.h>
#include <halfstep/formats/row_source.h>

namespace HALFSTEP_API halfstep {

/// Arrays of as many rows each, at least one row.
struct Dataset {
  /// The rows of one input. `name` is the model's input that takes them; empty: the next one that none is named for.
  struct Input {
    std::string name;
    DataArray rows;
    bool optional = false;  ///< left out where the model has no input of this name
  };
  std::vector<Input> x;                   ///< at least one
  std::vector<Input> labels = {};         ///< rows of labels or weights that have a name: see with_labels
  std::optional<DataArray> y;             ///< unset: for a model that computes its loss from its inputs alone
  std::string y_name = {};                ///< where y may be the rows of an input as well, that input's name
  std::vector<std::string> classes = {};  ///< of a table whose labels are names: what label i is called
  bool classes_given = false;             ///< those names, and their order, are from the caller
  std::string label_hint = {};            ///< what may be wrong where labels do not fit the model; may be empty
  std::vector<std::string> notices = {};  ///< for the user: what had to be guessed of the files
  /// Of how rows are read, what a resumed run compares: values of options by their flags ("--augment").
  std::map<std::string, std::string> settings = {};

  /// Throw Error when the lengths differ or there is no row.
  Dataset(DataArray x_rows, DataArray y_rows);
  explicit Dataset(std::vector<Input> inputs, std::optional<DataArray> y_rows = {});
  /// The rows of a source; y is what it calls "labels", where it has that. Throws Error for no row or nothing in it.
  explicit Dataset(std::shared_ptr<RowSource> source);
  std::int64_t rows() const { return x.front().rows.rows(); }
};

/// The same rows with `x` as `inputs` tells, the names of all of a model's inputs in order. Throws Error when an input
/// has no rows, or rows no input.
Dataset in_order_of(const std::vector<std::string>& inputs, const Dataset& data);

/// The same rows, of which those of these names are labels, or weights, and no inputs. Throws Error(input) for a name
/// that there is not.
Dataset with_labels(Dataset data, const std::vector<std::string>& names);

/// Where a data set lies: in a file or folder of a format that holds one (formats/data_format.h), or in files of one
/// array each, X,Y: for each input one, and last the targets. NAME=FILE names the input. One file alone, or a last one
/// with a name, is an input: there are no targets then. Of an .npz file the targets are y, y_train or y_test, or the
/// second of just two arrays.
struct DataSpec {
  const DataFormat* format = nullptr;  ///< null: files of one array each
  std::vector<std::filesystem::path> paths = {};
  std::vector<std::string> names = {};  ///< of files of one array: the input's name, or "", for each
};

/// "X.npy,Y.npy", "NAME=X.npy,NAME=X2.npy,Y.npy", "X.npy", "NAME=X.npy", or what a format calls its files. Throws Error
/// when a file is missing or the text is none of these.
DataSpec parse_data_spec(const std::string& text);

/// The files that the data may be read from.
std::vector<std::filesystem::path> files_of(const DataSpec& spec);

/// The data set, opened. `split` chooses in IDX folders and in NPZ files that have both; other kinds hold one split.
/// `csv` applies to tables only (tabs separate the columns of a .tsv whatever it says).
/// Throws Error for whatever is wrong with the files.
Dataset open_dataset(const DataSpec& spec, Split split = Split::train, const CsvOptions& csv = {});
/// The same, with options for pictures as well.
Dataset open_dataset(const DataSpec& spec, const DataOptions& options);

}  // namespace halfstep
