#include "cli/validators.h"

#include <algorithm>
#include <cmath>
#include <string_view>
#include <utility>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "base/parse_number.h"
#include "cli/nearest.h"
#include <halfstep/base/byte_count.h>
#include <halfstep/base/error.h>

namespace halfstep::cli {
namespace {

std::string refusal(const std::string& expected, const std::string& text, const std::string& hint = {}) {
  return fmt::format("expected {}, got '{}'{}{}", expected, text, hint.empty() ? "" : "\nHint: ", hint);
}

// The form in which checks describe their choices. CLI11 appends it to the type's name.
constexpr std::string_view kChoices = ":choices ";

std::string described(const std::vector<std::string>& names) {
  return fmt::format("{}{}", kChoices.substr(1), fmt::join(names, " "));
}

/// In decimal: CLI11 takes 0x10 for 16.
bool read_number(const std::string& text, double& value) {
  const auto number = parse_number<double>(std::string_view(text).substr(text.starts_with('+') ? 1 : 0));
  if (!number || !std::isfinite(*number)) return false;
  value = *number;
  return true;
}

}  // namespace

CLI::Validator number_in(double lowest, double highest) {
  return {[=](std::string& text) {
            double value = 0;
            if (read_number(text, value) && value >= lowest && value <= highest) return std::string();
            return refusal(highest == std::numeric_limits<double>::max()
                               ? fmt::format("a number of at least {:g}", lowest)
                               : fmt::format("a number from {:g} to {:g}", lowest, highest),
                           text);
          },
          ""};
}

CLI::Validator number() {
  return {[](std::string& text) {
            double value = 0;
            return read_number(text, value) ? std::string() : refusal("a number", text);
          },
          ""};
}

CLI::Validator byte_count() {
  return {[](std::string& text) {
            try {
              text = std::to_string(parse_byte_count(text, ""));
            } catch (const Error&) {
              return refusal("a number of bytes", text, "such as 500MB (millions), 2GiB or 1000000");
            }
            return std::string();
          },
          ""};
}

CLI::Validator positive_number() {
  return {[](std::string& text) {
            double value = 0;
            return read_number(text, value) && value > 0 ? std::string() : refusal("a number above 0", text);
          },
          ""};
}

CLI::Validator whole_number(std::uint64_t lowest, std::uint64_t highest) {
  return {[=](std::string& text) {
            const auto value = parse_number<std::uint64_t>(text);
            // CLI11 parses a leading 0 as octal.
            const bool decimal = value && text == std::to_string(*value);
            if (decimal && *value >= lowest && *value <= highest) return std::string();
            return refusal(fmt::format("a whole number from {} to {}", lowest, highest), text);
          },
          ""};
}

CLI::Validator signed_number() {
  return {[](std::string& text) {
            const auto value = parse_number<std::int64_t>(text);
            // CLI11 parses a leading 0 as octal, and takes the nearest number for one that is too large.
            if (value && text == std::to_string(*value)) return std::string();
            return refusal("a whole number", text, "write it in decimal, without leading zeros, within 64 bits");
          },
          ""};
}

CLI::Validator counting() { return whole_number(1, std::uint64_t{1} << 40); }

CLI::Validator one_of(std::vector<std::string> names) {
  std::string description = described(names);
  return {[names = std::move(names)](std::string& text) {
            if (std::find(names.begin(), names.end(), text) != names.end()) return std::string();
            const std::vector<std::string> first(names.begin(), names.end() - 1);
            return refusal(fmt::format("{} or {}", fmt::join(first, ", "), names.back()), text,
                           did_you_mean(text, names));
          },
          std::move(description)};
}

CLI::Validator suggested(const std::vector<std::string>& names) {
  return {[](std::string&) { return std::string(); }, described(names)};
}

std::vector<std::string> choices_of(const CLI::Option& option) {
  const std::string type = option.get_type_name();
  const std::size_t at = type.find(kChoices);
  if (at == std::string::npos) return {};
  const std::size_t begin = at + kChoices.size();
  return CLI::detail::split(type.substr(begin, type.find(':', begin) - begin), ' ');
}

CLI::Validator not_empty() {
  return {[](std::string& text) { return text.empty() ? std::string("expected a name, got none") : std::string(); },
          ""};
}

}  // namespace halfstep::cli
