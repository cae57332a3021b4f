#include "data/temporary_file.h"

#include <string>

#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>

#include "data/posix.h"
#include "graph/error.h"

namespace halfstep {
namespace {

constexpr std::size_t kBufferBytes = std::size_t{1} << 20;

std::string folder() {
  const char* set = ::getenv("TMPDIR");
  return set && *set ? set : "/tmp";
}

}  // namespace

TemporaryFile::TemporaryFile() {
  std::string path = folder() + "/halfstep-XXXXXX";
  descriptor_ = ::mkostemp(path.data(), O_CLOEXEC);
  if (descriptor_ < 0)
    throw_failure("a folder for temporary files", folder() + ": " + errno_text(), "set TMPDIR to a writable folder");
  ::unlink(path.c_str());
  pending_.reserve(kBufferBytes);
}

TemporaryFile::~TemporaryFile() { ::close(descriptor_); }

void TemporaryFile::append(const void* data, std::size_t bytes) {
  if (pending_.size() + bytes > kBufferBytes) flush();
  const auto* first = static_cast<const std::byte*>(data);
  size_ += bytes;
  if (bytes <= kBufferBytes) {
    pending_.insert(pending_.end(), first, first + bytes);
  } else if (!write_fully(descriptor_, data, bytes)) {
    throw_failure("room for temporary files", folder() + ": " + errno_text(), "set TMPDIR to a folder with more room");
  }
}

void TemporaryFile::flush() {
  if (!write_fully(descriptor_, pending_.data(), pending_.size()))
    throw_failure("room for temporary files", folder() + ": " + errno_text(), "set TMPDIR to a folder with more room");
  pending_.clear();
}

SharedBytes TemporaryFile::finish() {
  flush();
  return SharedBytes::of_descriptor(descriptor_, size_);
}

}  // namespace halfstep
