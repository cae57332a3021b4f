// Numbers that JSON lacks.
#pragma once

#include <cmath>

#include <nlohmann/json.hpp>

namespace halfstep {

/// Replaces such numbers by the strings "NaN", "Infinity" and "-Infinity", at any depth.
inline void name_non_finite(nlohmann::ordered_json& json) {
  if (json.is_structured())
    for (nlohmann::ordered_json& part : json) name_non_finite(part);
  if (!json.is_number_float()) return;
  const double value = json.get<double>();
  if (std::isnan(value))
    json = "NaN";
  else if (std::isinf(value))
    json = value > 0 ? "Infinity" : "-Infinity";
}

}  // namespace halfstep
