// JSON rows as a human-readable table.
#pragma once

#include <string>
#include <vector>

#include <nlohmann/json_fwd.hpp>

#include <halfstep/graph/shape.h>

namespace halfstep::cli {

/// A list of extents, null where one is unknown; null for a shape of unknown rank.
nlohmann::ordered_json shape_json(const Shape& shape);

/// The given members of each row, in columns with the width of their widest cell. A member "shape" is one of
/// `shape_json`.
void print_table(const nlohmann::ordered_json& rows, const std::vector<std::string>& members);

}  // namespace halfstep::cli
