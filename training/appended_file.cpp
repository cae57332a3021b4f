#include "training/appended_file.h"

#include <cerrno>
#include <exception>
#include <system_error>
#include <utility>

#include <fcntl.h>
#include <fmt/format.h>
#include <unistd.h>

#include <halfstep/base/error.h>

namespace halfstep {
namespace {

constexpr std::size_t kBufferBytes = std::size_t{1} << 16;
constexpr std::chrono::seconds kFlushInterval(1);

}  // namespace

void throw_unwritable(std::string_view what, const std::filesystem::path& path, int code) {
  throw_failure(fmt::format("{} that can be written: {}", what, path.string()), std::generic_category().message(code),
                "free some space, or check the path and its permissions");
}

AppendedFile::AppendedFile(std::string what, std::filesystem::path path, int flags)
    : what_(std::move(what)), path_(std::move(path)), last_flush_(std::chrono::steady_clock::now()) {
  // O_NONBLOCK: a pipe that nobody reads must not be waited for; once it is open, writing may wait.
  descriptor_ = ::open(path_.c_str(), O_WRONLY | O_CREAT | O_CLOEXEC | O_NONBLOCK | flags, 0666);
  if (descriptor_ < 0) throw_unwritable(errno);
  ::fcntl(descriptor_, F_SETFL, ::fcntl(descriptor_, F_GETFL) & ~O_NONBLOCK);
  buffer_.reserve(kBufferBytes);
}

AppendedFile::~AppendedFile() {
  try {
    close();
  } catch (const std::exception&) {  // an Error, or no memory to make one
  }
}

void AppendedFile::append(std::string_view record) {
  if (buffer_.size() < kMostKept)
    buffer_ += record;
  else
    ++dropped_;
  const bool late = std::chrono::steady_clock::now() - last_flush_ >= kFlushInterval;
  if (late || (buffer_.size() >= kBufferBytes * 3 / 4 && buffer_.size() < kBufferBytes)) flush();
}

void AppendedFile::flush() {
  last_flush_ = std::chrono::steady_clock::now();
  std::size_t done = 0;
  while (done < buffer_.size()) {
    const ssize_t written = ::write(descriptor_, buffer_.data() + done, buffer_.size() - done);
    if (written < 0 && errno == EINTR) continue;
    if (written < 0) {
      const int code = errno;
      buffer_.erase(0, done);
      throw_unwritable(code);
    }
    done += static_cast<std::size_t>(written);
  }
  buffer_.clear();
}

void AppendedFile::close() {
  if (descriptor_ < 0) return;
  try {
    flush();
  } catch (...) {
    ::close(std::exchange(descriptor_, -1));
    throw;
  }
  if (::close(std::exchange(descriptor_, -1)) != 0) throw_unwritable(errno);
  if (dropped_ > 0)
    throw_failure(fmt::format("{} of every step: {}", what_, path_.string()),
                  fmt::format("{} steps without a record: the file could not be written for too long", dropped_), "");
}

void AppendedFile::throw_unwritable(int code) const { halfstep::throw_unwritable(what_, path_, code); }

}  // namespace halfstep
