#include "cli/progress.h"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdlib>
#include <iterator>
#include <utility>
#include <vector>

#include <fmt/format.h>
#include <sys/ioctl.h>
#include <termios.h>

#include "base/print.h"

namespace halfstep {
namespace {

constexpr double kRedrawInterval = 0.1;  // seconds
constexpr int kDefaultWidth = 80, kWidestBar = 30, kNarrowestBar = 8;

std::string_view environment(const char* name) {
  const char* value = std::getenv(name);
  return value ? value : "";
}

bool locale_is_utf8() {
  for (const char* name : {"LC_ALL", "LC_CTYPE", "LANG"}) {
    const std::string_view value = environment(name);
    if (value.empty()) continue;
    return value.find("UTF-8") != value.npos || value.find("utf8") != value.npos || value.find("UTF8") != value.npos ||
           value.find("utf-8") != value.npos;
  }
  return false;
}

double steady_seconds() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

std::string value_text(double value) { return fmt::format("{:#.4g}", value); }

std::string scale_text(double scale) {
  int exponent = 0;
  return std::frexp(scale, &exponent) == 0.5 ? fmt::format("2^{}", exponent - 1) : value_text(scale);
}

/// Samples per second in this run's part of the epoch.
double rate(const ProgressPoint& point, std::int64_t first_sample, double elapsed) {
  return elapsed > 0 ? static_cast<double>(point.samples - first_sample) / elapsed : 0;
}

std::string bar_text(double fraction, int cells, const ProgressStyle& style) {
  const int done = std::clamp(static_cast<int>(fraction * cells), 0, cells);
  std::string text = style.color ? "\x1b[36m" : "";
  for (int i = 0; i < cells; ++i) {
    if (i == done && style.color) text += "\x1b[2m";
    text += style.unicode ? (i < done ? "━" : "─") : (i < done ? "#" : "-");
  }
  return text + (style.color ? "\x1b[0m" : "");
}

}  // namespace

std::string format_duration(double seconds) {
  if (!(seconds >= 0) || seconds > 1e9) return "?";
  const auto total = static_cast<std::int64_t>(std::llround(seconds));
  const std::int64_t hours = total / 3600, minutes = total / 60 % 60;
  return hours > 0 ? fmt::format("{}:{:02}:{:02}", hours, minutes, total % 60)
                   : fmt::format("{}:{:02}", minutes, total % 60);
}

std::string format_quantity(double value) {
  if (!std::isfinite(value)) return "?";
  constexpr const char* kSuffixes[] = {"", "k", "M", "G", "T"};
  std::size_t suffix = 0;
  while (std::abs(value) >= 999.5 && suffix + 1 < std::size(kSuffixes)) {
    value /= 1000;
    ++suffix;
  }
  const int decimals = suffix == 0 || std::abs(value) >= 99.95 ? 0 : std::abs(value) >= 9.995 ? 1 : 2;
  return fmt::format("{:.{}f}{}", value, decimals, kSuffixes[suffix]);
}

ProgressStyle ProgressStyle::detect(std::FILE* stream) {
  ProgressStyle style;
  style.terminal = ::tcgetsid(::fileno(stream)) != -1 && environment("TERM") != "dumb";
  style.color = style.terminal && environment("NO_COLOR").empty();
  style.unicode = locale_is_utf8();
  return style;
}

Progress::Progress(std::FILE* stream, ProgressStyle style, Clock clock)
    : stream_(stream), style_(style), clock_(clock ? std::move(clock) : Clock(steady_seconds)) {}

Progress::~Progress() { clear_bar(); }

void Progress::begin_epoch(std::int64_t epoch, std::int64_t epochs, std::int64_t first_sample) {
  epoch_ = epoch;
  epochs_ = epochs;
  first_sample_ = first_sample;
  epoch_start_ = clock_();
  next_draw_ = epoch_start_ + (style_.terminal ? 0 : style_.plain_interval_s);
}

void Progress::update(const ProgressPoint& point) {
  const double now = clock_();
  if (now < next_draw_) return;
  if (style_.terminal) {
    draw_bar(point, now);
    next_draw_ = now + kRedrawInterval;
  } else {
    print_line(point, {}, now, false);
    next_draw_ = now + style_.plain_interval_s;
  }
}

void Progress::end_epoch(const ProgressPoint& point, std::span<const NamedValue> validation) {
  clear_bar();
  print_line(point, validation, clock_(), true);
}

void Progress::notice(std::string_view text) {
  clear_bar();
  print_to(stream_, "{}\n", text);
  std::fflush(stream_);
}

std::string Progress::epoch_text() const {
  return epochs_ > 0 ? fmt::format("epoch {}/{}", epoch_, epochs_) : fmt::format("epoch {}", epoch_);
}

int Progress::columns() const {
  if (style_.width > 0) return style_.width;
  winsize size{};
  if (::ioctl(::fileno(stream_), TIOCGWINSZ, &size) == 0 && size.ws_col > 0) return size.ws_col;
  return kDefaultWidth;
}

void Progress::draw_bar(const ProgressPoint& point, double now) {
  const double whole = static_cast<double>(std::max<std::int64_t>(point.epoch_samples, 1));
  const double fraction = std::clamp(static_cast<double>(point.samples) / whole, 0.0, 1.0);
  const double speed = rate(point, first_sample_, now - epoch_start_);

  // In order of importance: items at the end are dropped if the line is too short.
  std::vector<std::string> fields = {"loss " + value_text(point.loss)};
  for (const NamedValue& m : point.metrics) fields.push_back(fmt::format("{} {}", m.name, value_text(m.value)));
  if (speed > 0) {
    const double left = static_cast<double>(point.epoch_samples - point.samples) +
                        whole * static_cast<double>(std::max<std::int64_t>(epochs_ - epoch_, 0));
    fields.push_back(format_duration(left / speed) + " left");
    fields.push_back(format_quantity(speed) + " samples/s");
  }
  if (point.skipped_steps > 0) fields.push_back(fmt::format("skipped {} so far", point.skipped_steps));
  if (point.loss_scale > 0) fields.push_back("scale " + scale_text(point.loss_scale));

  const std::string head = epoch_text(), percent = fmt::format("{:3.0f}%", std::floor(fraction * 100));
  // The last column stays free: some terminals wrap after writing it.
  int room = columns() - 1 - static_cast<int>(head.size() + percent.size()) - 2 - kNarrowestBar;
  std::string tail;
  for (const std::string& field : fields) {
    const int needed = static_cast<int>(field.size()) + 2;
    if (needed > room) break;
    room -= needed;
    tail += "  " + field;
  }
  const int cells = std::min(kNarrowestBar + room, kWidestBar);
  std::string line = cells < kNarrowestBar ? head.substr(0, static_cast<std::size_t>(std::max(columns() - 1, 0)))
                                           : head + " " + bar_text(fraction, cells, style_) + " " + percent + tail;
  print_to(stream_, "\r\x1b[K{}", Raw{line});
  std::fflush(stream_);
  bar_visible_ = true;
}

void Progress::print_line(const ProgressPoint& point, std::span<const NamedValue> validation, double now,
                          bool finished) {
  std::string line = epoch_text();
  if (!finished) line += fmt::format("  step {}/{}", point.step, point.steps);
  line += "  loss " + value_text(point.loss);
  for (const NamedValue& m : point.metrics) line += fmt::format("  {} {}", m.name, value_text(m.value));
  for (const NamedValue& m : validation) line += fmt::format("  val_{} {}", m.name, value_text(m.value));
  if (point.loss_scale > 0) line += "  scale " + scale_text(point.loss_scale);
  if (point.skipped_steps > 0) line += fmt::format("  skipped {} so far", point.skipped_steps);
  const double elapsed = now - epoch_start_;
  line += fmt::format("  {} samples/s", format_quantity(rate(point, first_sample_, elapsed)));
  if (finished) line += fmt::format("  {:.1f} s", elapsed);
  print_to(stream_, "{}\n", line);
  std::fflush(stream_);
}

void Progress::clear_bar() {
  if (!bar_visible_) return;
  write_text(stream_, "\r\x1b[K");
  std::fflush(stream_);
  bar_visible_ = false;
}

}  // namespace halfstep
