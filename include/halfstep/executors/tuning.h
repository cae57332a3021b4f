// Choice of kernels by measurement.
#pragma once

#include <cstdint>
#include <span>
#include <string_view>

#include <halfstep/base/api.h>

namespace HALFSTEP_API halfstep {

/// How a kernel is chosen if several compute the same result. Measured choices are stored in the user's cache folder
/// and used by later runs on the machine, so that they compute the same bits.
enum class Tuning : std::uint8_t {
  off,   ///< by fixed rules
  fast,  ///< the best candidate of each kind is timed, once
  full,  ///< every implementation that a library offers is timed, and for longer
};

/// A setting by its name for users.
struct TuningRow {
  std::string_view name;
  Tuning tuning = Tuning::off;
  std::string_view meaning;
};
std::span<const TuningRow> tunings();

/// Throws Error(input) naming the settings.
Tuning parse_tuning(std::string_view name);
std::string_view name_of(Tuning tuning);

}  // namespace halfstep
