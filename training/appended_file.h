// A file that records are appended to while training goes on.
#pragma once

#include <chrono>
#include <cstdint>
#include <filesystem>
#include <string>
#include <string_view>

namespace halfstep {

/// Records go out when the buffer is full, once a second, and on `close`. What cannot be written stays in the buffer,
/// for as long as that is below `kMostKept`, and is tried again with what follows: then the file goes on where it
/// ended.
class AppendedFile {
 public:
  static constexpr std::size_t kMostKept = std::size_t{64} << 20;

  /// `what` is what errors call it: "a log". Throws Error(failure) when the file cannot be opened; `flags` are those of
  /// open(2) besides O_WRONLY, O_CREAT and O_CLOEXEC.
  AppendedFile(std::string what, std::filesystem::path path, int flags);
  /// Closes without reporting errors: call `close` to learn of them.
  ~AppendedFile();
  AppendedFile(const AppendedFile&) = delete;
  AppendedFile& operator=(const AppendedFile&) = delete;

  const std::filesystem::path& path() const { return path_; }
  /// Throws Error(failure) when the buffer went out and could not be written.
  void append(std::string_view record);
  void flush();
  /// Throws Error(failure) when records are lost.
  void close();

 private:
  [[noreturn]] void throw_unwritable(int code) const;

  std::string what_;
  std::filesystem::path path_;
  int descriptor_ = -1;
  std::string buffer_;
  std::int64_t dropped_ = 0;
  std::chrono::steady_clock::time_point last_flush_;
};

/// Throws Error(failure): `what` cannot be written to `path`, for the reason `code` of errno.
[[noreturn]] void throw_unwritable(std::string_view what, const std::filesystem::path& path, int code);

}  // namespace halfstep
