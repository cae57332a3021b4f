#include "formats/csv_text.h"

#include <algorithm>
#include <cmath>

#include <fmt/format.h>
#include <locale.h>

#include <halfstep/base/error.h>

namespace halfstep {
namespace {

std::string_view trimmed(std::string_view text) {
  const auto is_space = [](char c) { return c == ' ' || c == '\t' || c == '\r'; };
  while (!text.empty() && is_space(text.front())) text.remove_prefix(1);
  while (!text.empty() && is_space(text.back())) text.remove_suffix(1);
  return text;
}

std::int64_t count_outside_quotes(std::string_view line, char wanted) {
  std::int64_t count = 0;
  bool quoted = false;
  for (const char c : line) {
    if (c == '"') quoted = !quoted;
    count += !quoted && c == wanted;
  }
  return count;
}

// Numbers are written with a point, whatever the host program has set.
locale_t c_locale() {
  static const locale_t locale = ::newlocale(LC_ALL_MASK, "C", nullptr);
  return locale;
}

}  // namespace

CsvLines::CsvLines(const SharedBytes& bytes)
    : bytes_(bytes), rest_(reinterpret_cast<const char*>(bytes.data()), bytes.size()) {
  constexpr std::string_view kByteOrderMark = "\xef\xbb\xbf";
  if (rest_.starts_with(kByteOrderMark)) rest_.remove_prefix(kByteOrderMark.size());
}

bool CsvLines::next(std::string_view& line) {
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

void split_csv_line(std::string_view line, char delimiter, const CsvPlace& place, std::vector<std::string>& fields) {
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

bool parse_tiny_number(std::string_view text, float& value) {
  value = ::strtof_l(std::string(text).c_str(), nullptr, c_locale());
  return std::isfinite(value);
}

bool parse_tiny_number(std::string_view text, double& value) {
  value = ::strtod_l(std::string(text).c_str(), nullptr, c_locale());
  return std::isfinite(value);
}

bool is_csv_number(std::string_view text) {
  double ignored;
  return parse_csv_number(text, ignored);
}

char detect_csv_delimiter(std::string_view first, std::string_view second) {
  for (const char delimiter : {'\t', ';', ','}) {
    const std::int64_t count = count_outside_quotes(first, delimiter);
    if (count > 0 && (second.empty() || count_outside_quotes(second, delimiter) == count)) return delimiter;
  }
  return ',';
}

void refuse_utf16(const SharedBytes& bytes, const std::string& file) {
  const std::string_view text(reinterpret_cast<const char*>(bytes.data()), std::min<std::size_t>(bytes.size(), 4));
  const bool marked = text.starts_with("\xff\xfe") || text.starts_with("\xfe\xff");
  const bool unmarked = text.size() == 4 && (text[0] == 0) != (text[1] == 0) && (text[2] == 0) != (text[3] == 0);
  if (marked || unmarked)
    throw_input_error("a table in UTF-8", file + " is UTF-16",
                      fmt::format("convert it: iconv -f UTF-16 -t UTF-8 '{}' >utf8.csv", file));
}

}  // namespace halfstep
