#include "cli/json_table.h"

#include <algorithm>
#include <cstddef>
#include <cstdint>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include "cli/common.h"

namespace halfstep::cli {

using Json = nlohmann::ordered_json;

Json shape_json(const Shape& shape) {
  if (!shape.is_ranked()) return nullptr;
  Json extents = Json::array();
  for (const std::int64_t extent : shape) extents.push_back(extent == Shape::kUnknown ? Json() : Json(extent));
  return extents;
}

namespace {

std::string shape_text(const Json& json) {
  if (json.is_null()) return Shape::unranked().to_string();
  std::vector<std::int64_t> extents;
  for (const Json& extent : json) extents.push_back(extent.is_null() ? Shape::kUnknown : extent.get<std::int64_t>());
  return Shape(extents).to_string();
}

}  // namespace

void print_table(const Json& rows, const std::vector<std::string>& members) {
  std::vector<std::size_t> widths(members.size());
  const auto cell = [](const Json& row, const std::string& member) {
    const Json& value = row[member];
    if (member == "shape") return shape_text(value);
    return value.is_string() ? printable(value.get<std::string>()) : value.dump();
  };
  for (std::size_t i = 0; i < members.size(); ++i) {
    widths[i] = members[i].size();
    for (const Json& row : rows) widths[i] = std::max(widths[i], cell(row, members[i]).size());
  }
  const auto print_row = [&](const auto& text_of) {
    std::string line = " ";
    for (std::size_t i = 0; i < members.size(); ++i) line += fmt::format(" {:<{}} ", text_of(members[i]), widths[i]);
    line.erase(line.find_last_not_of(' ') + 1);
    print_out("{}\n", line);
  };
  print_row([](const std::string& member) { return member; });
  for (const Json& row : rows) print_row([&](const std::string& member) { return cell(row, member); });
}

}  // namespace halfstep::cli
