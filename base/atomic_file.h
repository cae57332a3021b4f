// Files that are written completely or not at all.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <memory>
#include <string_view>
#include <vector>

#include "base/descriptor.h"
#include <halfstep/base/api.h>

namespace HALFSTEP_API halfstep {

/// The output of the callback of `write_atomically`. Buffered.
class FileWriter {
 public:
  FileWriter(int descriptor, std::filesystem::path path);
  FileWriter(const FileWriter&) = delete;
  FileWriter& operator=(const FileWriter&) = delete;

  /// Throws Error(failure) if the bytes cannot be written, e.g. on a full disk.
  void write(const void* data, std::size_t bytes);
  void write(std::string_view text) { write(text.data(), text.size()); }
  void flush();
  /// Replaces bytes that were written. Throws as `write` does.
  void replace(std::uint64_t position, std::string_view text);

  /// Number of bytes given to `write` so far.
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

/// When a new file is durable.
enum class Durability : std::uint8_t {
  /// On return: everything that the caller does next also follows it on disk, such as writing a model after its data
  /// file, or removing the files that the new one replaces.
  on_return,
  /// When the system writes the folder, some seconds later. A power failure before that restores the old file.
  soon,
};

/// What happens to a symbolic link at the path of a new file.
enum class Links : std::uint8_t {
  follow,   ///< the file it leads to is replaced, or made
  replace,  ///< for names that the user has not chosen: somebody else may have put it there
};

/// The path at the end of the symbolic links at `path`: itself where there is none. Throws Error(failure) for links in
/// a circle and those that the system does not follow, Error(input) for one to an open file of a process (/dev/stdout).
std::filesystem::path through_links(const std::filesystem::path& path);

/// A complete file, on disk under a temporary name in the folder of its path, but not yet at the path. This allows
/// several files to be written before the first of them is placed.
class PendingFile {
 public:
  /// Writes `.NAME.XXXXXX.tmp` (six random characters) in the path's folder and syncs it. The file gets the permission
  /// bits of the one at `like`, by default the path itself, or if there is none those of the umask; never setuid or
  /// setgid. Removes leftovers with such a name of killed processes.
  ///
  /// Throws Error(input) if the path exists and is not a regular file (a device, a pipe), Error(failure) if the file
  /// at the path is read-only, cannot be written or another process is writing it, and rethrows exceptions of
  /// `content`; the temporary file is then removed.
  PendingFile(const std::filesystem::path& path, const FileContent& content, const std::filesystem::path& like = {},
              Links links = Links::follow);
  /// Removes the temporary file unless it was placed.
  ~PendingFile();
  PendingFile(const PendingFile&) = delete;
  PendingFile& operator=(const PendingFile&) = delete;

  /// Renames it to the path. Throws Error(failure).
  void place(Durability durability = Durability::on_return);
  /// The same, durable on return; the old file at the path is kept as `previous` (in the same folder, replacing any
  /// file or link there). At any time at least one of the two names is a complete file.
  void place_keeping(const std::filesystem::path& previous);

 private:
  std::filesystem::path path_, temporary_;
  Descriptor descriptor_;
};

/// The existing temporary files of `path`: being written, or left by a killed process.
std::vector<std::filesystem::path> temporaries_of(const std::filesystem::path& path);

/// Removes those left by a killed process. Throws Error(failure) if one is being written.
void sweep_temporaries(const std::filesystem::path& path);

/// Writes `path` so that a reader, or the state after a crash or power failure, has either the old file or the new one,
/// never a part of either: a `PendingFile` that is placed. `on_return` also syncs the folder. Throws as `PendingFile`
/// does; the old file is then unchanged.
void write_atomically(const std::filesystem::path& path, const FileContent& content,
                      Durability durability = Durability::on_return);
void write_atomically(const std::filesystem::path& path, std::string_view content,
                      Durability durability = Durability::on_return);

/// As above, but replaces a link; keeps the old file as `PendingFile::place_keeping` does.
void write_atomically(const std::filesystem::path& path, const FileContent& content,
                      const std::filesystem::path& previous);

/// Determines, before a long computation starts, whether `write_atomically(path, …)` of about `expected_bytes` can
/// succeed, by creating and removing its temporary file. Does not change an existing file at `path`.
///
/// Throws Error(input) if the path cannot be a file (missing folder, a folder itself, a device or pipe, a name too
/// long), Error(failure) if the system refuses (permissions, read-only or full disk).
void check_writable(const std::filesystem::path& path, std::uint64_t expected_bytes = 0);

}  // namespace halfstep
