// Confusion matrices.
#pragma once

#include <string>
#include <vector>

#include <nlohmann/json_fwd.hpp>

#include <halfstep/training/metrics.h>

namespace halfstep::cli {

/// Prints a table with a row per label and a column per predicted class; for many classes only the most frequent
/// mistakes. `names` are the class names, if there are any.
void print_class_table(const std::string& title, const ClassTable& table, const std::vector<std::string>& names);

/// {"labels": names of the rows, "outputs": names of the columns, "counts": a list per label}. The names are those of
/// the classes, else their numbers as text; the last column is "NaN" if there are NaN outputs.
nlohmann::ordered_json to_json(const ClassTable& table, const std::vector<std::string>& names);

}  // namespace halfstep::cli
