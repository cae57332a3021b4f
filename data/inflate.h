// Decompression (RFC 1951 deflate, RFC 1952 gzip) into temporary files, so that memory does not grow with the data.
#pragma once

#include <cstdint>
#include <span>
#include <string>

#include "data/shared_bytes.h"

namespace halfstep {

/// Starts with the gzip magic number.
bool is_gzip(std::span<const std::byte> bytes);

/// The content of a gzip file of one or more members; `name` is for errors.
/// Throws Error when it is truncated or corrupt.
SharedBytes inflate_gzip(const SharedBytes& compressed, const std::string& name);

/// The content of a raw deflate stream. Throws Error when the stream is corrupt, does not give exactly `size` bytes, or
/// the bytes' CRC-32 is not `crc`. Never writes more than `size` bytes.
SharedBytes inflate_raw(const SharedBytes& compressed, std::uint64_t size, std::uint32_t crc, const std::string& name);

}  // namespace halfstep
