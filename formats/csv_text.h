// The text of a table: lines, fields, numbers. Internal to the format.
#pragma once

#include <charconv>
#include <cstdint>
#include <string>
#include <string_view>
#include <system_error>
#include <type_traits>
#include <vector>

#include <halfstep/formats/shared_bytes.h>

namespace halfstep {

/// A position in the file, for errors.
struct CsvPlace {
  const std::string& file;
  std::int64_t line;
};

/// The lines of a text, counted from 1, without line ends.
class CsvLines {
 public:
  explicit CsvLines(const SharedBytes& bytes);

  /// The next line that is not blank; false at the end.
  bool next(std::string_view& line);
  std::int64_t number() const { return number_; }

 private:
  const SharedBytes& bytes_;
  std::string_view rest_;
  std::int64_t number_ = 0;
};

/// The fields of a line, unquoted and trimmed. Reuses the strings' memory. Throws Error for an unterminated quote.
void split_csv_line(std::string_view line, char delimiter, const CsvPlace& place, std::vector<std::string>& fields);

/// What is too close to 0 for from_chars becomes 0, or the nearest number of less precision; false for what is too
/// large.
bool parse_tiny_number(std::string_view text, float& value);
bool parse_tiny_number(std::string_view text, double& value);

/// Whether `text` is a number of this type, which `value` then is.
template <class T>
bool parse_csv_number(std::string_view text, T& value) {
  if (text.starts_with('+')) text.remove_prefix(1);
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (end != text.data() + text.size()) return false;
  if constexpr (std::is_floating_point_v<T>)
    if (error == std::errc::result_out_of_range) return parse_tiny_number(text, value);
  return error == std::errc();
}
bool is_csv_number(std::string_view text);

/// The first of tab, semicolon and comma that occurs equally often in the first and second line, outside of quotes;
/// else comma. A comma in numbers ("1,5") is not a delimiter if there is another.
char detect_csv_delimiter(std::string_view first, std::string_view second);

/// Throws Error for a text in UTF-16.
void refuse_utf16(const SharedBytes& bytes, const std::string& file);

}  // namespace halfstep
