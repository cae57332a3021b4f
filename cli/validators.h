// Checks of flags' values. Each error states the expected and the given value; parse_errors.h adds the flag.
#pragma once

#include <cstdint>
#include <limits>
#include <string>
#include <vector>

#include <CLI/CLI.hpp>

namespace halfstep::cli {

/// A finite number in decimal, as are those of the others.
CLI::Validator number();
/// A finite number in [lowest, highest].
CLI::Validator number_in(double lowest, double highest = std::numeric_limits<double>::max());
/// A finite number above 0.
CLI::Validator positive_number();
/// A decimal integer in [lowest, highest].
CLI::Validator whole_number(std::uint64_t lowest = 0,
                            std::uint64_t highest = std::numeric_limits<std::uint64_t>::max());
/// A decimal integer of 64 bits, which may be negative.
CLI::Validator signed_number();
/// A count: an integer from 1 to 2^40.
CLI::Validator counting();
/// One of at least two words.
CLI::Validator one_of(std::vector<std::string> names);

/// A byte count (parse_byte_count); the value is replaced by the number.
CLI::Validator byte_count();

/// Accepts everything, but suggests these names: for values that are checked elsewhere.
CLI::Validator suggested(const std::vector<std::string>& names);
/// The names for the option's values given by `one_of` or `suggested`; empty if there are no such checks.
std::vector<std::string> choices_of(const CLI::Option& option);

/// CLI11 itself accepts an empty text (of an unset shell variable).
CLI::Validator not_empty();

}  // namespace halfstep::cli
