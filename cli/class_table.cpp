#include "cli/class_table.h"

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <tuple>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include "cli/common.h"

namespace halfstep::cli {
namespace {

constexpr std::int64_t kMostColumns = 16;
constexpr std::size_t kMostMistakes = 20;

bool is_whole(double count) { return std::floor(count) == count && std::abs(count) < 1e15; }
/// Counts of points are whole numbers; sums of weights need not be.
std::string text_of(double count) {
  return is_whole(count) ? with_thousands(static_cast<std::int64_t>(count)) : fmt::format("{:.6g}", count);
}
nlohmann::ordered_json json_of(double count) {
  if (is_whole(count)) return static_cast<std::int64_t>(count);
  return count;
}

bool has_nan(const ClassTable& table) {
  for (std::int64_t label = 0; label < table.classes; ++label)
    if (table.at(label, table.classes) > 0) return true;
  return false;
}

std::string name_of_class(const ClassTable& table, const std::vector<std::string>& names, std::int64_t c) {
  if (c == table.classes) return "NaN";
  return names.size() == static_cast<std::size_t>(table.classes) ? names[c] : fmt::format("{}", c);
}

void print_all(const std::string& title, const ClassTable& table, const std::vector<std::string>& names) {
  const std::int64_t columns = table.classes + has_nan(table);
  std::size_t first = title.size(), width = 1;
  for (std::int64_t c = 0; c < columns; ++c) {
    const std::string name = name_of_class(table, names, c);
    first = std::max(first, name.size());
    width = std::max(width, name.size());
    for (std::int64_t label = 0; label < table.classes; ++label)
      width = std::max(width, text_of(table.at(label, c)).size());
  }
  std::string line = fmt::format("{:<{}}", title, first);
  for (std::int64_t c = 0; c < columns; ++c) line += fmt::format("  {:>{}}", name_of_class(table, names, c), width);
  print_out("\n{}\n", line);
  for (std::int64_t label = 0; label < table.classes; ++label) {
    line = fmt::format("{:<{}}", name_of_class(table, names, label), first);
    for (std::int64_t c = 0; c < columns; ++c) line += fmt::format("  {:>{}}", text_of(table.at(label, c)), width);
    print_out("{}\n", line);
  }
  print_out("a row for each label, a column for each output\n");
}

void print_mistakes(const std::string& title, const ClassTable& table, const std::vector<std::string>& names) {
  std::vector<std::tuple<double, std::int64_t, std::int64_t>> mistakes;  // -count, label, output
  for (std::int64_t label = 0; label < table.classes; ++label)
    for (std::int64_t c = 0; c <= table.classes; ++c)
      if (c != label && table.at(label, c) > 0) mistakes.push_back({-table.at(label, c), label, c});
  std::sort(mistakes.begin(), mistakes.end());
  print_out("\n{}: the most frequent of {} kinds of errors\n", title,
            with_thousands(static_cast<std::int64_t>(mistakes.size())));
  for (std::size_t i = 0; i < std::min(mistakes.size(), kMostMistakes); ++i) {
    const auto [count, label, output] = mistakes[i];
    print_out("{} predicted as {}: {}\n", name_of_class(table, names, label), name_of_class(table, names, output),
              text_of(-count));
  }
}

}  // namespace

void print_class_table(const std::string& title, const ClassTable& table, const std::vector<std::string>& names) {
  if (table.classes <= kMostColumns)
    print_all(title, table, names);
  else
    print_mistakes(title, table, names);
}

nlohmann::ordered_json to_json(const ClassTable& table, const std::vector<std::string>& names) {
  const std::int64_t columns = table.classes + has_nan(table);
  const auto first_names = [&](std::int64_t count) {
    nlohmann::ordered_json list = nlohmann::ordered_json::array();
    for (std::int64_t c = 0; c < count; ++c) list.push_back(name_of_class(table, names, c));
    return list;
  };
  nlohmann::ordered_json rows = nlohmann::ordered_json::array();
  for (std::int64_t label = 0; label < table.classes; ++label) {
    nlohmann::ordered_json row = nlohmann::ordered_json::array();
    for (std::int64_t c = 0; c < columns; ++c) row.push_back(json_of(table.at(label, c)));
    rows.push_back(std::move(row));
  }
  return {{"labels", first_names(table.classes)}, {"outputs", first_names(columns)}, {"counts", std::move(rows)}};
}

}  // namespace halfstep::cli
