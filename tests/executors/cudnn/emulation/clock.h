// The clock of the emulated device, which events tell.
#pragma once

#include <functional>
#include <string_view>

namespace emulation {

/// How long the device takes, in microseconds, for work of a kind ("engine", "algorithm", "recurrent", "generated") and
/// of this number.
using Duration = std::function<double(std::string_view kind, int number)>;
/// What a test says; unset: 1.
Duration& duration();

/// Part of a stream's work: the clock goes on.
void take_time(std::string_view kind, int number = 0);

}  // namespace emulation
