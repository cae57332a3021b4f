#include <algorithm>

#include "base/row_named.h"
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
  return row_named(kRows, name, "a choice of kernels that is one of ", "off chooses by fixed rules").tuning;
}

std::string_view name_of(Tuning tuning) { return std::ranges::find(kRows, tuning, &TuningRow::tuning)->name; }

}  // namespace halfstep
