// Decompression (RFC 1951 deflate, RFC 1952 gzip) into temporary files, so that memory does not grow with the data.
#pragma once

#include <cstdint>
#include <span>
#include <string>

#include <halfstep/base/api.h>
#include <halfstep/formats/shared_bytes.h>

namespace HALFSTEP_API halfstep {

/// Compressed files that are opened from now on may unpack to at most so many bytes each; 0, the default: to 1 GiB, or
/// 256 times their size where that is more. For the whole process.
void set_max_unpacked(std::uint64_t bytes);

/// Starts with the gzip magic number.
bool is_gzip(std::span<const std::byte> bytes);

/// The content of a gzip file of one or more members; `name` is for errors.
/// Throws Error when it is truncated or corrupt, unpacks to more than it may, or to more than the disk has room for.
SharedBytes inflate_gzip(const SharedBytes& compressed, const std::string& name);

/// The content of a raw deflate stream. Throws Error when the stream is corrupt, does not give exactly `size` bytes, or
/// the bytes' CRC-32 is not `crc`, and before anything is written, when `size` is more than it may be, or than the disk
/// has room for.
SharedBytes inflate_raw(const SharedBytes& compressed, std::uint64_t size, std::uint32_t crc, const std::string& name);

}  // namespace halfstep
