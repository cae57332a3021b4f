// The two system-call helpers that the file writers share.
#pragma once

#include <cerrno>
#include <cstddef>
#include <string>
#include <system_error>

#include <unistd.h>

namespace halfstep {

/// The message of `errno`.
inline std::string errno_text() { return std::generic_category().message(errno); }

/// Writes all bytes; continues after short writes and interruptions. Returns false with `errno` set on failure.
inline bool write_fully(int descriptor, const void* data, std::size_t bytes) {
  const char* next = static_cast<const char*>(data);
  while (bytes > 0) {
    const ssize_t written = ::write(descriptor, next, bytes);
    if (written < 0 && errno == EINTR) continue;
    if (written < 0) return false;
    next += written;
    bytes -= static_cast<std::size_t>(written);
  }
  return true;
}

}  // namespace halfstep
