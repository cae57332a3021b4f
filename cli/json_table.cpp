#include "cli/json_table.h"

#include <algorithm>
#include <cstddef>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include "cli/common.h"

namespace halfstep::cli {

using Json = nlohmann::ordered_json;

void print_table(const Json& rows, const std::vector<std::string>& members) {
  std::vector<std::size_t> widths(members.size());
  const auto cell = [](const Json& value) {
    return value.is_string() ? printable(value.get<std::string>()) : value.dump();
  };
  for (std::size_t i = 0; i < members.size(); ++i) {
    widths[i] = members[i].size();
    for (const Json& row : rows) widths[i] = std::max(widths[i], cell(row[members[i]]).size());
  }
  const auto print_row = [&](const auto& text_of) {
    std::string line = " ";
    for (std::size_t i = 0; i < members.size(); ++i) line += fmt::format(" {:<{}} ", text_of(members[i]), widths[i]);
    line.erase(line.find_last_not_of(' ') + 1);
    print_out("{}\n", line);
  };
  print_row([](const std::string& member) { return member; });
  for (const Json& row : rows) print_row([&](const std::string& member) { return cell(row[member]); });
}

}  // namespace halfstep::cli
