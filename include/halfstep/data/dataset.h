// Training data: rows of x, with one array for each input of the model, and usually a target y for each
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

/// Arrays with the same number of rows, at least one.
struct Dataset {
  /// The rows of one input. `name` is the model's input; empty: the next input without named rows.
  struct Input {
    std::string name;
    DataArray rows;
    bool optional = false;  ///< ignored if the model has no input of this name
  };
  std::vector<Input> x;                   ///< at least one
  std::vector<Input> labels = {};         ///< named rows of labels or weights: see with_labels
  std::optional<DataArray> y;             ///< unset: for a model that computes its loss from its inputs only
  std::string y_name = {};                ///< the input's name, if y may also be the rows of an input
  std::vector<std::string> classes = {};  ///< name of label i, for a table whose labels are names
  bool classes_given = false;             ///< these names and their order were set by the caller
  std::string label_hint = {};            ///< possible cause if labels do not fit the model; may be empty
  std::vector<std::string> notices = {};  ///< for the user: choices made by heuristics
  /// Settings of reading rows that a resumed run compares: values of options by their flags ("--augment").
  std::map<std::string, std::string> settings = {};

  /// Throw Error if the lengths differ or there are no rows.
  Dataset(DataArray x_rows, DataArray y_rows);
  explicit Dataset(std::vector<Input> inputs, std::optional<DataArray> y_rows = {});
  /// The rows of a source; y is its "labels", if present. Throws Error if there are no rows or rows have no tensors.
  explicit Dataset(std::shared_ptr<RowSource> source);
  std::int64_t rows() const { return x.front().rows.rows(); }
};

/// The same rows with `x` in the order of `inputs`, the names of all inputs of a model. Throws Error if an input has no
/// rows, or rows have no input.
Dataset in_order_of(const std::vector<std::string>& inputs, const Dataset& data);

/// The same rows, with those of these names as labels or weights instead of inputs. Throws Error(input) for an unknown
/// name.
Dataset with_labels(Dataset data, const std::vector<std::string>& names);

/// Location of a data set: a file or folder of a data set format (formats/data_format.h), or files of one array each,
/// X,Y: one for each input, followed by the targets. NAME=FILE names the input. A single file, or a named last file, is
/// an input: there are no targets then. Of named arrays, the targets are y, y_train or y_test, or the second of exactly
/// two arrays.
struct DataSpec {
  const DataFormat* format = nullptr;  ///< null: files of one array each
  std::vector<std::filesystem::path> paths = {};
  std::vector<std::string> names = {};  ///< for files of one array: the name of each input, or ""
};

/// Parses "X.npy,Y.npy", "NAME=X.npy,NAME=X2.npy,Y.npy", "X.npy", "NAME=X.npy", or a path of a known format. Throws
/// Error if a file is missing or the text has another form.
DataSpec parse_data_spec(const std::string& text);

/// The files that the data may be read from.
std::vector<std::filesystem::path> files_of(const DataSpec& spec);

/// Opens the data set. `split` selects in folders and files that have both; other formats have one split.
/// `csv` applies only to tables (the delimiter of .tsv files is always a tab).
/// Throws Error for invalid or unreadable files.
Dataset open_dataset(const DataSpec& spec, Split split = Split::train, const CsvOptions& csv = {});
/// The same, with options for images.
Dataset open_dataset(const DataSpec& spec, const DataOptions& options);

}  // namespace halfstep
