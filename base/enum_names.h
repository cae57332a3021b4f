// Names of enumerators.
#pragma once

#include <cstddef>
#include <string_view>

namespace halfstep {

/// The name of an enumerator, of names in the order of their enumeration.
template <class E, std::size_t N>
constexpr std::string_view name_in(const std::string_view (&names)[N], E value) {
  const auto i = static_cast<std::size_t>(value);
  return i < N ? names[i] : "unknown";
}

}  // namespace halfstep
