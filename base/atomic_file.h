// Files that are either wholly written or not at all.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <memory>
#include <string_view>
#include <vector>

#include <halfstep/base/api.h>

namespace HALFSTEP_API halfstep {

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

/// A file that is whole and on disk under a temporary name beside its path, and not yet at it. So several files can be
/// written before the first of them takes its place.
class PendingFile {
 public:
  /// Writes `.NAME.XXXXXX.tmp` (six random characters) in the path's folder and syncs it. The file gets the permission
  /// bits of the one at `like`, the path itself by default, or where there is none those that the umask leaves; never
  /// setuid or setgid. What a killed process left of the same name is removed.
  ///
  /// Throws Error(input) where something stands at the path that is no regular file (a device, a pipe), Error(failure)
  /// when the file cannot be written or another process is writing it, and passes on what `content` throws; the
  /// temporary file is then removed.
  PendingFile(std::filesystem::path path, const FileContent& content, const std::filesystem::path& like = {});
  /// Removes the temporary file unless it took its place.
  ~PendingFile();
  PendingFile(const PendingFile&) = delete;
  PendingFile& operator=(const PendingFile&) = delete;

  /// Renames it to the path; a symbolic link there is replaced, not followed. Throws Error(failure).
  void place(Durability durability = Durability::on_return);
  /// The same, durable on return; the file that stood at the path lives on as `previous` (in the same folder, replacing
  /// what stood there). At every instant at least one of the two names holds a whole file.
  void place_keeping(const std::filesystem::path& previous);

 private:
  std::filesystem::path path_, temporary_;
  int descriptor_ = -1;
};

/// The temporary files of `path` that are there: being written, or left by a process that was killed.
std::vector<std::filesystem::path> temporaries_of(const std::filesystem::path& path);

/// Removes those of them that a killed process left. Throws Error(failure) when one is being written.
void sweep_temporaries(const std::filesystem::path& path);

/// Writes `path` so that a reader, a crash or a power cut finds the old file or the new one, never a part of either: a
/// `PendingFile` that is placed. For `on_return` with fsync of the folder. Throws as `PendingFile` does; the old file
/// is then untouched.
void write_atomically(const std::filesystem::path& path, const FileContent& content,
                      Durability durability = Durability::on_return);
void write_atomically(const std::filesystem::path& path, std::string_view content,
                      Durability durability = Durability::on_return);

/// As above, keeping the old file as `PendingFile::place_keeping` does.
void write_atomically(const std::filesystem::path& path, const FileContent& content,
                      const std::filesystem::path& previous);

/// Finds out, before long work starts, whether `write_atomically(path, …)` of about `expected_bytes` can succeed, by
/// creating and removing its temporary file. What stands at `path` is not touched.
///
/// Throws Error(input) when the path cannot be a file (missing folder, a folder itself, a device or pipe, a name too
/// long), Error(failure) when the system refuses (permissions, read-only or full disk).
void check_writable(const std::filesystem::path& path, std::uint64_t expected_bytes = 0);

}  // namespace halfstep
