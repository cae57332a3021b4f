// Checks of flags' values. Each error says what was expected and what was given; parse_errors.h adds the flag.
#pragma once

#include <cstdint>
#include <limits>
#include <string>
#include <vector>

#include <CLI/CLI.hpp>

namespace halfstep::cli {

/// A finite number in [lowest, highest].
CLI::Validator number_in(double lowest, double highest = std::numeric_limits<double>::max());
/// A finite number above 0.
CLI::Validator positive_number();
/// A whole number in [lowest, highest], in decimal.
CLI::Validator whole_number(std::uint64_t lowest = 0,
                            std::uint64_t highest = std::numeric_limits<std::uint64_t>::max());
/// So many of something: a whole number from 1 to 2^40.
CLI::Validator counting();
/// One of two words or more.
CLI::Validator one_of(std::vector<std::string> names);

/// A number of bytes (parse_byte_count), which it becomes.
CLI::Validator byte_count();

/// Takes everything, and tells that these names are among it: for values that are checked elsewhere.
CLI::Validator suggested(const std::vector<std::string>& names);
/// The names that `one_of` or `suggested` tell of the option's values; empty where there are no such checks.
std::vector<std::string> choices_of(const CLI::Option& option);

/// What CLI11 itself lets through: an empty text (of a shell variable that is not set).
CLI::Validator not_empty();

}  // namespace halfstep::cli
