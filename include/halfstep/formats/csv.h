// Tables of numbers as text (RFC 4180, without line breaks inside quotes), with a column of labels.
#pragma once

#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include <halfstep/base/api.h>
#include <halfstep/formats/data_array.h>

namespace HALFSTEP_API halfstep {

struct CsvOptions {
  std::optional<char> delimiter = {};  ///< unset: of tab, semicolon and comma the one in the first two lines
  /// Unset: the first line is one when another field than the label's is not a number, or the label's is none and that
  /// of the second line is.
  std::optional<bool> header = {};
  std::string label = {};  ///< name of the label column, or its number counted from 1; empty: the last column
  /// Names of the classes that labels have, in the order of their numbers; empty: those that occur, sorted.
  std::vector<std::string> classes = {};
};

struct CsvTable {
  DataArray x;  ///< f32 [rows, columns - 1]: every column but the label, in the file's order
  /// [rows]: i64 when every label is an integer (or True or False, or a name), else f32.
  DataArray y;
  std::vector<std::string> classes = {};  ///< what label i is called, when labels are names
  std::string label_column = {};          ///< for people: "column 3 (species)"
  std::vector<std::string> notices = {};  ///< for the user: what had to be guessed
};

/// Parses the table (plain or gzip-compressed) once into temporary files. Blank lines are skipped.
/// Throws Error naming line and column when a field is not a finite number or a line has too few or too many of them.
CsvTable open_csv(const std::filesystem::path& path, const CsvOptions& options = {});

}  // namespace halfstep
