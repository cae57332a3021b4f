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

/// {"labels": names of the rows, "outputs": names of the columns, "counts": a list for each label}. The names are those
/// of the classes, else their numbers as text; the last column is "NaN" where there are outputs that were.
nlohmann::ordered_json to_json(const ClassTable& table, const std::vector<std::string>& names);

}  // namespace halfstep::cli
