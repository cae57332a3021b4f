#include <algorithm>
#include <cmath>
#include <string_view>
#include <utility>

#include <fmt/format.h>

#include "formats/csv_labels.h"
#include "formats/csv_text.h"
#include "formats/temporary_file.h"
#include <halfstep/base/error.h>
#include <halfstep/formats/csv.h>

namespace halfstep {
namespace {

using Fields = std::vector<std::string>;

/// The columns' names if there is a header, else "".
struct Columns {
  Fields names;
  std::size_t count = 0;
  std::size_t label = 0;

  std::string describe(std::size_t column) const {
    return names.empty() ? fmt::format("column {}", column + 1)
                         : fmt::format("column {} ({})", column + 1, names[column]);
  }
};

/// The label column if known without a header; nothing if it is given by name.
std::optional<std::size_t> label_by_number(const CsvOptions& options, const Fields& first) {
  if (options.label.empty()) return first.size() - 1;
  const bool may_be_names = !std::all_of(first.begin(), first.end(), is_csv_number);
  if (may_be_names && std::find(first.begin(), first.end(), options.label) != first.end()) return std::nullopt;
  std::size_t number = 0;
  if (!parse_csv_number(options.label, number) || number < 1 || number > first.size()) return std::nullopt;
  return number - 1;
}

/// Whether the first line is a header. The label column may have names in every line.
bool has_header(const Fields& first, const Fields& second, std::optional<std::size_t> label) {
  bool all_numbers = true, others_are = true;
  for (std::size_t i = 0; i < first.size(); ++i) {
    all_numbers = all_numbers && is_csv_number(first[i]);
    others_are = others_are && (i == label || is_csv_number(first[i]));
  }
  const bool names =
      label && others_are && (second.empty() || (second.size() == first.size() && !is_csv_number(second[*label])));
  return !all_numbers && !names;
}

Columns find_columns(const Fields& first, bool header, std::optional<std::size_t> label, const std::string& wanted,
                     const std::string& file) {
  Columns columns{header ? first : Fields{}, first.size(), label.value_or(0)};
  if (columns.count < 2)
    throw_input_error("a table of at least two columns, one of them the label", file + " has one",
                      "check that columns are separated by commas, semicolons or tabs");
  if (label) return columns;
  const auto at = std::find(columns.names.begin(), columns.names.end(), wanted);
  if (at == columns.names.end())
    throw_input_error("a column named " + wanted, file + (header ? " has no such column" : " has no header"),
                      "check --label-column, which takes a name, or a number counted from 1");
  columns.label = static_cast<std::size_t>(at - columns.names.begin());
  return columns;
}

[[noreturn]] void refuse_field(const std::string& required, const std::string& text, const Columns& columns,
                               std::size_t column, const CsvPlace& place, const char* remedy) {
  throw_input_error(required,
                    fmt::format("{} at {}:{}, {}", text.empty() ? "nothing" : "'" + text + "'", place.file, place.line,
                                columns.describe(column)),
                    remedy);
}

float parse_float(const std::string& text, const Columns& columns, std::size_t column, const CsvPlace& place) {
  float value = 0;
  if (parse_csv_number(text, value) && std::isfinite(value)) return value;
  const bool comma = text.find(',') != std::string::npos;
  refuse_field("a finite number in every field", text, columns, column, place,
               comma ? "write numbers with a decimal point"
                     : "correct the field, omit the column, or name it with --label-column if it holds the labels");
}

std::string name_of_delimiter(char delimiter) {
  return delimiter == '\t' ? "tabs" : delimiter == ';' ? "semicolons" : "commas";
}

}  // namespace

CsvTable open_csv(const std::filesystem::path& path, const CsvOptions& options) {
  const std::string file = path.string();
  const SharedBytes bytes = open_maybe_gzip(path);
  refuse_utf16(bytes, file);
  CsvLines lines(bytes);
  std::string_view line, second_line;
  Fields fields, second;
  if (!lines.next(line)) throw_input_error("a table with at least one row", file + " is empty", "check the file");
  const CsvPlace start{file, lines.number()};
  CsvLines ahead = lines;
  const bool has_second = ahead.next(second_line);
  const char delimiter = options.delimiter.value_or(detect_csv_delimiter(line, has_second ? second_line : ""));
  split_csv_line(line, delimiter, start, fields);
  if (has_second) split_csv_line(second_line, delimiter, {file, ahead.number()}, second);
  const std::optional<std::size_t> label = label_by_number(options, fields);
  const bool header = options.header.value_or(has_header(fields, second, label));
  const Columns columns = find_columns(fields, header, label, options.label, file);

  TemporaryFile x;
  CsvLabels labels(options.classes);
  std::vector<float> row(columns.count - 1);
  std::int64_t rows = 0;
  for (bool more = !header || lines.next(line); more; more = lines.next(line)) {
    const CsvPlace place{file, lines.number()};
    split_csv_line(line, delimiter, place, fields);
    if (fields.size() != columns.count)
      throw_input_error(fmt::format("{} fields in every line", columns.count),
                        fmt::format("{} at {}:{}", fields.size(), file, place.line), "correct the line");
    for (std::size_t i = 0, to = 0; i < columns.count; ++i)
      if (i != columns.label) row[to++] = parse_float(fields[i], columns, i, place);
    if (const std::string required = labels.add(fields[columns.label]); !required.empty())
      refuse_field(required, fields[columns.label], columns, columns.label, place,
                   options.classes.empty() ? "correct the label" : "correct the label, or check --classes");
    x.append(row.data(), row.size() * sizeof(float));
    ++rows;
  }
  bytes.check_intact(file);
  const auto features = static_cast<std::int64_t>(row.size());
  DataArray y = labels.finish(file + " (label)");
  CsvTable table{.x = DataArray(file, DType::f32, Shape{rows, features}, x.finish()), .y = std::move(y)};
  table.classes = labels.classes();
  table.label_column = fmt::format("{} of {}", columns.describe(columns.label), file);
  if (options.label.empty())
    table.notices.push_back(fmt::format("{}: the labels are {}, the last: --label-column names another", file,
                                        columns.describe(columns.label)));
  if (!options.delimiter && delimiter != ',')
    table.notices.push_back(fmt::format("{}: columns are separated by {}", file, name_of_delimiter(delimiter)));
  if (!table.classes.empty() && options.classes.empty())
    table.notices.push_back(describe_numbering(file, table.classes));
  return table;
}

}  // namespace halfstep
