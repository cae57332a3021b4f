#include <algorithm>

#include <fmt/format.h>

#include <halfstep/base/error.h>
#include <halfstep/executors/tuning.h>

namespace halfstep {
namespace {

constexpr TuningRow kRows[] = {
    {"off", Tuning::off, "by fixed rules"},
    {"fast", Tuning::fast, "by timing one of each kind"},
    {"full", Tuning::full, "by timing all of oneDNN's implementations, too"},
};

}  // namespace

std::span<const TuningRow> tunings() { return kRows; }

Tuning parse_tuning(std::string_view name) {
  const auto row = std::ranges::find(kRows, name, &TuningRow::name);
  if (row != std::end(kRows)) return row->tuning;
  std::string names;
  for (const TuningRow& each : kRows) names += fmt::format("{}{}", names.empty() ? "" : ", ", each.name);
  throw_input_error("a choice of kernels that is one of " + names, fmt::format("'{}'", name),
                    "off chooses by fixed rules");
}

std::string_view name_of(Tuning tuning) { return std::ranges::find(kRows, tuning, &TuningRow::tuning)->name; }

}  // namespace halfstep
