// Rows of tables that users name.
#pragma once

#include <string>
#include <string_view>

#include <halfstep/base/error.h>

namespace halfstep {

/// The row with this member `name`; `rows` outlive the call. Throws Error(input), which lists the names after `what`.
template <class Rows>
const auto& row_named(const Rows& rows, std::string_view name, std::string what, const std::string& hint) {
  const char* separator = "";
  for (const auto& row : rows) {
    if (row.name == name) return row;
    what.append(separator).append(row.name);
    separator = ", ";
  }
  throw_input_error(what, "'" + std::string(name) + "'", hint);
}

}  // namespace halfstep
