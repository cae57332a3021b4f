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

/// Takes labels one by one. The first says what all are.
class CsvLabels {
 public:
  /// `classes` are the only names there may be, in the order of their numbers; none: those that occur, sorted.
  /// Throws Error(input) where one is given twice.
  explicit CsvLabels(std::vector<std::string> classes);

  /// What the label is not, of what the first was; "" when it was taken.
  std::string add(const std::string& text);

  /// All of them, [rows]: i64 when each is an integer, else f32. Nothing may be added afterwards.
  DataArray finish(const std::string& name);
  /// What label i is called, when labels are names. After `finish`.
  const std::vector<std::string>& classes() const { return classes_; }

 private:
  enum class Kind { unknown, numbers, truths, names };
  std::string add_number(const std::string& text);
  std::string add_name(const std::string& text);

  Kind kind_ = Kind::unknown;
  std::vector<std::string> classes_;  ///< in the order of their numbers; until `finish` in that of the file
  bool given_ = false;
  std::unordered_map<std::string, std::int64_t> numbers_;
  TemporaryFile integers_, floats_;
  std::int64_t rows_ = 0;
  bool all_integers_ = true;
};

/// For people: what number each class has, and how other data keeps it.
std::string describe_numbering(const std::string& file, const std::vector<std::string>& classes);

}  // namespace halfstep
