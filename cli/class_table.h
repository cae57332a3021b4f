// How often each class was taken for each.
#pragma once

#include <string>
#include <vector>

#include <nlohmann/json_fwd.hpp>

#include <halfstep/training/metrics.h>

namespace halfstep::cli {

/// Prints a table with a row for each label and a column for each class as output; of many classes the mistakes that
/// are most frequent. `names` are those of the classes, where they have any.
void print_class_table(const std::string& title, const ClassTable& table, const std::vector<std::string>& names);

/// A list for each label: a count for each class, and one more of outputs that were NaN where there are such.
nlohmann::ordered_json to_json(const ClassTable& table);

}  // namespace halfstep::cli
