// Event files, read back by what TFRecord files and TensorFlow's event.proto say of them.
#include "training/tensorboard.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <span>
#include <string>
#include <vector>

#include <gmock/gmock.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/temporary_directory.h"
#include "training/crc32c.h"
#include "training/event.pb.h"
#include <halfstep/base/error.h>

namespace halfstep {
namespace {

namespace fs = std::filesystem;
using events::Event;
using testing::ElementsAre;
using testing::HasSubstr;

// RFC 3720, B.4.
TEST(Crc32c, HasThePublishedValues) {
  EXPECT_EQ(crc32c(std::string(32, '\0')), 0x8a9136aaU);
  EXPECT_EQ(crc32c(std::string(32, '\xff')), 0x62a8ab43U);
  EXPECT_EQ(crc32c("123456789"), 0xe3069283U);
}

std::string bytes_of(const fs::path& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), {}};
}

/// The whole records of a file; what follows the last of them may be a part of one.
std::vector<Event> read(const fs::path& path) {
  const std::string bytes = bytes_of(path);
  std::vector<Event> events;
  for (std::size_t at = 0; at + 12 <= bytes.size();) {
    std::uint64_t length = 0;
    std::uint32_t length_crc = 0, crc = 0;
    std::memcpy(&length, &bytes[at], 8);
    std::memcpy(&length_crc, &bytes[at + 8], 4);
    EXPECT_EQ(length_crc, masked_crc32c(std::string_view(bytes).substr(at, 8)));
    if (at + 16 + length > bytes.size()) break;
    const std::string_view content = std::string_view(bytes).substr(at + 12, length);
    std::memcpy(&crc, &bytes[at + 12 + length], 4);
    EXPECT_EQ(crc, masked_crc32c(content));
    EXPECT_TRUE(events.emplace_back().ParseFromArray(content.data(), static_cast<int>(content.size())));
    at += 16 + length;
  }
  return events;
}

std::vector<fs::path> files_of(const TemporaryDirectory& dir) {
  std::vector<fs::path> files;
  for (const std::string& name : dir.names()) files.push_back(dir / name);
  std::sort(files.begin(), files.end());
  return files;
}

TEST(EventWriter, WritesScalars) {
  TemporaryDirectory dir;
  EventWriter writer(dir.path());
  EXPECT_THAT(writer.path().filename().string(), testing::StartsWith("events.out.tfevents."));
  const NamedValue values[] = {{"loss", 0.25}, {"accuracy", NAN}};
  writer.scalars(7, "train", values);
  writer.scalars(8, "train", std::span(values).first(1));
  writer.close();
  const std::vector<Event> events = read(writer.path());
  ASSERT_EQ(events.size(), 3U);
  EXPECT_EQ(events[0].file_version(), "brain.Event:2");
  EXPECT_GT(events[0].wall_time(), 1.6e9);
  EXPECT_EQ(events[1].step(), 7);
  ASSERT_EQ(events[1].summary().value_size(), 2);
  EXPECT_EQ(events[1].summary().value(0).tag(), "train/loss");
  EXPECT_EQ(events[1].summary().value(0).simple_value(), 0.25F);
  EXPECT_EQ(events[1].summary().value(1).tag(), "train/accuracy");
  EXPECT_TRUE(std::isnan(events[1].summary().value(1).simple_value()));
  EXPECT_EQ(events[2].step(), 8);
  EXPECT_EQ(events[2].summary().value_size(), 1);
}

TEST(EventWriter, WritesHistograms) {
  TemporaryDirectory dir;
  EventWriter writer(dir.path());
  writer.histogram(1, "w", Tensor::of<float>({-1, 0, 0.5F, 1, NAN, INFINITY}, {6}));
  writer.histogram(2, "same", Tensor::of<float>({3, 3}, {2}));
  writer.histogram(3, "none", Tensor::of<float>({NAN}, {1}));
  writer.histogram(3, "whole", Tensor::of<std::int64_t>({1}, {1}));
  writer.histogram(3, "empty", Tensor(DType::f32, {0}));
  writer.close();
  const std::vector<Event> events = read(writer.path());
  ASSERT_EQ(events.size(), 3U);
  const events::Histogram& spread = events[1].summary().value(0).histo();
  EXPECT_EQ(events[1].summary().value(0).tag(), "w");
  EXPECT_EQ(spread.min(), -1);
  EXPECT_EQ(spread.max(), 1);
  EXPECT_EQ(spread.num(), 4);
  EXPECT_EQ(spread.sum(), 0.5);
  EXPECT_EQ(spread.sum_squares(), 2.25);
  ASSERT_EQ(spread.bucket_size(), 64);
  ASSERT_EQ(spread.bucket_limit_size(), 64);
  EXPECT_EQ(spread.bucket_limit(0), -1 + 1 / 32.0);
  EXPECT_EQ(spread.bucket_limit(63), 1);
  for (int i = 0; i < 64; ++i) EXPECT_EQ(spread.bucket(i), i == 0 || i == 32 || i == 48 || i == 63) << i;
  const events::Histogram& same = events[2].summary().value(0).histo();
  EXPECT_THAT(same.bucket(), ElementsAre(2));
  EXPECT_THAT(same.bucket_limit(), ElementsAre(3));
}

TEST(EventWriter, AResumedRunHasAFileOfItsOwnThatReplacesLaterSteps) {
  TemporaryDirectory dir;
  const NamedValue loss[] = {{"loss", 1}};
  EventWriter first(dir.path());
  first.scalars(5, "step", loss);
  EventWriter second(dir.path(), 4);
  second.close();
  EXPECT_NE(first.path(), second.path());
  EXPECT_EQ(files_of(dir).size(), 2U);
  const std::vector<Event> events = read(second.path());
  ASSERT_EQ(events.size(), 2U);
  EXPECT_EQ(events[1].step(), 5);
  EXPECT_EQ(events[1].session_log().status(), events::SessionLog::START);
}

TEST(EventWriter, WhatAKilledRunLeavesCanBeRead) {
  TemporaryDirectory dir;
  const pid_t child = ::fork();
  if (child == 0) {
    EventWriter writer(dir.path());
    const NamedValue loss[] = {{"loss", 1}};
    writer.scalars(1, "step", loss);
    writer.flush();
    writer.scalars(2, "step", loss);
    ::raise(SIGKILL);
  }
  int status = 0;
  ASSERT_EQ(::waitpid(child, &status, 0), child);
  ASSERT_TRUE(WIFSIGNALED(status));
  const std::vector<Event> events = read(files_of(dir).at(0));
  ASSERT_EQ(events.size(), 2U);
  EXPECT_EQ(events[1].step(), 1);
}

TEST(EventWriter, WhatCouldNotBeWrittenIsWrittenLater) {
  TemporaryDirectory dir;
  const pid_t child = ::fork();
  if (child == 0) {
    ::signal(SIGXFSZ, SIG_IGN);
    const auto limit = [](rlim_t bytes) {
      const rlimit value{bytes, RLIM_INFINITY};
      ::setrlimit(RLIMIT_FSIZE, &value);
    };
    EventWriter writer(dir.path());
    const NamedValue loss[] = {{"loss", 1}};
    limit(60);  // in the middle of the second record
    int failures = 0;
    for (std::int64_t step = 1; step <= 3; ++step) {
      writer.scalars(step, "step", loss);
      try {
        writer.flush();
      } catch (const Error&) {
        ++failures;
      }
    }
    limit(RLIM_INFINITY);
    writer.close();
    ::_exit(failures);
  }
  int status = 0;
  ASSERT_EQ(::waitpid(child, &status, 0), child);
  EXPECT_EQ(WEXITSTATUS(status), 3);
  const std::vector<Event> events = read(files_of(dir).at(0));
  ASSERT_EQ(events.size(), 4U);
  for (int i = 1; i < 4; ++i) EXPECT_EQ(events[static_cast<std::size_t>(i)].step(), i);
}

TEST(EventWriter, FoldersThatCannotBeWrittenAreErrors) {
  TemporaryDirectory dir;
  write_text(dir / "file", "");
  EXPECT_THAT(error_of(Error::Kind::input, [&] { prepare_event_folder(dir / "file"); }),
              HasSubstr("a file in its place"));
  error_of(Error::Kind::input, [&] { prepare_event_folder(dir / "file/sub"); });
  error_of(Error::Kind::failure, [&] { EventWriter writer(dir / "missing"); });
  EXPECT_NO_THROW(prepare_event_folder(dir / "new/folder"));
  EXPECT_TRUE(fs::is_empty(dir / "new/folder"));
}

}  // namespace
}  // namespace halfstep
