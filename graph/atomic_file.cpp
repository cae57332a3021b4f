#include "graph/atomic_file.h"

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <string>
#include <system_error>
#include <utility>

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "graph/error.h"

namespace halfstep {
namespace {

namespace fs = std::filesystem;

constexpr std::size_t kBufferBytes = std::size_t{1} << 18;

std::string reason(int code) { return std::generic_category().message(code); }

[[noreturn]] void throw_unwritable(const fs::path& path, int code) {
  throw_failure("a file that can be written: " + path.string(), reason(code),
                code == ENOSPC || code == EDQUOT || code == EFBIG ? "free some space, or write elsewhere"
                                                                  : "check the path and its permissions");
}

/// Open descriptor, closed on every way out.
class Descriptor {
 public:
  explicit Descriptor(int fd = -1) : fd_(fd) {}
  ~Descriptor() {
    if (fd_ >= 0) ::close(fd_);
  }
  Descriptor(Descriptor&& other) noexcept : fd_(std::exchange(other.fd_, -1)) {}
  Descriptor& operator=(Descriptor&& other) noexcept {
    std::swap(fd_, other.fd_);
    return *this;
  }
  int get() const { return fd_; }
  explicit operator bool() const { return fd_ >= 0; }
  int close() { return ::close(std::exchange(fd_, -1)); }

 private:
  int fd_;
};

fs::path folder_of(const fs::path& path) { return path.has_parent_path() ? path.parent_path() : fs::path("."); }

fs::path sibling(const fs::path& path, const char* suffix) {
  return folder_of(path) / fs::path(".").concat(path.filename().native()).concat(suffix);
}

/// A device, pipe or socket, through symbolic links (/dev/stdout).
bool is_stream(const fs::path& path) {
  struct stat status;
  return ::stat(path.c_str(), &status) == 0 && !S_ISREG(status.st_mode) && !S_ISDIR(status.st_mode);
}

/// The temporary file, locked and empty. The lock tells a leftover of a killed process from a file being written.
Descriptor open_temporary(const fs::path& temporary, const fs::path& path) {
  for (;;) {
    Descriptor file(::open(temporary.c_str(), O_WRONLY | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0666));
    if (!file) throw_unwritable(path, errno);
    if (::flock(file.get(), LOCK_EX | LOCK_NB) != 0 && errno == EWOULDBLOCK)
      throw_failure("one writer at a time for " + path.string(), "another process is writing it",
                    "wait for it, or write elsewhere");
    // The writer that held the lock may have renamed this very file into place: then it is not ours to touch.
    struct stat opened, named;
    if (::fstat(file.get(), &opened) != 0) throw_unwritable(path, errno);
    if (::lstat(temporary.c_str(), &named) != 0 || opened.st_ino != named.st_ino || opened.st_dev != named.st_dev)
      continue;
    if (::ftruncate(file.get(), 0) != 0) throw_unwritable(path, errno);
    return file;
  }
}

void sync_folder(const fs::path& folder) {
  // Some file systems cannot sync a folder; the rename has happened all the same.
  Descriptor descriptor(::open(folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (descriptor) ::fsync(descriptor.get());
}

/// Renames `from` to `path`, keeping what stood there as `previous` (unless empty).
void move_into_place(const fs::path& from, const fs::path& path, const fs::path& previous, Durability durability) {
  // A second name for the old file first, so that the previous good file goes only when the new one is in place.
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

void write_stream(const fs::path& path, const FileContent& content) {
  Descriptor file(::open(path.c_str(), O_WRONLY | O_CLOEXEC));
  if (!file) throw_unwritable(path, errno);
  FileWriter writer(file.get(), path);
  content(writer);
  writer.flush();
  if (file.close() != 0) throw_unwritable(path, errno);
}

void write_file(const fs::path& path, const FileContent& content, const fs::path& previous, Durability durability) {
  if (is_stream(path)) return write_stream(path, content);
  const fs::path temporary = sibling(path, ".tmp");
  Descriptor file = open_temporary(temporary, path);
  try {
    struct stat old;
    if (::lstat(path.c_str(), &old) == 0 && S_ISREG(old.st_mode)) ::fchmod(file.get(), old.st_mode & 07777);
    FileWriter writer(file.get(), path);
    content(writer);
    writer.flush();
    if (::fsync(file.get()) != 0) throw_unwritable(path, errno);
    move_into_place(temporary, path, previous, durability);
  } catch (...) {
    ::unlink(temporary.c_str());
    throw;
  }
  if (file.close() != 0) throw_unwritable(path, errno);
}

}  // namespace

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

void FileWriter::write_through(const std::byte* data, std::size_t bytes) {
  while (bytes > 0) {
    const ssize_t written = ::write(descriptor_, data, bytes);
    if (written < 0 && errno == EINTR) continue;
    if (written < 0) throw_unwritable(path_, errno);
    data += written;
    bytes -= static_cast<std::size_t>(written);
  }
}

void write_atomically(const fs::path& path, const FileContent& content, const fs::path& previous) {
  write_file(path, content, previous, Durability::on_return);
}

void write_atomically(const fs::path& path, const FileContent& content, Durability durability) {
  write_file(path, content, {}, durability);
}

void write_atomically(const fs::path& path, std::string_view content, Durability durability) {
  write_atomically(
      path, [&](FileWriter& file) { file.write(content); }, durability);
}

void check_writable(const fs::path& path, std::uint64_t expected_bytes) {
  const std::string required = "a file that can be written: " + path.string();
  if (!path.has_filename()) throw_input_error(required, "no file name", "name a file");
  const fs::path folder = folder_of(path);
  std::error_code code;
  const fs::file_status folder_status = fs::status(folder, code);
  if (folder_status.type() == fs::file_type::not_found)
    throw_input_error(required, "no folder " + folder.string(), "create the folder, or name another");
  if (fs::exists(folder_status) && !fs::is_directory(folder_status))
    throw_input_error(required, folder.string() + " is not a folder", "name another path");
  if (fs::is_directory(path, code)) throw_input_error(required, "a folder of that name", "name a file in it");
  if (is_stream(path)) {
    if (::access(path.c_str(), W_OK) != 0) throw_unwritable(path, errno);
    return;
  }

  const fs::path temporary = sibling(path, ".tmp");
  const auto longest = ::pathconf(folder.c_str(), _PC_NAME_MAX);
  if (longest > 0 && temporary.filename().native().size() > static_cast<std::size_t>(longest))
    throw_input_error(required, "a name longer than the file system takes", "choose a shorter name");
  open_temporary(temporary, path);
  ::unlink(temporary.c_str());

  const fs::space_info space = fs::space(folder, code);
  if (!code && space.available < expected_bytes)
    throw_failure(std::to_string(expected_bytes) + " bytes of free space for " + path.string(),
                  std::to_string(space.available) + " bytes free", "free some space, or write elsewhere");
}

}  // namespace halfstep
