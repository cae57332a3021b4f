#include "cli/progress.h"

#include <functional>
#include <memory>
#include <vector>

#include <gmock/gmock.h>
#include <pty.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

namespace halfstep {
namespace {

using testing::HasSubstr;
using testing::Not;
using testing::StartsWith;

/// A stream that keeps what is written, and a clock moved by hand.
struct Screen {
  std::FILE* stream = std::tmpfile();
  double time = 100;

  ~Screen() { std::fclose(stream); }
  Progress::Clock clock() {
    return [this] { return time; };
  }
  std::string text() const {
    std::string result(static_cast<std::size_t>(std::ftell(stream)), '\0');
    std::rewind(stream);
    EXPECT_EQ(std::fread(result.data(), 1, result.size(), stream), result.size());
    return result;
  }
};

/// The bars drawn, one after the other.
std::vector<std::string> bars(const std::string& text) {
  const std::string start = "\r\x1b[K";
  std::vector<std::string> result;
  for (std::size_t at = text.find(start); at != text.npos;) {
    const std::size_t next = text.find(start, at + start.size());
    result.push_back(text.substr(at + start.size(), next == text.npos ? text.npos : next - at - start.size()));
    at = next;
  }
  return result;
}

std::size_t columns(const std::string& text) {
  std::size_t count = 0;
  for (std::size_t i = 0; i < text.size(); ++i) {
    if (text[i] == '\x1b')
      i = text.find('m', i);
    else if ((static_cast<unsigned char>(text[i]) & 0xc0) != 0x80)
      ++count;
  }
  return count;
}

const NamedValue kAccuracy[] = {{"accuracy", 0.97625}};

ProgressPoint point(std::int64_t step) {
  return {.step = step,
          .steps = 100,
          .samples = step * 32,
          .epoch_samples = 3200,
          .loss = 0.0825,
          .metrics = kAccuracy,
          .loss_scale = 65536,
          .skipped_steps = 2};
}

TEST(Progress, BarShowsEverythingWhereThereIsRoom) {
  Screen screen;
  {
    Progress progress(screen.stream, {.terminal = true, .width = 160}, screen.clock());
    progress.begin_epoch(3, 10);
    screen.time += 1;
    progress.update(point(50));
  }
  const std::vector<std::string> drawn = bars(screen.text());
  ASSERT_EQ(drawn.size(), 2u);
  EXPECT_EQ(
      drawn[0],
      "epoch 3/10 ###############---------------  50%  loss 0.08250  accuracy 0.9762  0:15 left  1.60k samples/s  "
      "skipped 2 so far  scale 2^16");
  EXPECT_EQ(drawn[1], "");
}

TEST(Progress, BarFitsAnyWidth) {
  for (int width = 1; width < 140; ++width)
    for (const bool fancy : {false, true}) {
      Screen screen;
      Progress progress(screen.stream, {.terminal = true, .color = fancy, .unicode = fancy, .width = width},
                        screen.clock());
      progress.begin_epoch(3, 10);
      screen.time += 1;
      progress.update(point(50));
      const std::vector<std::string> drawn = bars(screen.text());
      ASSERT_EQ(drawn.size(), 1u);
      EXPECT_LT(columns(drawn[0]), static_cast<std::size_t>(width) + (width == 1)) << drawn[0];
    }
}

TEST(Progress, RedrawsAtMostTenTimesASecond) {
  Screen screen;
  Progress progress(screen.stream, {.terminal = true, .width = 80}, screen.clock());
  progress.begin_epoch(1, 1);
  for (int i = 0; i < 1000; ++i) {
    screen.time += 0.001;
    progress.update(point(i / 10));
  }
  EXPECT_LE(bars(screen.text()).size(), 11u);
  EXPECT_GE(bars(screen.text()).size(), 9u);
}

TEST(Progress, NoColorMeansNoEscapesInTheLine) {
  Screen screen;
  Progress progress(screen.stream, {.terminal = true, .color = false, .unicode = true, .width = 100}, screen.clock());
  progress.begin_epoch(1, 1);
  progress.update(point(50));
  EXPECT_THAT(bars(screen.text()).at(0), Not(HasSubstr("\x1b")));
}

TEST(Progress, LastingLinesReplaceTheBar) {
  Screen screen;
  Progress progress(screen.stream, {.terminal = true, .width = 80}, screen.clock());
  progress.begin_epoch(1, 2);
  progress.update(point(50));
  progress.notice("the loss scale fell");
  progress.update(point(51));
  screen.time += 2;
  const NamedValue validation[] = {{"loss", 0.1}, {"accuracy", 0.5}};
  progress.end_epoch(point(100), validation);
  EXPECT_THAT(screen.text(), HasSubstr("\r\x1b[Kthe loss scale fell\n"));
  EXPECT_THAT(
      screen.text(),
      testing::EndsWith("epoch 1/2  loss 0.08250  accuracy 0.9762  val_loss 0.1000  val_accuracy 0.5000  scale 2^16  "
                        "skipped 2 so far  1.60k samples/s  2.0 s\n"));
}

TEST(Progress, PlainLinesInAPipe) {
  Screen screen;
  Progress progress(screen.stream, {.terminal = false, .plain_interval_s = 10}, screen.clock());
  progress.begin_epoch(1, 0);
  for (int i = 0; i < 25; ++i) {
    screen.time += 1;
    progress.update(point(i));
  }
  progress.end_epoch(point(100));
  const std::string text = screen.text();
  EXPECT_EQ(std::count(text.begin(), text.end(), '\n'), 3) << text;
  EXPECT_THAT(text, StartsWith("epoch 1  step 9/100  loss 0.08250"));
  EXPECT_THAT(text, Not(HasSubstr("\x1b")));
  EXPECT_THAT(text, Not(HasSubstr("\r")));
}

TEST(Progress, RateLeavesOutSamplesBeforeAResume) {
  Screen screen;
  Progress progress(screen.stream, {.terminal = false}, screen.clock());
  progress.begin_epoch(1, 1, 1600);
  screen.time += 1;
  progress.end_epoch(point(100));
  EXPECT_THAT(screen.text(), HasSubstr("1.60k samples/s"));
}

TEST(Progress, DetectsAFileAsNoTerminal) {
  Screen screen;
  const ProgressStyle style = ProgressStyle::detect(screen.stream);
  EXPECT_FALSE(style.terminal);
  EXPECT_FALSE(style.color);
}

/// Calls `check` in a process whose standard output is the terminal that controls it; whether it returned true.
bool holds_on_a_terminal(const std::function<bool()>& check) {
  int screen = -1;
  const pid_t child = ::forkpty(&screen, nullptr, nullptr, nullptr);
  if (child == 0) ::_exit(check() ? 0 : 1);
  int status = 1;
  ::waitpid(child, &status, 0);
  ::close(screen);
  return child > 0 && status == 0;
}

TEST(Progress, DetectsTheTerminalAndItsEnvironment) {
  ::setenv("TERM", "xterm", 1);
  ::unsetenv("NO_COLOR");
  ::setenv("LC_ALL", "en_US.UTF-8", 1);
  EXPECT_TRUE(holds_on_a_terminal([] {
    const ProgressStyle style = ProgressStyle::detect(stdout);
    return style.terminal && style.color && style.unicode;
  }));
  ::setenv("NO_COLOR", "1", 1);
  ::setenv("LC_ALL", "C", 1);
  EXPECT_TRUE(holds_on_a_terminal([] {
    const ProgressStyle style = ProgressStyle::detect(stdout);
    return style.terminal && !style.color && !style.unicode;
  }));
  ::setenv("TERM", "dumb", 1);
  EXPECT_TRUE(holds_on_a_terminal([] { return !ProgressStyle::detect(stdout).terminal; }));
}

// Open MPI gives each rank such a terminal as its standard output.
TEST(Progress, ATerminalThatAnotherProgramReadsIsNone) {
  ::setenv("TERM", "xterm", 1);
  int reader = -1, writer = -1;
  ASSERT_EQ(::openpty(&reader, &writer, nullptr, nullptr, nullptr), 0);
  std::FILE* stream = ::fdopen(writer, "w");
  ASSERT_EQ(::isatty(writer), 1);
  EXPECT_FALSE(ProgressStyle::detect(stream).terminal);
  std::fclose(stream);
  ::close(reader);
}

TEST(Progress, Durations) {
  const std::pair<double, const char*> cases[] = {{0, "0:00"},       {0.4, "0:00"},     {59.6, "1:00"}, {65, "1:05"},
                                                  {3600, "1:00:00"}, {7384, "2:03:04"}, {-1, "?"},      {1e300, "?"}};
  for (const auto& [seconds, text] : cases) EXPECT_EQ(format_duration(seconds), text);
}

TEST(Progress, Quantities) {
  const std::pair<double, const char*> cases[] = {
      {0, "0"},         {7, "7"},         {950, "950"},      {999.6, "1.00k"},   {1250, "1.25k"},
      {12345, "12.3k"}, {118000, "118k"}, {999600, "1.00M"}, {3400000, "3.40M"}, {HUGE_VAL, "?"}};
  for (const auto& [value, text] : cases) EXPECT_EQ(format_quantity(value), text);
}

}  // namespace
}  // namespace halfstep
