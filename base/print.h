// Printing that neither throws nor lets a name drive the terminal.
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

/// Text of the program's own, whose control characters are meant.
struct Raw {
  std::string_view text;
};

/// Never throws. What cannot be written leaves the stream's error set (`ferror`): a lost line is no reason to lose the
/// work that it tells of. `why_unwritten` says what the first failure was.
void write_text(std::FILE* stream, std::string_view text) noexcept;

/// Flushes. False where that failed, or anything before it did.
bool all_written(std::FILE* stream) noexcept;
/// The reason of the first failure to write, on any stream.
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

/// Formats and writes; every argument that is text is made `printable`, unless it is `Raw`.
template <class... Args>
void print_to(std::FILE* stream, fmt::format_string<detail::Shown<Args>...> format, const Args&... args) {
  write_text(stream, fmt::format(format, detail::shown(args)...));
}

/// "a, b, c", to be an argument of `print_to`.
std::string joined(const std::vector<std::string>& texts, std::string_view separator = ", ");

}  // namespace halfstep
