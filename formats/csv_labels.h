// The label column of a table: numbers, True and False, or names of classes. Internal to the format.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "formats/temporary_file.h"
#include <halfstep/formats/data_array.h>

namespace halfstep {

/// Collects labels one by one. The first determines their kind.
class CsvLabels {
 public:
  /// `classes` are the only allowed names, in the order of their numbers; empty: the names that occur, sorted. Throws
  /// Error(input) if one is repeated.
  explicit CsvLabels(std::vector<std::string> classes);

  /// The kind of the first label, which the given one does not have; "" if it was accepted.
  std::string add(const std::string& text);

  /// All labels, [rows]: i64 if all are integers, else f32. Nothing may be added afterwards.
  DataArray finish(const std::string& name);
  /// The name of label i, if labels are names. After `finish`.
  const std::vector<std::string>& classes() const { return classes_; }

 private:
  enum class Kind { unknown, numbers, truths, names };
  std::string add_number(const std::string& text);
  std::string add_name(const std::string& text);

  Kind kind_ = Kind::unknown;
  std::vector<std::string> classes_;  ///< by number; until `finish` in the order of the file
  bool given_ = false;
  std::unordered_map<std::string, std::int64_t> numbers_;
  TemporaryFile integers_, floats_;
  std::int64_t rows_ = 0;
  bool all_integers_ = true;
};

/// A message on the number of each class, and how to keep the numbers for other data.
std::string describe_numbering(const std::string& file, const std::vector<std::string>& classes);

}  // namespace halfstep
