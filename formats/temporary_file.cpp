#include "formats/temporary_file.h"

#include <string>

#include <fcntl.h>
#include <fmt/format.h>
#include <stdlib.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include <halfstep/base/error.h>

namespace halfstep {
namespace {

constexpr std::size_t kBufferBytes = std::size_t{1} << 20;
constexpr std::size_t kCheckedBytes = std::size_t{64} << 20;  // between two checks of the free space
// Free space that a temporary file leaves on a disk for other programs.
constexpr std::uint64_t kLeftFree = std::uint64_t{64} << 20;

std::string folder() {
  const char* set = ::getenv("TMPDIR");
  return set && *set ? set : "/tmp";
}

void write(const Descriptor& file, const void* data, std::size_t bytes) {
  if (!write_fully(file.get(), data, bytes))
    throw_failure("room for temporary files", folder() + ": " + errno_text(), "set TMPDIR to a folder with more room");
}

}  // namespace

TemporaryFile::TemporaryFile() {
  std::string path = folder() + "/halfstep-XXXXXX";
  descriptor_ = Descriptor(::mkostemp(path.data(), O_CLOEXEC));
  if (!descriptor_)
    throw_failure("a folder for temporary files", folder() + ": " + errno_text(), "set TMPDIR to a writable folder");
  ::unlink(path.c_str());
  pending_.reserve(kBufferBytes);
}

void TemporaryFile::check_room(std::uint64_t bytes) const {
  struct statvfs disk {};
  if (::fstatvfs(descriptor_.get(), &disk) != 0) return;
  const std::uint64_t free = static_cast<std::uint64_t>(disk.f_bavail) * disk.f_frsize;
  if (bytes > free || free - bytes < kLeftFree)
    throw_failure(fmt::format("room for {} bytes of temporary files, and {} left free", bytes, kLeftFree),
                  fmt::format("{} bytes free in {}", free, folder()), "set TMPDIR to a folder with more room");
}

void TemporaryFile::append(const void* data, std::size_t bytes) {
  if (pending_.size() + bytes > kBufferBytes) flush();
  const auto* first = static_cast<const std::byte*>(data);
  size_ += bytes;
  if (bytes <= kBufferBytes)
    pending_.insert(pending_.end(), first, first + bytes);
  else
    write(descriptor_, data, bytes);
}

void TemporaryFile::flush() {
  if (size_ / kCheckedBytes != (size_ - pending_.size()) / kCheckedBytes) check_room(kCheckedBytes);
  write(descriptor_, pending_.data(), pending_.size());
  pending_.clear();
}

SharedBytes TemporaryFile::finish() {
  flush();
  return SharedBytes::of_descriptor(descriptor_.get(), size_);
}

}  // namespace halfstep
