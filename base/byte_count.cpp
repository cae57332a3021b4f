#include <cctype>
#include <charconv>
#include <system_error>

#include <fmt/format.h>

#include <halfstep/base/byte_count.h>
#include <halfstep/base/error.h>

namespace halfstep {
namespace {

/// The factor of a unit; 0 if it is not one.
double factor_of(std::string_view unit) {
  std::string letters;
  for (const char c : unit) letters += static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
  if (letters.ends_with('b')) letters.pop_back();
  if (letters.empty()) return 1;
  constexpr std::string_view kPrefixes = "kmgt";
  const std::size_t power = kPrefixes.find(letters[0]);
  if (power == std::string_view::npos || (letters.size() > 1 && letters.substr(1) != "i")) return 0;
  double factor = 1;
  for (std::size_t i = 0; i <= power; ++i) factor *= letters.size() > 1 ? 1024 : 1000;
  return factor;
}

}  // namespace

std::size_t parse_byte_count(std::string_view text, std::string_view what) {
  constexpr double kMost = 1e18;
  double number = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  std::string_view unit = error == std::errc() ? text.substr(static_cast<std::size_t>(end - text.data())) : "?";
  while (unit.starts_with(' ')) unit.remove_prefix(1);
  const double bytes = number * factor_of(unit);
  if (!(bytes >= 1 && bytes <= kMost))
    throw_input_error(fmt::format("a number of bytes for {}", what), fmt::format("'{}'", text),
                      "such as 500MB (millions), 2GiB or 1000000");
  return static_cast<std::size_t>(bytes);
}

}  // namespace halfstep
