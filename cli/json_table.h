// JSON rows as a human-readable table.
#pragma once

#include <string>
#include <vector>

#include <nlohmann/json_fwd.hpp>

namespace halfstep::cli {

/// The given members of each row, in columns with the width of their widest cell.
void print_table(const nlohmann::ordered_json& rows, const std::vector<std::string>& members);

}  // namespace halfstep::cli
