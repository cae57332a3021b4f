#include "base/mapped_file.h"

#include <csignal>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <string>
#include <vector>

#include <fcntl.h>
#include <gmock/gmock.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/temporary_directory.h"

namespace halfstep {
namespace {

constexpr std::size_t kBytes = 1 << 20;

std::unique_ptr<MappedFile> map(const std::filesystem::path& path) {
  const int descriptor = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
  auto mapped = std::make_unique<MappedFile>(descriptor, std::filesystem::file_size(path));
  ::close(descriptor);
  return mapped;
}

std::size_t count_of(const MappedFile& file, char wanted) {
  std::size_t count = 0;
  for (std::size_t i = 0; i < file.size(); ++i) count += file.data()[i] == std::byte(wanted);
  return count;
}

TEST(MappedFile, BytesThatTheFileLosesReadAsZerosAndAreTold) {
  TemporaryDirectory dir;
  for (const std::size_t left : {std::size_t{0}, std::size_t{1}, std::size_t{5000}, kBytes / 2, kBytes - 1}) {
    write_text(dir / "f", std::string(kBytes, 'x'));
    const auto file = map(dir / "f");
    EXPECT_EQ(count_of(*file, 'x'), kBytes);
    EXPECT_EQ(file->intact(), kBytes);
    std::filesystem::resize_file(dir / "f", left);
    EXPECT_EQ(file->intact(), left) << "before a byte is read";
    EXPECT_EQ(count_of(*file, 'x'), left);
    EXPECT_EQ(file->intact(), left);
    file->drop_pages();
    EXPECT_EQ(count_of(*file, 'x'), left);
  }
}

TEST(MappedFile, WhatWasReadWhileItWasLostStaysUntrue) {
  TemporaryDirectory dir;
  write_text(dir / "f", std::string(kBytes, 'x'));
  const auto file = map(dir / "f");
  std::filesystem::resize_file(dir / "f", 8192);
  EXPECT_EQ(count_of(*file, 'x'), 8192u);
  std::filesystem::resize_file(dir / "f", kBytes);
  EXPECT_EQ(file->intact(), 8192u);
}

TEST(MappedFile, OneAmongManyIsTold) {
  TemporaryDirectory dir;
  std::vector<std::unique_ptr<MappedFile>> files;
  for (int i = 0; i < 40; ++i) {
    write_text(dir / std::to_string(i), std::string(20000, 'x'));
    files.push_back(map(dir / std::to_string(i)));
  }
  files.erase(files.begin() + 3, files.begin() + 9);
  write_text(dir / "again", std::string(20000, 'x'));
  files.push_back(map(dir / "again"));
  std::filesystem::resize_file(dir / "20", 100);
  std::size_t lost = 0;
  for (const auto& file : files) {
    count_of(*file, 'x');
    lost += file->intact() < file->size();
  }
  EXPECT_EQ(lost, 1u);
}

// A fault elsewhere goes to whoever would have had it: here nobody, so that it ends the process.
TEST(MappedFile, FaultsElsewhereArePassedOn) {
  TemporaryDirectory dir;
  write_text(dir / "f", std::string(kBytes, 'x'));
  const pid_t child = ::fork();
  if (child == 0) {
    const auto file = map(dir / "f");
    const int descriptor = ::open((dir / "f").c_str(), O_RDONLY);
    const auto* other =
        static_cast<const volatile char*>(::mmap(nullptr, kBytes, PROT_READ, MAP_PRIVATE, descriptor, 0));
    std::filesystem::resize_file(dir / "f", 0);
    ::_exit(other[0] + count_of(*file, 'x') == 0 ? 1 : 2);
  }
  int status = 0;
  ASSERT_EQ(::waitpid(child, &status, 0), child);
  ASSERT_TRUE(WIFSIGNALED(status));
  EXPECT_EQ(WTERMSIG(status), SIGBUS);
}

}  // namespace
}  // namespace halfstep
