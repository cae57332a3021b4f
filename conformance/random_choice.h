// Choices of a generator of test cases: the same on every machine.
#pragma once

#include <cstdint>
#include <span>
#include <string_view>

#include "base/philox.h"

namespace halfstep {

/// A stream of numbers that is a pure function of a seed and a name.
class RandomChoice {
 public:
  RandomChoice(std::uint64_t seed, std::string_view name) : key_(philox_key(seed)), stream_(hash(name)) {}

  std::uint32_t next() { return philox4x32_10({position_++, stream_[0], stream_[1], 0}, key_)[0]; }
  /// In [0, n); n >= 1.
  std::size_t below(std::size_t n) { return next() % n; }
  bool one_in(std::size_t n) { return below(n) == 0; }
  template <class T>
  const T& of(std::span<const T> values) {
    return values[below(values.size())];
  }

 private:
  // FNV-1a
  static std::array<std::uint32_t, 2> hash(std::string_view name) {
    std::uint64_t h = 0xcbf29ce484222325u;
    for (const char c : name) h = (h ^ static_cast<unsigned char>(c)) * 0x100000001b3u;
    return {static_cast<std::uint32_t>(h), static_cast<std::uint32_t>(h >> 32)};
  }

  PhiloxKey key_;
  std::array<std::uint32_t, 2> stream_;
  std::uint32_t position_ = 0;
};

}  // namespace halfstep
