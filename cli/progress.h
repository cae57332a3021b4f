// Progress of a training run: a bar on a terminal, plain lines in a pipe.
#pragma once

#include <cstdint>
#include <cstdio>
#include <functional>
#include <span>
#include <string>
#include <string_view>

#include "training/named_value.h"
#include <halfstep/base/api.h>

namespace HALFSTEP_API halfstep {

/// Form and destination of the output. `ProgressStyle::detect` fills it in.
struct ProgressStyle {
  bool terminal = false;  ///< a bar that is redrawn in place
  bool color = false;
  bool unicode = false;
  int width = 0;                 ///< columns; 0: ask the terminal at each redraw
  double plain_interval_s = 10;  ///< without a terminal: seconds between lines within an epoch

  /// From the stream and the environment: a terminal is that which controls the process, since mpirun gives its ranks
  /// one of their own and writes elsewhere what they write to it; TERM=dumb is none. NO_COLOR (no-color.org) disables
  /// colors, and LC_ALL, LC_CTYPE or LANG determine whether the locale is UTF-8.
  static ProgressStyle detect(std::FILE* stream);
};

/// State of the run after a step.
struct ProgressPoint {
  std::int64_t step = 0;           ///< in the epoch, counted from 1
  std::int64_t steps = 0;          ///< in the epoch
  std::int64_t samples = 0;        ///< processed in this epoch, including those before a resume
  std::int64_t epoch_samples = 0;  ///< in a whole epoch
  double loss = 0;                 ///< running mean of the epoch
  std::span<const NamedValue> metrics = {};
  double loss_scale = 0;  ///< 0: not dynamic, not shown
  std::int64_t skipped_steps = 0;
};

class Progress {
 public:
  /// Seconds of a monotonic clock.
  using Clock = std::function<double()>;

  Progress(std::FILE* stream, ProgressStyle style, Clock clock = {});
  /// Clears an unfinished bar.
  ~Progress();
  Progress(const Progress&) = delete;
  Progress& operator=(const Progress&) = delete;

  /// `epoch` counts from 1; `epochs` may be 0 if the run is limited by steps. `first_sample` is the position at which a
  /// resumed epoch starts.
  void begin_epoch(std::int64_t epoch, std::int64_t epochs, std::int64_t first_sample = 0);
  /// Call it after every step: returns at once, without formatting, unless 0.1 s (for a line: plain_interval_s) have
  /// passed.
  void update(const ProgressPoint& point);
  /// The permanent line of the epoch. `validation` follows as val_NAME.
  void end_epoch(const ProgressPoint& point, std::span<const NamedValue> validation = {});
  /// A separate permanent line that does not break the bar.
  void notice(std::string_view text);

 private:
  void draw_bar(const ProgressPoint& point, double now);
  void print_line(const ProgressPoint& point, std::span<const NamedValue> validation, double now, bool finished);
  void clear_bar();
  int columns() const;
  std::string epoch_text() const;

  std::FILE* stream_;
  ProgressStyle style_;
  Clock clock_;
  std::int64_t epoch_ = 0, epochs_ = 0, first_sample_ = 0;
  double epoch_start_ = 0, next_draw_ = 0;
  bool bar_visible_ = false;
};

/// "1:05", "2:03:04"; "0:00" for less than half a second.
std::string format_duration(double seconds);
/// Three significant digits and a suffix: "950", "1.25k", "118k", "3.40M".
std::string format_quantity(double value);

}  // namespace halfstep
