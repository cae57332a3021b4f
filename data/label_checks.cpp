#include "data/label_checks.h"

#include <type_traits>
#include <utility>

#include <fmt/format.h>

#include "data/label_limits.h"
#include <halfstep/base/error.h>
#include <halfstep/base/visit.h>

namespace halfstep {
namespace {

template <class T>
ApplyRows with_range_check(ApplyRows convert, const std::string& name, std::size_t count,
                           const TargetOptions& options) {
  const std::int64_t classes = *options.classes;
  const std::optional<std::int64_t> ignored = options.ignore_index;
  return [=](const void* in, RowNumbers rows, void* out) {
    convert(in, rows, out);
    const T* indices = static_cast<const T*>(out);
    for (std::size_t i = 0; i < rows.size() * count; ++i) {
      const auto index = static_cast<std::int64_t>(indices[i]);
      if ((index < 0 || index >= classes) && index != ignored)
        throw_input_error(
            fmt::format("class indices in [0, {}){}", classes,
                        ignored ? fmt::format(", or {} for ignored rows", *ignored) : ""),
            fmt::format("{} in row {} of {}", index, rows[i / count], name),
            ignored ? fmt::format(
                          "check the data and the number of classes of the model; --ignore-label {} ignores such rows",
                          index)
                    : "check the data");
    }
  };
}

}  // namespace

ApplyRows with_range_check(ApplyRows convert, const std::string& name, const RowType& to,
                           const TargetOptions& options) {
  return visit_dtype(to.dtype, [&]<class T>() -> ApplyRows {
    if constexpr (!std::is_integral_v<T>)
      return {};
    else
      return with_range_check<T>(std::move(convert), name, static_cast<std::size_t>(to.shape.count()), options);
  });
}

ApplyRows with_probability_check(ApplyRows convert, const std::string& name, std::size_t count,
                                 std::optional<std::int64_t> ignored) {
  const float skipped = ignored ? static_cast<float>(*ignored) : 0;
  return [=](const void* in, RowNumbers rows, void* out) {
    convert(in, rows, out);
    const auto* values = static_cast<const float*>(out);
    for (std::size_t i = 0; i < rows.size() * count; ++i)
      if (!is_probability(values[i]) && values[i] != skipped)
        throw_input_error(required_probabilities(ignored),
                          fmt::format("{} in row {} of {}", values[i], rows[i / count], name),
                          "check the labels, or choose another --loss");
  };
}

ApplyRows with_weight_check(ApplyRows convert, const std::string& name, std::size_t count) {
  return [=](const void* in, RowNumbers rows, void* out) {
    convert(in, rows, out);
    const auto* weights = static_cast<const float*>(out);
    for (std::size_t i = 0; i < rows.size() * count; ++i)
      if (!is_sample_weight(weights[i]))
        throw_at_row(name, rows[i / count], required_weights(), fmt::format("{}", weights[i]));
  };
}

}  // namespace halfstep
