// Files that are either wholly written or not at all.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <memory>
#include <string_view>

namespace halfstep {

/// Where the callback of `write_atomically` puts its bytes. Buffered.
class FileWriter {
 public:
  FileWriter(int descriptor, std::filesystem::path path);
  FileWriter(const FileWriter&) = delete;
  FileWriter& operator=(const FileWriter&) = delete;

  /// Throws Error(failure) when the bytes cannot be written, e.g. on a full disk.
  void write(const void* data, std::size_t bytes);
  void write(std::string_view text) { write(text.data(), text.size()); }
  void flush();

  /// Bytes given to `write` so far.
  std::uint64_t position() const { return position_; }

 private:
  void write_through(const std::byte* data, std::size_t bytes);

  int descriptor_;
  std::filesystem::path path_;
  std::unique_ptr<std::byte[]> buffer_;
  std::size_t used_ = 0;
  std::uint64_t position_ = 0;
};

using FileContent = std::function<void(FileWriter&)>;

/// When a new file is there to stay.
enum class Durability : std::uint8_t {
  /// When the call returns: whatever the caller does next comes after it on disk too, such as writing a model after its
  /// data file, or removing what the new file replaces.
  on_return,
  /// When the system writes the folder, some seconds later. A power cut before that brings back the old file.
  soon,
};

/// Writes `path` so that a reader, a crash or a power cut finds the old file or the new one, never a part of either:
/// into `.NAME.tmp` in the same folder, fsync, which has the content on disk before its name, and rename; for
/// `on_return` then fsync of the folder.
///
/// A temporary file that a killed process left behind is overwritten. A symbolic link at `path` is replaced, not
/// followed; a device or pipe (/dev/stdout) is written in place.
///
/// Throws Error(failure) when the file cannot be written, and passes on what `content` throws; the old file is then
/// untouched and the temporary one removed.
void write_atomically(const std::filesystem::path& path, const FileContent& content,
                      Durability durability = Durability::on_return);
void write_atomically(const std::filesystem::path& path, std::string_view content,
                      Durability durability = Durability::on_return);

/// As above, durable on return; the file that stood at `path` lives on as `previous` (in the same folder, replacing
/// what stood there). At every instant at least one of the two names holds a whole file.
void write_atomically(const std::filesystem::path& path, const FileContent& content,
                      const std::filesystem::path& previous);

/// Finds out, before long work starts, whether `write_atomically(path, …)` of about `expected_bytes` can succeed, by
/// creating and removing its temporary file. What stands at `path` is not touched.
///
/// Throws Error(input) when the path cannot be a file (missing folder, a folder itself, a name too long),
/// Error(failure) when the system refuses (permissions, read-only or full disk).
void check_writable(const std::filesystem::path& path, std::uint64_t expected_bytes = 0);

}  // namespace halfstep
