// CRC-32C (Castagnoli), the check sum of TFRecord files.
#pragma once

#include <array>
#include <cstdint>
#include <string_view>

namespace halfstep {

inline std::uint32_t crc32c(std::string_view bytes) {
  static constexpr auto kTable = [] {
    constexpr std::uint32_t kReflectedPolynomial = 0x82f63b78;
    std::array<std::uint32_t, 256> table{};
    for (std::uint32_t i = 0; i < table.size(); ++i) {
      table[i] = i;
      for (int bit = 0; bit < 8; ++bit) table[i] = table[i] >> 1 ^ (table[i] & 1 ? kReflectedPolynomial : 0);
    }
    return table;
  }();
  std::uint32_t crc = ~std::uint32_t{0};
  for (const char c : bytes) crc = crc >> 8 ^ kTable[(crc ^ static_cast<unsigned char>(c)) & 0xff];
  return ~crc;
}

/// As it stands in a TFRecord file, where a check sum may itself be part of what one is taken of.
inline std::uint32_t masked_crc32c(std::string_view bytes) {
  const std::uint32_t crc = crc32c(bytes);
  return (crc >> 15 | crc << 17) + 0xa282ead8;
}

}  // namespace halfstep
