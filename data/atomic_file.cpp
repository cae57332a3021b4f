#include "data/atomic_file.h"

#include <atomic>
#include <cstdio>
#include <string>
#include <utility>

#include <fcntl.h>
#include <fmt/format.h>
#include <unistd.h>

#include "data/posix.h"
#include "graph/error.h"

namespace halfstep {
namespace {

[[noreturn]] void throw_unwritable(const std::filesystem::path& path) {
  throw_failure("a file that can be written", path.string() + ": " + errno_text(),
                "check the folder's permissions and the room on its disk");
}

std::filesystem::path folder_of(const std::filesystem::path& path) {
  return path.has_parent_path() ? path.parent_path() : std::filesystem::path(".");
}

/// A new file beside `destination`; -1 with `errno` set when there can be none. Its permissions follow the umask.
int create_beside(const std::filesystem::path& destination, std::filesystem::path& created) {
  static std::atomic<unsigned> counter{0};
  int descriptor;
  do {
    created = destination;
    created += fmt::format(".{}-{}.tmp", ::getpid(), counter++);
    descriptor = ::open(created.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
  } while (descriptor < 0 && errno == EEXIST);
  return descriptor;
}

}  // namespace

AtomicFile::AtomicFile(std::filesystem::path destination) : destination_(std::move(destination)) {
  std::error_code ignored;
  if (std::filesystem::is_symlink(destination_, ignored)) {  // the link stays, and its target is replaced
    const std::filesystem::path target = std::filesystem::weakly_canonical(destination_, ignored);
    if (!ignored) destination_ = target;
  }
  const auto status = std::filesystem::status(destination_, ignored);
  if (std::filesystem::exists(status) && !std::filesystem::is_regular_file(status))
    throw_failure("a regular file to write, or a new one", destination_.string() + " is something else",
                  "choose another path");
  descriptor_ = create_beside(destination_, temporary_);
  if (descriptor_ < 0) throw_unwritable(destination_);
}

AtomicFile::~AtomicFile() {
  if (descriptor_ < 0) return;
  ::close(descriptor_);
  ::unlink(temporary_.c_str());
}

void AtomicFile::write(const void* data, std::size_t bytes) {
  if (!write_fully(descriptor_, data, bytes)) throw_unwritable(destination_);
  size_ += bytes;
}

void AtomicFile::commit() {
  if (::fsync(descriptor_) != 0) throw_unwritable(destination_);
  if (std::rename(temporary_.c_str(), destination_.c_str()) != 0) throw_unwritable(destination_);
  ::close(std::exchange(descriptor_, -1));
  // The rename itself is durable once the folder is. Some file systems cannot sync folders; the file is whole anyway.
  const int folder = ::open(folder_of(destination_).c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (folder < 0) return;
  ::fsync(folder);
  ::close(folder);
}

}  // namespace halfstep
