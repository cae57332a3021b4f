#include "base/atomic_file.h"

#include <stdexcept>

#include <fcntl.h>
#include <gmock/gmock.h>
#include <signal.h>
#include <sys/file.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/temporary_directory.h"

namespace halfstep {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::UnorderedElementsAre;

constexpr auto kInput = Error::Kind::input;
constexpr auto kFailure = Error::Kind::failure;

TEST(AtomicFile, WritesSmallAndLargeContent) {
  TemporaryDirectory dir;
  for (const std::size_t bytes : {0, 1, 1000, 262144, 262145, 3000000}) {
    std::string content(bytes, '\0');
    for (std::size_t i = 0; i < bytes; ++i) content[i] = static_cast<char>(i * 7919 >> 3);
    write_atomically(dir / "whole", content);
    EXPECT_EQ(read_text(dir / "whole"), content);
    write_atomically(dir / "pieces", [&](FileWriter& file) {
      for (std::size_t at = 0; at < bytes; at += 99991) file.write(content.substr(at, 99991));
      EXPECT_EQ(file.position(), bytes);
    });
    EXPECT_EQ(read_text(dir / "pieces"), content);
    write_atomically(dir / "soon", content, Durability::soon);
    EXPECT_EQ(read_text(dir / "soon"), content);
  }
  EXPECT_THAT(dir.names(), UnorderedElementsAre("whole", "pieces", "soon"));
}

TEST(AtomicFile, LeavesTheOldFileWhenTheContentThrows) {
  TemporaryDirectory dir;
  write_atomically(dir / "f", "old");
  EXPECT_THROW(write_atomically(dir / "f",
                                [](FileWriter& file) {
                                  file.write("new");
                                  throw std::runtime_error("halfway");
                                }),
               std::runtime_error);
  EXPECT_EQ(read_text(dir / "f"), "old");
  EXPECT_THAT(dir.names(), ElementsAre("f"));
}

TEST(AtomicFile, LeavesTheOldFileWhenTheDiskRefuses) {
  TemporaryDirectory dir;
  write_atomically(dir / "f", "old");
  const pid_t child = ::fork();
  if (child == 0) {
    ::signal(SIGXFSZ, SIG_IGN);
    const rlimit limit{100000, 100000};
    ::setrlimit(RLIMIT_FSIZE, &limit);
    try {
      write_atomically(dir / "f", std::string(1000000, 'x'));
    } catch (const Error& e) {
      ::_exit(e.kind() == kFailure ? 42 : 43);
    }
    ::_exit(44);
  }
  int status = 0;
  ASSERT_EQ(::waitpid(child, &status, 0), child);
  ASSERT_TRUE(WIFEXITED(status));
  EXPECT_EQ(WEXITSTATUS(status), 42);
  EXPECT_EQ(read_text(dir / "f"), "old");
  EXPECT_THAT(dir.names(), ElementsAre("f"));
}

TEST(AtomicFile, RefusesWhatIsNoRegularFile) {
  TemporaryDirectory dir;
  ASSERT_EQ(::mkfifo((dir / "pipe").c_str(), 0600), 0);
  std::filesystem::create_symlink("/proc/self/fd/1", dir / "stdout");
  int ends[2] = {-1, -1};
  ASSERT_EQ(::pipe(ends), 0);
  const std::filesystem::path open_pipe = "/dev/fd/" + std::to_string(ends[1]);
  const std::filesystem::path cases[] = {"/dev/full", "/dev/null", dir / "pipe", dir / "stdout", open_pipe};
  for (const std::filesystem::path& path : cases) {
    EXPECT_THAT(error_of(kInput, [&] { write_atomically(path, "text"); }), HasSubstr("regular file")) << path;
    EXPECT_THAT(error_of(kInput, [&] { check_writable(path); }), HasSubstr("regular file")) << path;
  }
  struct stat status;
  ASSERT_EQ(::stat("/dev/null", &status), 0);
  EXPECT_TRUE(S_ISCHR(status.st_mode));
  EXPECT_THAT(dir.names(), UnorderedElementsAre("pipe", "stdout"));
  for (const int end : ends) ::close(end);
}

// A name that can be foreseen is one that somebody else may have put something at.
TEST(AtomicFile, IsNotMisledByWhatWasPlantedBesideIt) {
  TemporaryDirectory dir;
  write_text(dir / "secret", "untouched");
  ASSERT_EQ(::mkfifo((dir / ".f.tmp").c_str(), 0600), 0);
  ASSERT_EQ(::mkfifo((dir / ".f.abcdef.tmp").c_str(), 0600), 0);
  std::filesystem::create_hard_link(dir / "secret", dir / ".g.tmp");
  std::filesystem::create_hard_link(dir / "secret", dir / ".g.abcdef.tmp");
  std::filesystem::create_symlink("secret", dir / ".g.abcdeg.tmp");
  write_atomically(dir / "f", "new");
  write_atomically(dir / "g", "new");
  EXPECT_EQ(read_text(dir / "f"), "new");
  EXPECT_EQ(read_text(dir / "g"), "new");
  EXPECT_EQ(read_text(dir / "secret"), "untouched");
}

TEST(AtomicFile, RemovesTheLeftoverOfAKilledWriter) {
  TemporaryDirectory dir;
  const pid_t child = ::fork();
  if (child == 0) {
    write_atomically(dir / "f", [](FileWriter& file) {
      file.write(std::string(1000, 'x'));
      file.flush();
      ::raise(SIGKILL);
    });
  }
  int status = 0;
  ASSERT_EQ(::waitpid(child, &status, 0), child);
  ASSERT_TRUE(WIFSIGNALED(status));
  EXPECT_THAT(dir.names(), ElementsAre(testing::MatchesRegex("[.]f[.]......[.]tmp")));
  write_atomically(dir / "f", "new");
  EXPECT_EQ(read_text(dir / "f"), "new");
  EXPECT_THAT(dir.names(), ElementsAre("f"));
}

TEST(AtomicFile, RefusesASecondWriterAtTheSameTime) {
  TemporaryDirectory dir;
  write_atomically(dir / "f", [&](FileWriter& file) {
    file.write("first");
    EXPECT_THAT(error_of(kFailure, [&] { write_atomically(dir / "f", "second"); }), HasSubstr("another process"));
  });
  EXPECT_EQ(read_text(dir / "f"), "first");
}

TEST(AtomicFile, ReplacesWhatALinkLeadsTo) {
  TemporaryDirectory dir;
  std::filesystem::create_directory(dir / "folder");
  std::filesystem::create_symlink("../last", dir / "folder" / "middle");
  std::filesystem::create_symlink(dir / "folder" / "middle", dir / "link");
  for (const char* text : {"new", "newer"}) {
    check_writable(dir / "link");
    write_atomically(dir / "link", text);
    EXPECT_EQ(read_text(dir / "last"), text);
    EXPECT_THAT(dir.names(), UnorderedElementsAre("folder", "last", "link"));
    EXPECT_TRUE(std::filesystem::is_symlink(dir / "link"));
    EXPECT_TRUE(std::filesystem::is_symlink(dir / "folder" / "middle"));
  }
  std::filesystem::create_symlink("circle", dir / "circle");
  EXPECT_THAT(error_of(kFailure, [&] { write_atomically(dir / "circle", "text"); }), HasSubstr("symbolic links"));
}

TEST(AtomicFile, ReplacesALinkWhereTheOldFileIsKept) {
  TemporaryDirectory dir;
  write_text(dir / "target", "untouched");
  std::filesystem::create_symlink("target", dir / "link");
  write_atomically(
      dir / "link", [](FileWriter& file) { file.write("new"); }, dir / "previous");
  EXPECT_EQ(read_text(dir / "target"), "untouched");
  EXPECT_EQ(read_text(dir / "link"), "new");
  EXPECT_FALSE(std::filesystem::is_symlink(dir / "link"));
}

TEST(AtomicFile, KeepsThePermissionsOfTheOldFile) {
  TemporaryDirectory dir;
  const auto bits = [&](const char* name) {
    struct stat status;
    return ::stat((dir / name).c_str(), &status) == 0 ? status.st_mode & 07777 : 0u;
  };
  const struct {
    mode_t before, after;
  } cases[] = {{0640, 0640}, {0600, 0600}, {0666, 0666}, {0620, 0620}, {04755, 0755}, {02750, 0750}, {01644, 0644}};
  for (const auto& c : cases) {
    write_text(dir / "f", "old");
    ASSERT_EQ(::chmod((dir / "f").c_str(), c.before), 0);
    write_atomically(dir / "f", [&](FileWriter& file) {
      file.write("new");
      for (const std::string& name : dir.names())
        EXPECT_EQ(bits(name.c_str()), name.ends_with(".tmp") ? c.after : c.before) << "while it is written";
    });
    EXPECT_EQ(bits("f"), c.after);
    std::filesystem::remove(dir / "f");
  }
  const mode_t before = ::umask(027);
  write_atomically(dir / "anew", "new");
  ::umask(before);
  EXPECT_EQ(bits("anew"), 0640u);
}

TEST(AtomicFile, AReadOnlyFileIsKept) {
  TemporaryDirectory dir;
  write_text(dir / "f", "old");
  std::filesystem::create_symlink("f", dir / "link");
  ASSERT_EQ(::chmod((dir / "f").c_str(), 0444), 0);
  for (const char* name : {"f", "link"}) {
    EXPECT_THAT(error_of(kFailure, [&] { check_writable(dir / name); }), HasSubstr("a read-only file of that name"));
    EXPECT_THAT(error_of(kFailure, [&] { write_atomically(dir / name, "new"); }), HasSubstr("chmod u+w"));
  }
  EXPECT_EQ(read_text(dir / "f"), "old");
  EXPECT_THAT(dir.names(), testing::UnorderedElementsAre("f", "link"));
}

TEST(AtomicFile, AFolderThatTakesNoFilesIsNamed) {
  EXPECT_THAT(error_of(kFailure, [] { check_writable("/proc/x"); }), HasSubstr("a folder that takes no files: /proc"));
  EXPECT_THAT(error_of(kFailure, [] { write_atomically("/proc/no/x", "text"); }), HasSubstr("no folder /proc/no"));
}

TEST(AtomicFile, TakesThePermissionsOfAnotherFileWhenAsked) {
  TemporaryDirectory dir;
  write_text(dir / "model", "old");
  ASSERT_EQ(::chmod((dir / "model").c_str(), 0600), 0);
  PendingFile pending(
      dir / "data", [](FileWriter& file) { file.write("new"); }, dir / "model");
  EXPECT_FALSE(std::filesystem::exists(dir / "data"));
  pending.place();
  struct stat status;
  ASSERT_EQ(::stat((dir / "data").c_str(), &status), 0);
  EXPECT_EQ(status.st_mode & 07777, 0600u);
}

TEST(AtomicFile, WhatIsNotPlacedLeavesNothing) {
  TemporaryDirectory dir;
  {
    PendingFile pending(dir / "f", [](FileWriter& file) { file.write("new"); });
  }
  EXPECT_THAT(dir.names(), ElementsAre());
}

TEST(AtomicFile, KeepsTheFileBefore) {
  TemporaryDirectory dir;
  const auto write = [&](std::string text) {
    write_atomically(
        dir / "f", [&](FileWriter& file) { file.write(text); }, dir / "before");
  };
  write("1");
  EXPECT_THAT(dir.names(), ElementsAre("f"));
  write("2");
  EXPECT_EQ(read_text(dir / "before"), "1");
  write_text(dir / ".f.old", "left by a killed process");
  write("3");
  EXPECT_EQ(read_text(dir / "before"), "2");
  EXPECT_EQ(read_text(dir / "f"), "3");
  EXPECT_THAT(dir.names(), UnorderedElementsAre("f", "before"));
}

TEST(AtomicFile, RefusesPathsThatCannotBeFiles) {
  TemporaryDirectory dir;
  write_text(dir / "file", "");
  struct Case {
    std::filesystem::path path;
    const char* text;
  };
  const Case cases[] = {
      {"/dev/null/x", "not a folder"},         {dir / "file/x", "not a folder"},
      {dir / "missing/x", "no folder"},        {dir.path(), "folder of that name"},
      {dir.path() / "", "no file name"},       {dir / std::string(300, 'x'), "longer"},
      {dir / std::string(252, 'x'), "longer"}, {"", "no file name"},
  };
  for (const Case& c : cases) {
    EXPECT_THAT(error_of(kInput, [&] { check_writable(c.path); }), HasSubstr(c.text)) << c.path;
    EXPECT_THROW(write_atomically(c.path, "text"), Error) << c.path;
  }
  EXPECT_THAT(dir.names(), ElementsAre("file"));
}

TEST(AtomicFile, CheckingLeavesNothingBehind) {
  TemporaryDirectory dir;
  check_writable(dir / "f", 1000);
  EXPECT_THAT(dir.names(), ElementsAre());
  write_text(dir / "f", "old");
  check_writable(dir / "f");
  EXPECT_EQ(read_text(dir / "f"), "old");
}

TEST(AtomicFile, CheckingFindsADiskThatIsTooSmall) {
  TemporaryDirectory dir;
  EXPECT_THAT(error_of(kFailure, [&] { check_writable(dir / "f", std::uint64_t{1} << 62); }), HasSubstr("free space"));
}

}  // namespace
}  // namespace halfstep
