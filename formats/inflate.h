// Decompression (RFC 1951 deflate, RFC 1952 gzip) into temporary files, so that memory does not grow with the data.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>

#include <halfstep/base/api.h>
#include <halfstep/formats/shared_bytes.h>

namespace HALFSTEP_API halfstep {

/// Sets the maximum decompressed size in bytes of each compressed file opened from now on; 0, the default: 1 GiB, or
/// 256 times its compressed size if that is more. Applies to the whole process.
void set_max_unpacked(std::uint64_t bytes);

/// Whether it starts with the gzip magic number.
bool is_gzip(std::span<const std::byte> bytes);

/// The content of a gzip file of one or more members; `name` is for errors. Throws Error if it is truncated or corrupt,
/// or exceeds the maximum size or the free disk space.
SharedBytes inflate_gzip(const SharedBytes& compressed, const std::string& name);

/// The content of a raw deflate stream. Throws Error if the stream is corrupt, does not have exactly `size` bytes, or
/// their CRC-32 is not `crc`, and, before anything is written, if `size` exceeds the maximum or the free disk space.
SharedBytes inflate_raw(const SharedBytes& compressed, std::uint64_t size, std::uint32_t crc, const std::string& name);

/// The first bytes of that content, at most `most` of them. Throws Error if the stream is corrupt before their end.
std::string beginning_of_raw(const SharedBytes& compressed, std::size_t most, const std::string& name);

}  // namespace halfstep
