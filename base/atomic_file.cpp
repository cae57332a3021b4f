#include "base/atomic_file.h"

#include <cerrno>
#include <chrono>
#include <cstring>
#include <string>
#include <system_error>
#include <utility>

#include <dirent.h>
#include <fcntl.h>
#include <sys/file.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

#include <halfstep/base/error.h>

namespace halfstep {
namespace {

namespace fs = std::filesystem;

constexpr std::size_t kBufferBytes = std::size_t{1} << 18;

[[noreturn]] void throw_unwritable(const fs::path& path, int code) {
  throw_failure("a file that can be written: " + path.string(), errno_text(code),
                code == ENOSPC || code == EDQUOT || code == EFBIG ? "free some space, or write elsewhere"
                                                                  : "check the path and its permissions");
}

fs::path folder_of(const fs::path& path) { return path.has_parent_path() ? path.parent_path() : fs::path("."); }

fs::path sibling(const fs::path& path, const char* suffix) {
  return folder_of(path) / fs::path(".").concat(path.filename().native()).concat(suffix);
}

constexpr std::string_view kTemporarySuffix = ".tmp";
constexpr std::size_t kRandomCharacters = 6;
constexpr mode_t kPermissions = 0777;  // without setuid, setgid and the sticky bit

/// What a link to an open file leads to.
bool is_of_process(const fs::path& target) { return target.native().starts_with("/proc/"); }

constexpr const char* kOpenFile = "an open file";

[[noreturn]] void throw_no_regular_file(const fs::path& path, const char* found) {
  throw_input_error("a regular file to write: " + path.string(), found, "name a file");
}

/// Throws Error(input) if the path (through symbolic links) is something other than a regular file, or is a link to an
/// open file of a process (/dev/stdout), which must not be replaced; Error(failure) if it is a file that may not be
/// written: renaming another to its path needs no permission for the file itself.
void require_replaceable(const fs::path& path) {
  struct stat status;
  if (::stat(path.c_str(), &status) != 0) return;
  const char* found = S_ISFIFO(status.st_mode) ? "a pipe" : S_ISSOCK(status.st_mode) ? "a socket" : "a device";
  std::error_code none;
  const bool is_open = is_of_process(fs::read_symlink(path, none));
  if (S_ISDIR(status.st_mode)) return;
  if (!S_ISREG(status.st_mode) || is_open) throw_no_regular_file(path, S_ISREG(status.st_mode) ? kOpenFile : found);
  constexpr mode_t kAnyoneWrites = 0222;  // root, too, would have to be told to write to others
  if ((status.st_mode & kAnyoneWrites) == 0 || ::eaccess(path.c_str(), W_OK) != 0)
    throw_failure("a file that can be written: " + path.string(), "a read-only file of that name",
                  "allow writing to it (chmod u+w), or name another file");
}

std::string random_characters() {
  constexpr std::string_view kLetters = "abcdefghijklmnopqrstuvwxyz012345";
  unsigned char bytes[kRandomCharacters] = {};
  if (::getrandom(bytes, sizeof bytes, 0) < 0) {
    const auto ticks = std::chrono::steady_clock::now().time_since_epoch().count() ^ ::getpid();
    for (std::size_t i = 0; i < sizeof bytes; ++i) bytes[i] = static_cast<unsigned char>(ticks >> 5 * i);
  }
  std::string text;
  for (const unsigned char byte : bytes) text += kLetters[byte % kLetters.size()];
  return text;
}

/// Whether `name` has the form of `open_temporary`'s names for `path`.
bool is_temporary_of(const fs::path& path, std::string_view name) {
  const std::string start = "." + path.filename().native() + ".";
  return name.size() == start.size() + kRandomCharacters + kTemporarySuffix.size() && name.starts_with(start) &&
         name.ends_with(kTemporarySuffix);
}

/// A new file, locked while open, whose permissions do not exceed those of the file at `like`.
Descriptor open_temporary(const fs::path& path, const fs::path& like, fs::path& temporary) {
  struct stat old;
  const bool replaces = ::stat(like.c_str(), &old) == 0 && S_ISREG(old.st_mode);
  for (int attempt = 0;; ++attempt) {
    temporary = sibling(path, ("." + random_characters()).append(kTemporarySuffix).c_str());
    Descriptor file(::open(temporary.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW,
                           replaces ? old.st_mode & 0600 : 0666));
    if (!file && errno == EEXIST && attempt < 100) continue;
    if (std::error_code ignored; !file && errno == ENOENT) {  // /proc is a folder, and takes none
      const fs::path folder = folder_of(path);
      throw_failure(
          "a file that can be written: " + path.string(),
          (fs::is_directory(folder, ignored) ? "a folder that takes no files: " : "no folder ") + folder.string(),
          "write elsewhere");
    }
    if (!file) throw_unwritable(path, errno);
    ::flock(file.get(), LOCK_EX);
    // Between the two calls another process may have removed the file as a leftover.
    struct stat opened;
    if (::fstat(file.get(), &opened) != 0) throw_unwritable(path, errno);
    if (opened.st_nlink == 0) continue;
    if (replaces) ::fchmod(file.get(), old.st_mode & kPermissions);
    return file;
  }
}

void sync_folder(const fs::path& folder) {
  // Some file systems cannot sync a folder; the rename has happened nevertheless.
  Descriptor descriptor(::open(folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (descriptor) ::fsync(descriptor.get());
}

/// Renames `from` to `path`, and keeps the old file as `previous` (unless empty).
void move_into_place(const fs::path& from, const fs::path& path, const fs::path& previous, Durability durability) {
  // First a second name for the old file, so that it is only replaced when the new one is in place.
  const fs::path old = sibling(path, ".old");
  bool linked = false;
  if (!previous.empty() && ::access(path.c_str(), F_OK) == 0) {
    ::unlink(old.c_str());
    linked = ::link(path.c_str(), old.c_str()) == 0;
    // A file system without hard links: for a moment only `previous` exists.
    if (!linked && ::rename(path.c_str(), previous.c_str()) != 0) throw_unwritable(previous, errno);
  }
  if (::rename(from.c_str(), path.c_str()) != 0) {
    const int code = errno;
    if (linked) ::unlink(old.c_str());
    throw_unwritable(path, code);
  }
  if (linked) {
    sync_folder(folder_of(path));
    if (::rename(old.c_str(), previous.c_str()) != 0) throw_unwritable(previous, errno);
  }
  if (durability == Durability::on_return) sync_folder(folder_of(path));
}

}  // namespace

fs::path through_links(const fs::path& path) {
  fs::path found = path;
  std::error_code none;
  while (fs::is_symlink(fs::symlink_status(found, none))) {
    // The system may refuse to follow it: one in a circle, or another user's in a folder that all write to.
    struct stat status;
    if (::stat(found.c_str(), &status) != 0 && errno != ENOENT) throw_unwritable(path, errno);
    // Open files of a process are links, those of pipes to no path.
    if (is_of_process(fs::canonical(folder_of(found), none) / "")) {
      require_replaceable(found);
      throw_no_regular_file(path, kOpenFile);
    }
    const fs::path target = fs::read_symlink(found, none);
    if (target.empty()) break;
    found = target.is_absolute() ? target : folder_of(found) / target;
  }
  return found;
}

std::vector<fs::path> temporaries_of(const fs::path& path) {
  // Not std::filesystem's iterator, which terminates the program if memory is exhausted.
  std::vector<fs::path> found;
  const fs::path folder = folder_of(path);
  const std::unique_ptr<DIR, int (*)(DIR*)> entries(::opendir(folder.c_str()), ::closedir);
  while (const dirent* entry = entries ? ::readdir(entries.get()) : nullptr)
    if (is_temporary_of(path, entry->d_name)) found.push_back(folder / entry->d_name);
  return found;
}

void sweep_temporaries(const fs::path& path) {
  for (const fs::path& found : temporaries_of(path)) {
    Descriptor file(::open(found.c_str(), O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK));
    struct stat status;
    const bool is_ours =
        file && ::fstat(file.get(), &status) == 0 && S_ISREG(status.st_mode) && status.st_uid == ::geteuid();
    if (!is_ours) continue;
    if (::flock(file.get(), LOCK_EX | LOCK_NB) == 0)
      ::unlink(found.c_str());
    else if (errno == EWOULDBLOCK)
      throw_failure("one writer at a time for " + path.string(), "another process is writing it",
                    "wait for it, or write elsewhere");
  }
}

FileWriter::FileWriter(int descriptor, fs::path path)
    : descriptor_(descriptor), path_(std::move(path)), buffer_(new std::byte[kBufferBytes]) {}

void FileWriter::write(const void* data, std::size_t bytes) {
  if (bytes == 0) return;
  position_ += bytes;
  if (used_ + bytes > kBufferBytes) flush();
  if (bytes >= kBufferBytes) {
    write_through(static_cast<const std::byte*>(data), bytes);
    return;
  }
  std::memcpy(buffer_.get() + used_, data, bytes);
  used_ += bytes;
}

void FileWriter::flush() { write_through(buffer_.get(), std::exchange(used_, 0)); }

void FileWriter::replace(std::uint64_t position, std::string_view text) {
  flush();
  while (!text.empty()) {
    const ssize_t written = ::pwrite(descriptor_, text.data(), text.size(), static_cast<off_t>(position));
    if (written < 0 && errno == EINTR) continue;
    if (written < 0) throw_unwritable(path_, errno);
    text.remove_prefix(static_cast<std::size_t>(written));
    position += static_cast<std::uint64_t>(written);
  }
}

void FileWriter::write_through(const std::byte* data, std::size_t bytes) {
  if (!write_fully(descriptor_, data, bytes)) throw_unwritable(path_, errno);
}

PendingFile::PendingFile(const fs::path& path, const FileContent& content, const fs::path& like, Links links)
    : path_(links == Links::follow ? through_links(path) : path) {
  require_replaceable(path_);
  sweep_temporaries(path_);
  Descriptor file = open_temporary(path_, like.empty() ? path_ : like, temporary_);
  try {
    FileWriter writer(file.get(), path_);
    content(writer);
    writer.flush();
    if (::fsync(file.get()) != 0) throw_unwritable(path_, errno);
  } catch (...) {
    ::unlink(temporary_.c_str());
    throw;
  }
  descriptor_ = std::move(file);
}

PendingFile::~PendingFile() {
  if (descriptor_) ::unlink(temporary_.c_str());
}

void PendingFile::place(Durability durability) {
  move_into_place(temporary_, path_, {}, durability);
  descriptor_.close();
}

void PendingFile::place_keeping(const fs::path& previous) {
  move_into_place(temporary_, path_, previous, Durability::on_return);
  descriptor_.close();
}

void write_atomically(const fs::path& path, const FileContent& content, const fs::path& previous) {
  PendingFile(path, content, {}, Links::replace).place_keeping(previous);
}

void write_atomically(const fs::path& path, const FileContent& content, Durability durability) {
  PendingFile(path, content).place(durability);
}

void write_atomically(const fs::path& path, std::string_view content, Durability durability) {
  write_atomically(
      path, [&](FileWriter& file) { file.write(content); }, durability);
}

void check_writable(const fs::path& named, std::uint64_t expected_bytes) {
  const std::string required = "a file that can be written: " + named.string();
  if (!named.has_filename()) throw_input_error(required, "no file name", "name a file");
  const fs::path path = through_links(named);
  const fs::path folder = folder_of(path);
  std::error_code code;
  const fs::file_status folder_status = fs::status(folder, code);
  if (folder_status.type() == fs::file_type::not_found)
    throw_input_error(required, "no folder " + folder.string(), "create the folder, or name another");
  if (!fs::status_known(folder_status))
    throw_failure(required, folder.string() + ": " + code.message(), "check the permissions of the folders above");
  if (fs::exists(folder_status) && !fs::is_directory(folder_status))
    throw_input_error(required, folder.string() + " is not a folder", "name another path");
  if (fs::is_directory(path, code)) throw_input_error(required, "a folder of that name", "name a file in it");
  require_replaceable(path);
  const auto longest = ::pathconf(folder.c_str(), _PC_NAME_MAX);
  const std::size_t added = 2 + kRandomCharacters + kTemporarySuffix.size();
  if (longest > 0 && path.filename().native().size() + added > static_cast<std::size_t>(longest))
    throw_input_error(required, "a name longer than the file system takes", "choose a shorter name");
  sweep_temporaries(path);
  fs::path temporary;
  open_temporary(path, path, temporary);
  ::unlink(temporary.c_str());

  const fs::space_info space = fs::space(folder, code);
  if (!code && space.available < expected_bytes)
    throw_failure(std::to_string(expected_bytes) + " bytes of free space for " + path.string(),
                  std::to_string(space.available) + " bytes free", "free some space, or write elsewhere");
}

}  // namespace halfstep
