// Tables of numbers as text (RFC 4180, without line breaks inside quotes).
#pragma once

#include <filesystem>
#include <optional>
#include <string>

#include "data/data_array.h"

namespace halfstep {

struct CsvOptions {
  char delimiter = ',';
  std::optional<bool> header = {};  ///< unset: the first line is one when any of its fields is not a number
  std::string label = {};           ///< name of the label column; empty: the last column
};

struct CsvTable {
  DataArray x;  ///< f32 [rows, columns - 1]: every column but the label, in the file's order
  DataArray y;  ///< [rows]: i64 when every label is written as an integer, else f32
};

/// Parses the table (plain or gzip-compressed) once into temporary files. Blank lines are skipped.
/// Throws Error naming line and column when a field is not a finite number or a line has too few or too many of them.
CsvTable open_csv(const std::filesystem::path& path, const CsvOptions& options = {});

}  // namespace halfstep
