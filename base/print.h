// Printing that does not throw and prevents names from controlling the terminal.
#pragma once

#include <cstdio>
#include <string>
#include <string_view>
#include <type_traits>
#include <vector>

#include <fmt/format.h>

#include "base/printable.h"
#include <halfstep/base/api.h>

namespace HALFSTEP_API halfstep {

/// Text of the program itself, with intended control characters.
struct Raw {
  std::string_view text;
};

/// Never throws. A failure to write sets the stream's error flag (`ferror`): a lost line must not end the work that it
/// reports. `why_unwritten` returns the reason of the first failure.
void write_text(std::FILE* stream, std::string_view text) noexcept;

/// Flushes. Returns false if that or any earlier output failed.
bool all_written(std::FILE* stream) noexcept;
/// The reason of the first write failure of any stream.
std::string why_unwritten();

namespace detail {

template <class T>
decltype(auto) shown(const T& value) {
  if constexpr (std::is_same_v<T, Raw>)
    return std::string_view(value.text);
  else if constexpr (std::is_convertible_v<const T&, std::string_view>)
    return printable(value);
  else
    return (value);
}

template <class T>
using Shown = decltype(shown(std::declval<const T&>()));

}  // namespace detail

/// Formats and writes; every text argument is made `printable`, unless it is `Raw`.
template <class... Args>
void print_to(std::FILE* stream, fmt::format_string<detail::Shown<Args>...> format, const Args&... args) {
  write_text(stream, fmt::format(format, detail::shown(args)...));
}

/// "a, b, c", as an argument of `print_to`.
std::string joined(const std::vector<std::string>& texts, std::string_view separator = ", ");

}  // namespace halfstep
