// One process at a time: what is refused, and when it no longer is.
#include "base/file_lock.h"

#include <chrono>
#include <thread>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/temporary_directory.h"
#include <halfstep/base/error.h>

namespace halfstep {
namespace {

TEST(FileLock, IsHeldByOneForAsLongAsItLives) {
  TemporaryDirectory dir;
  write_text(dir / "file", "text");
  for (const std::filesystem::path& path : {dir.path(), dir / "file"}) {
    FileLock outer;
    {
      FileLock lock(path, "one at a time");
      EXPECT_EQ(error_of(Error::Kind::failure, [&] { FileLock(path, "one at a time"); }),
                "expected one at a time, got another process at work with it\nHint: wait for the other, or name "
                "another path");
      outer = std::move(lock);
    }
    EXPECT_THROW(FileLock(path, "one at a time"), Error);
    outer = FileLock();
    EXPECT_NO_THROW(FileLock(path, "one at a time"));
  }
  EXPECT_EQ(read_text(dir / "file"), "text");
}

TEST(FileLock, WaitsForAsLongAsItIsTold) {
  using namespace std::chrono_literals;
  TemporaryDirectory dir;
  FileLock outer(dir.path(), "one at a time");
  EXPECT_THROW(FileLock(dir.path(), "one at a time", 20ms), Error);
  std::thread other([&] {
    std::this_thread::sleep_for(20ms);
    outer = FileLock();
  });
  EXPECT_NO_THROW(FileLock(dir.path(), "one at a time", 60s));
  other.join();
}

TEST(FileLock, LetsAllHaveWhatIsNoFile) {
  TemporaryDirectory dir;
  for (const std::filesystem::path& path : {dir / "missing", std::filesystem::path("/dev/null")}) {
    const FileLock first(path, "one at a time");
    EXPECT_NO_THROW(FileLock(path, "one at a time")) << path;
  }
  EXPECT_FALSE(std::filesystem::exists(dir / "missing"));
}

}  // namespace
}  // namespace halfstep
