// CSV tables of numbers (RFC 4180, without line breaks inside quotes) with a column of labels.
#pragma once

#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include <halfstep/base/api.h>
#include <halfstep/formats/data_array.h>

namespace HALFSTEP_API halfstep {

struct CsvOptions {
  std::optional<char> delimiter = {};  ///< unset: tab, semicolon or comma, from the first two lines
  /// Whether the first line is a header. Unset: it is if a field other than the label's is not a number, or if its
  /// label field is not a number and that of the second line is.
  std::optional<bool> header = {};
  std::string label = {};  ///< name of the label column, or its 1-based number; empty: the last column
  /// Class names of the labels, in index order; empty: the names that occur, sorted.
  std::vector<std::string> classes = {};
};

struct CsvTable {
  DataArray x;  ///< f32 [rows, columns - 1]: every column but the label, in the file's order
  /// [rows]: i64 when every label is an integer (or True or False, or a name), else f32.
  DataArray y;
  std::vector<std::string> classes = {};  ///< name of label i, if labels are names
  std::string label_column = {};          ///< for messages: "column 3 (species)"
  std::vector<std::string> notices = {};  ///< for the user: choices made by heuristics
};

/// Parses the table (plain or gzip-compressed) once into temporary files. Blank lines are skipped.
/// Throws Error naming line and column if a field is not a finite number or a line has too few or too many fields.
CsvTable open_csv(const std::filesystem::path& path, const CsvOptions& options = {});

}  // namespace halfstep
