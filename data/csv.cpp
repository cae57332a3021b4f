#include "data/csv.h"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <string_view>
#include <utility>
#include <vector>

#include <fmt/format.h>

#include "data/temporary_file.h"
#include "graph/error.h"

namespace halfstep {
namespace {

/// Where in the file something is, for errors.
struct Place {
  const std::string& file;
  std::int64_t line;
};

std::string_view trimmed(std::string_view text) {
  const auto is_space = [](char c) { return c == ' ' || c == '\t' || c == '\r'; };
  while (!text.empty() && is_space(text.front())) text.remove_prefix(1);
  while (!text.empty() && is_space(text.back())) text.remove_suffix(1);
  return text;
}

/// The lines of a text, counted from 1, with what they end in cut off.
class Lines {
 public:
  explicit Lines(const SharedBytes& bytes)
      : bytes_(bytes), rest_(reinterpret_cast<const char*>(bytes.data()), bytes.size()) {
    constexpr std::string_view kByteOrderMark = "\xef\xbb\xbf";
    if (rest_.starts_with(kByteOrderMark)) rest_.remove_prefix(kByteOrderMark.size());
  }

  /// The next line that is not blank; false at the end.
  bool next(std::string_view& line) {
    while (!rest_.empty()) {
      const std::size_t end = std::min(rest_.find('\n'), rest_.size());
      line = rest_.substr(0, end);
      rest_.remove_prefix(std::min(end + 1, rest_.size()));
      bytes_.note_paged_in(end + 1);
      ++number_;
      if (!trimmed(line).empty()) return true;
    }
    return false;
  }
  std::int64_t number() const { return number_; }

 private:
  const SharedBytes& bytes_;
  std::string_view rest_;
  std::int64_t number_ = 0;
};

/// The fields of a line, unquoted and trimmed. Reuses the strings' memory.
void split(std::string_view line, char delimiter, const Place& place, std::vector<std::string>& fields) {
  std::size_t count = 0;
  const auto add = [&](std::string_view text) {
    if (count == fields.size()) fields.emplace_back();
    fields[count++].assign(text);
  };
  for (;;) {
    while (!line.empty() && line.front() == ' ') line.remove_prefix(1);
    std::size_t end;
    if (!line.empty() && line.front() == '"') {
      add({});
      std::size_t i = 1;
      for (;; ++i) {
        if (i >= line.size())
          throw_input_error("a closing quote", fmt::format("none for field {} at {}:{}", count, place.file, place.line),
                            "close it on the same line");
        if (line[i] == '"' && (i + 1 >= line.size() || line[i + 1] != '"')) break;
        if (line[i] == '"') ++i;
        fields[count - 1] += line[i];
      }
      end = std::min(line.find(delimiter, i), line.size());
      if (!trimmed(line.substr(i + 1, end - i - 1)).empty())
        throw_input_error("a delimiter after a closing quote",
                          fmt::format("other text at {}:{}", place.file, place.line),
                          "double the quotes inside a quoted field");
    } else {
      end = std::min(line.find(delimiter), line.size());
      add(trimmed(line.substr(0, end)));
    }
    if (end == line.size()) break;
    line.remove_prefix(end + 1);
  }
  fields.resize(count);
}

template <class T>
bool parse(std::string_view text, T& value) {
  if (text.starts_with('+')) text.remove_prefix(1);
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  return error == std::errc() && end == text.data() + text.size();
}

bool is_number(std::string_view text) {
  double ignored;
  return parse(text, ignored);
}

/// The columns' names when there is a header, else "".
struct Columns {
  std::vector<std::string> names;
  std::size_t count;
  std::size_t label;

  std::string describe(std::size_t column) const {
    return names.empty() ? fmt::format("column {}", column + 1)
                         : fmt::format("column {} ({})", column + 1, names[column]);
  }
};

Columns find_columns(const std::vector<std::string>& first, bool header, const std::string& label,
                     const std::string& file) {
  Columns columns{header ? first : std::vector<std::string>{}, first.size(), first.size() - 1};
  if (columns.count < 2)
    throw_input_error("a table of at least two columns, one of them the label", file + " has one",
                      "check the delimiter");
  if (label.empty()) return columns;
  for (std::size_t i = 0; i < columns.names.size(); ++i)
    if (columns.names[i] == label) {
      columns.label = i;
      return columns;
    }
  throw_input_error("a column named " + label, file + (header ? " has no such column" : " has no header"),
                    "check the name of the label column");
}

float parse_float(const std::string& text, const Columns& columns, std::size_t column, const Place& place) {
  float value = 0;
  if (!parse(text, value) || !std::isfinite(value))
    throw_input_error("a finite number in every field",
                      fmt::format("{} at {}:{}, {}", text.empty() ? "nothing" : "'" + text + "'", place.file,
                                  place.line, columns.describe(column)),
                      "mend the field, or leave the column out");
  return value;
}

}  // namespace

CsvTable open_csv(const std::filesystem::path& path, const CsvOptions& options) {
  const std::string file = path.string();
  const SharedBytes bytes = open_maybe_gzip(path);
  Lines lines(bytes);
  std::string_view line;
  std::vector<std::string> fields;
  if (!lines.next(line)) throw_input_error("a table with at least one row", file + " is empty", "check the file");
  split(line, options.delimiter, {file, lines.number()}, fields);
  bool all_numbers = true;
  for (const std::string& field : fields) all_numbers &= is_number(field);
  const bool header = options.header.value_or(!all_numbers);
  const Columns columns = find_columns(fields, header, options.label, file);

  TemporaryFile x, integer_y, float_y;
  std::vector<float> row(columns.count - 1);
  std::int64_t rows = 0;
  bool integers = true;
  for (bool more = !header || lines.next(line); more; more = lines.next(line)) {
    const Place place{file, lines.number()};
    split(line, options.delimiter, place, fields);
    if (fields.size() != columns.count)
      throw_input_error(fmt::format("{} fields in every line", columns.count),
                        fmt::format("{} at {}:{}", fields.size(), file, place.line), "mend the line");
    for (std::size_t i = 0, to = 0; i < columns.count; ++i)
      if (i != columns.label) row[to++] = parse_float(fields[i], columns, i, place);
    const float label = parse_float(fields[columns.label], columns, columns.label, place);
    std::int64_t integer_label = 0;
    integers = integers && parse(fields[columns.label], integer_label);
    x.append(row.data(), row.size() * sizeof(float));
    float_y.append(&label, sizeof label);
    if (integers) integer_y.append(&integer_label, sizeof integer_label);
    ++rows;
  }
  const auto features = static_cast<std::int64_t>(row.size());
  DataArray y = integers ? DataArray(file + " (label)", DType::i64, Shape{rows}, integer_y.finish())
                         : DataArray(file + " (label)", DType::f32, Shape{rows}, float_y.finish());
  return {DataArray(file, DType::f32, Shape{rows, features}, x.finish()), std::move(y)};
}

}  // namespace halfstep
