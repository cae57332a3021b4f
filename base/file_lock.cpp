#include "base/file_lock.h"

#include <cerrno>
#include <thread>
#include <utility>

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>

#include <halfstep/base/error.h>

namespace halfstep {

FileLock::FileLock(const std::filesystem::path& path, const std::string& required, std::chrono::milliseconds patience) {
  using Clock = std::chrono::steady_clock;
  struct stat status;
  if (::stat(path.c_str(), &status) != 0 || (!S_ISREG(status.st_mode) && !S_ISDIR(status.st_mode))) return;
  Descriptor file(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
  if (!file) return;
  bool is_taken = false;
  for (const auto end = Clock::now() + patience;; std::this_thread::sleep_for(std::chrono::milliseconds(2))) {
    if (::flock(file.get(), LOCK_EX | LOCK_NB) == 0) {
      file_ = std::move(file);
      return;
    }
    is_taken = errno == EWOULDBLOCK;
    if (!is_taken || Clock::now() >= end) break;
  }
  if (is_taken) throw_failure(required, "another process at work with it", "wait for the other, or name another path");
}

}  // namespace halfstep
