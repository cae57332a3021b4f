#include "formats/csv_labels.h"

#include <algorithm>
#include <cctype>
#include <cmath>
#include <cstring>
#include <numeric>
#include <optional>
#include <utility>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "formats/csv_text.h"
#include <halfstep/base/error.h>

namespace halfstep {
namespace {

constexpr std::size_t kMostClasses = 100'000;
constexpr double kLargestExact = 9007199254740992.0;  // 2^53

std::optional<std::int64_t> truth_of(std::string_view text) {
  std::string lower(text);
  std::transform(lower.begin(), lower.end(), lower.begin(), [](unsigned char c) { return std::tolower(c); });
  if (lower == "true") return 1;
  if (lower == "false") return 0;
  return std::nullopt;
}

}  // namespace

CsvLabels::CsvLabels(std::vector<std::string> classes) : classes_(std::move(classes)), given_(!classes_.empty()) {
  if (given_) kind_ = Kind::names;
  for (std::size_t i = 0; i < classes_.size(); ++i)
    if (!numbers_.emplace(classes_[i], static_cast<std::int64_t>(i)).second)
      throw_input_error("each name once in --classes", fmt::format("'{}' twice", classes_[i]), "leave one out");
}

std::string CsvLabels::add(const std::string& text) {
  if (text.empty()) return "a label in every row";
  if (kind_ == Kind::unknown) kind_ = is_csv_number(text) ? Kind::numbers : truth_of(text) ? Kind::truths : Kind::names;
  ++rows_;
  switch (kind_) {
    case Kind::truths: {
      const auto truth = truth_of(text);
      if (!truth) return "True or False, as the labels before";
      integers_.append(&*truth, sizeof *truth);
      return {};
    }
    case Kind::names:
      return add_name(text);
    default:
      return add_number(text);
  }
}

std::string CsvLabels::add_number(const std::string& text) {
  double value = 0;
  float rounded = 0;
  if (!parse_csv_number(text, value) || !std::isfinite(value) || !parse_csv_number(text, rounded) ||
      !std::isfinite(rounded))
    return "a finite number in every field";
  std::int64_t integer = 0;
  if (!parse_csv_number(text, integer)) {  // 1.0 and 1e0 are integers, too
    all_integers_ = all_integers_ && value == std::trunc(value) && std::abs(value) <= kLargestExact;
    if (all_integers_) integer = static_cast<std::int64_t>(value);
  }
  if (all_integers_) integers_.append(&integer, sizeof integer);
  floats_.append(&rounded, sizeof rounded);
  return {};
}

std::string CsvLabels::add_name(const std::string& text) {
  if (given_ && !numbers_.contains(text)) return fmt::format("one of the classes {}", fmt::join(classes_, ", "));
  const auto [known, is_new] = numbers_.emplace(text, static_cast<std::int64_t>(classes_.size()));
  if (is_new) classes_.push_back(text);
  if (classes_.size() > kMostClasses) return fmt::format("at most {} names of classes", kMostClasses);
  integers_.append(&known->second, sizeof known->second);
  return {};
}

DataArray CsvLabels::finish(const std::string& name) {
  const Shape shape{rows_};
  if (kind_ == Kind::numbers && !all_integers_) return DataArray(name, DType::f32, shape, floats_.finish());
  SharedBytes bytes = integers_.finish();
  if (kind_ != Kind::names || given_) return DataArray(name, DType::i64, shape, std::move(bytes));
  std::vector<std::int64_t> order(classes_.size()), number_of(classes_.size());
  std::iota(order.begin(), order.end(), 0);
  const auto at = [](std::int64_t i) { return static_cast<std::size_t>(i); };
  std::sort(order.begin(), order.end(),
            [&](std::int64_t a, std::int64_t b) { return classes_[at(a)] < classes_[at(b)]; });
  std::vector<std::string> sorted;
  for (std::size_t i = 0; i < order.size(); ++i) {
    number_of[at(order[i])] = static_cast<std::int64_t>(i);
    sorted.push_back(classes_[at(order[i])]);
  }
  classes_ = std::move(sorted);
  TemporaryFile renumbered;
  for (std::int64_t row = 0; row < rows_; ++row) {
    std::int64_t in_file_order = 0;
    std::memcpy(&in_file_order, bytes.data() + at(row) * sizeof in_file_order, sizeof in_file_order);
    renumbered.append(&number_of[at(in_file_order)], sizeof(std::int64_t));
  }
  return DataArray(name, DType::i64, shape, renumbered.finish());
}

std::string describe_numbering(const std::string& file, const std::vector<std::string>& classes) {
  constexpr std::size_t kMost = 200;
  std::string numbers, list;
  for (std::size_t i = 0; i < std::min(classes.size(), kMost); ++i) {
    numbers += fmt::format("{}{} = {}", i ? ", " : "", classes[i], i);
    list += (i ? "," : "") + classes[i];
  }
  if (classes.size() > kMost)
    return fmt::format("{}: labels are names, numbered in sorted order: {}, …", file, numbers);
  return fmt::format("{}: labels are names, numbered in sorted order: {}; --classes {} keeps that for other data", file,
                     numbers, list);
}

}  // namespace halfstep
