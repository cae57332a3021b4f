#include "data/atomic_file.h"

#include <gmock/gmock.h>

#include "tests/data/temporary_folder.h"

namespace halfstep {
namespace {

using ::testing::HasSubstr;
using testing::TemporaryFolder;

TEST(AtomicFile, AppearsWholeOnCommit) {
  TemporaryFolder folder;
  AtomicFile file(folder / "out");
  file.write("abc", 3);
  file.write("def", 3);
  EXPECT_EQ(file.size(), 6u);
  EXPECT_FALSE(std::filesystem::exists(folder / "out"));
  file.commit();
  EXPECT_EQ(testing::read_file(folder / "out"), "abcdef");
  EXPECT_EQ(folder.files(), 1u);
}

TEST(AtomicFile, WithoutCommitTheOldFileStays) {
  TemporaryFolder folder;
  folder.write("out", "old");
  {
    AtomicFile file(folder / "out");
    file.write("new", 3);
  }
  EXPECT_EQ(testing::read_file(folder / "out"), "old");
  EXPECT_EQ(folder.files(), 1u);
}

TEST(AtomicFile, KeepsASymbolicLink) {
  TemporaryFolder folder;
  folder.write("target", "old");
  std::filesystem::create_symlink(folder / "target", folder / "link");
  AtomicFile file(folder / "link");
  file.write("new", 3);
  file.commit();
  EXPECT_TRUE(std::filesystem::is_symlink(folder / "link"));
  EXPECT_EQ(testing::read_file(folder / "target"), "new");
}

TEST(AtomicFile, UnwritableDestinationsAreToldAtOnce) {
  TemporaryFolder folder;
  EXPECT_THAT(testing::error_of([&] { AtomicFile(folder / "missing" / "out"); }), HasSubstr("No such file"));
  EXPECT_THAT(testing::error_of([&] { AtomicFile file(folder.path()); }), HasSubstr("something else"));
  EXPECT_THAT(testing::error_of([&] { AtomicFile file("/dev/null"); }), HasSubstr("/dev/null is something else"));
}

}  // namespace
}  // namespace halfstep
