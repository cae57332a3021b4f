// Checksums of bytes, texts and tensors.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string_view>

#include <zlib.h>

#include <halfstep/graph/tensor.h>

namespace halfstep {

/// CRC-32, as ZIP and gzip have it, of bytes that follow those whose checksum is `before`.
inline std::uint32_t crc_of(const void* data, std::size_t bytes, std::uint32_t before = 0) {
  return bytes > 0 ? static_cast<std::uint32_t>(crc32_z(before, static_cast<const Bytef*>(data), bytes)) : before;
}
inline std::uint32_t crc_of(std::string_view text, std::uint32_t before = 0) {
  return crc_of(text.data(), text.size(), before);
}
/// Of the elements.
inline std::uint32_t crc_of(const Tensor& tensor, std::uint32_t before = 0) {
  return crc_of(tensor.raw(), tensor.bytes(), before);
}

}  // namespace halfstep
