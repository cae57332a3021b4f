// Elements of any type in arithmetic.
#pragma once

#include <type_traits>

#include <halfstep/base/half.h>

namespace halfstep {

/// f16 and bf16 as float, everything else as it is.
template <class T>
auto wide(T value) {
  if constexpr (std::is_same_v<T, f16> || std::is_same_v<T, bf16>)
    return static_cast<float>(value);
  else
    return value;
}

}  // namespace halfstep
