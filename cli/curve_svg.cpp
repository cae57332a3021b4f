#include "cli/curve_svg.h"

#include <algorithm>
#include <cmath>
#include <iterator>
#include <limits>
#include <string_view>

#include <fmt/format.h>

#include "base/atomic_file.h"
#include "base/printable.h"

namespace halfstep {
namespace {

constexpr double kWidth = 880, kHeight = 480;
constexpr double kTop = 64, kBottom = 408, kLeft = 84;
constexpr double kRightWithAxis = 796, kRightWithout = 848;
constexpr double kLogRatio = 30;          // a loss with a larger ratio of values has a logarithmic axis
constexpr std::size_t kMostPoints = 300;  // per line, about two pixels apart

// Colors that color-blind readers can distinguish: blues left, oranges right.
constexpr std::string_view kLeftColors[] = {"#1f6fb4", "#0b3d6e", "#4aa3c7"};
constexpr std::string_view kRightColors[] = {"#d9731a", "#963f04", "#b8922a"};
constexpr std::string_view kInk = "#1f2933", kFaintInk = "#5b6673", kGrid = "#e4e8ec";

struct Range {
  double low = std::numeric_limits<double>::infinity(), high = -std::numeric_limits<double>::infinity();
  void include(double v) {
    low = std::min(low, v);
    high = std::max(high, v);
  }
  bool empty() const { return low > high; }
};

bool is_finite(const CurvePoint& p) { return std::isfinite(p.x) && std::isfinite(p.y); }

/// A mean point with the extremes of its values; `broken`: there is a gap before it.
struct Sample {
  double x, y, low, high;
  bool broken;
};

std::vector<Sample> thin_out(const std::vector<CurvePoint>& points) {
  std::vector<Sample> samples;
  const double span = points.empty() ? 0 : points.back().x - points.front().x;
  constexpr double kLastBin = 1 - 0.5 / kMostPoints;  // includes the last point
  const bool thin = points.size() > kMostPoints && span > 0;
  bool broken = true;
  std::ptrdiff_t bin = -1;
  double count = 0;
  for (const CurvePoint& p : points) {
    if (!is_finite(p)) {
      broken = true;
      continue;
    }
    const auto its_bin =
        thin ? static_cast<std::ptrdiff_t>(std::min((p.x - points.front().x) / span, kLastBin) * kMostPoints) : -1;
    if (!thin || broken || its_bin != bin) {
      samples.push_back({p.x, p.y, p.y, p.y, broken});
      count = 1;
    } else {
      Sample& s = samples.back();
      count += 1;
      s.x += (p.x - s.x) / count;
      s.y += (p.y - s.y) / count;
      s.low = std::min(s.low, p.y);
      s.high = std::max(s.high, p.y);
    }
    bin = its_bin;
    broken = false;
  }
  return samples;
}

struct Scale {
  double low, high, from, to;  // maps data in [low, high] to pixels [from, to]
  bool logarithmic = false;

  double operator()(double v) const {
    if (!logarithmic) return from + (v - low) / (high - low) * (to - from);
    return v > 0 ? from + std::log(v / low) / std::log(high / low) * (to - from) : from;
  }
};

struct Axis {
  Scale scale;
  std::vector<double> ticks;
};

/// 1, 2 and 5 times powers of ten, from the last one below `low` to the first one above `high`; over many decades only
/// powers of ten.
std::vector<double> log_ticks(double low, double high) {
  const bool many = high / low > 1e4;
  std::vector<double> ticks;
  for (int exponent = static_cast<int>(std::floor(std::log10(low))); ticks.empty() || ticks.back() < high; ++exponent)
    for (const double lead : {1.0, 2.0, 5.0}) {
      if (many && lead != 1) continue;
      const double tick = lead * std::pow(10.0, exponent);
      if (!ticks.empty() && ticks.back() >= high) break;
      if (tick <= low) ticks.clear();
      ticks.push_back(tick);
    }
  return ticks;
}

/// A range of non-zero length, even for a single value.
Range opened(Range r) {
  if (r.empty()) return {0, 1};
  if (r.low == r.high) {
    const double pad = r.low == 0 ? 1 : std::abs(r.low) * 0.1;
    return {r.low - pad, r.high + pad};
  }
  return r;
}

std::string tick_label(double value, double step) {
  if (std::abs(value) < step * 1e-9) return "0";
  if (std::abs(value) >= 1e6 || step < 1e-5) return fmt::format("{:.6g}", value);
  if (std::abs(value) >= 1e4 && std::fmod(step, 1000) == 0) return fmt::format("{:g}k", value / 1000);
  const int decimals = std::max(0, static_cast<int>(-std::floor(std::log10(step) + 1e-9)));
  return fmt::format("{:.{}f}", value, decimals);
}

/// The vertical axis for values in `range`.
Axis vertical_axis(const Range& range, bool may_be_logarithmic) {
  const bool logarithmic = may_be_logarithmic && range.low > 0 && !range.empty() && range.high / range.low >= kLogRatio;
  const Range r = opened(range);
  std::vector<double> ticks = logarithmic ? log_ticks(r.low, r.high) : nice_ticks(r.low, r.high, 6);
  return {{ticks.front(), ticks.back(), kBottom, kTop + 12, logarithmic}, ticks};
}

class Canvas {
 public:
  template <class... Args>
  void add(fmt::format_string<Args...> format, Args&&... args) {
    fmt::format_to(std::back_inserter(text_), format, std::forward<Args>(args)...);
    text_ += '\n';
  }
  void line(double x1, double y1, double x2, double y2, std::string_view color) {
    add(R"(<line x1="{:.1f}" y1="{:.1f}" x2="{:.1f}" y2="{:.1f}" stroke="{}"/>)", x1, y1, x2, y2, color);
  }
  void label(double x, double y, std::string_view anchor, std::string_view color, std::string_view text,
             std::string_view more = "") {
    add(R"(<text x="{:.1f}" y="{:.1f}" text-anchor="{}" fill="{}"{}>{}</text>)", x, y, anchor, color, more,
        escape_markup(text));
  }
  std::string take() { return std::move(text_); }

 private:
  std::string text_;
};

void draw_curve(Canvas& canvas, const std::vector<Sample>& samples, const Scale& x, const Scale& y,
                std::string_view color, Curve::Style style) {
  // The axis covers the line; the extremes of the band may be outside.
  const auto clipped = [&](double v) { return std::clamp(y(v), y.to, y.from); };
  for (std::size_t first = 0; first < samples.size();) {
    std::size_t last = first + 1;
    while (last < samples.size() && !samples[last].broken) ++last;
    std::string path, band;
    bool has_band = false;
    for (std::size_t i = first; i < last; ++i) {
      const Sample& s = samples[i];
      path += fmt::format("{:.1f},{:.1f} ", x(s.x), y(s.y));
      band += fmt::format("{:.1f},{:.1f} ", x(s.x), clipped(s.high));
      has_band = has_band || s.high > s.low;
    }
    for (std::size_t i = last; i-- > first;)
      band += fmt::format("{:.1f},{:.1f} ", x(samples[i].x), clipped(samples[i].low));
    path.pop_back();
    band.pop_back();
    if (has_band) canvas.add(R"(<polygon points="{}" fill="{}" fill-opacity="0.14"/>)", band, color);
    canvas.add(R"(<polyline points="{}" fill="none" stroke="{}" stroke-width="2" stroke-linejoin="round"{}/>)", path,
               color, style == Curve::Style::validation ? R"( stroke-dasharray="6 4")" : "");
    const bool sparse = samples.size() <= 60;
    if ((style == Curve::Style::validation && sparse) || last - first == 1)
      for (std::size_t i = first; i < last; ++i)
        canvas.add(R"(<circle cx="{:.1f}" cy="{:.1f}" r="3.2" fill="#fff" stroke="{}" stroke-width="2"/>)",
                   x(samples[i].x), y(samples[i].y), color);
    first = last;
  }
}

/// Approximate width in pixels of a text in the 13-pixel font.
double text_width(std::string_view text) {
  return 7.0 * static_cast<double>(
                   std::count_if(text.begin(), text.end(), [](unsigned char c) { return (c & 0xc0) != 0x80; }));
}

void draw_legend(Canvas& canvas, const CurveFigure& figure, const std::vector<std::string_view>& colors) {
  double x = kLeft;
  for (std::size_t i = 0; i < figure.curves.size(); ++i) {
    const Curve& curve = figure.curves[i];
    canvas.add(R"(<line x1="{:.1f}" y1="50" x2="{:.1f}" y2="50" stroke="{}" stroke-width="2.5"{}/>)", x, x + 26,
               colors[i], curve.style == Curve::Style::validation ? R"( stroke-dasharray="6 4")" : "");
    canvas.label(x + 33, 54, "start", kInk, curve.name);
    x += 33 + text_width(curve.name) + 24;
  }
}

}  // namespace

std::vector<double> nice_ticks(double low, double high, int count) {
  if (!(high > low) || count < 1) return {low, low + 1};
  const double rough = (high - low) / count, power = std::pow(10, std::floor(std::log10(rough)));
  const double lead = rough / power;
  const double step = power * (lead <= 1.0 ? 1 : lead <= 2.0 ? 2 : lead <= 5.0 ? 5 : 10);
  std::vector<double> ticks;
  const double first = std::floor(low / step + 1e-9), last = std::ceil(high / step - 1e-9);
  const int steps = static_cast<int>(last - first);
  for (int i = 0; i <= steps; ++i) ticks.push_back((first + i) * step);
  return ticks;
}

std::string curve_svg(const CurveFigure& figure) {
  Range x_range, y_ranges[2];
  bool has_right = false;
  std::vector<std::vector<Sample>> samples;
  std::vector<std::string_view> colors;
  std::size_t used[2] = {0, 0};
  for (const Curve& curve : figure.curves) {
    const bool right = curve.axis == Curve::Axis::right;
    has_right = has_right || right;
    colors.push_back(right ? kRightColors[used[1]++ % std::size(kRightColors)]
                           : kLeftColors[used[0]++ % std::size(kLeftColors)]);
    samples.push_back(thin_out(curve.points));
    for (const Sample& s : samples.back()) y_ranges[right].include(s.y);
    for (const CurvePoint& p : curve.points)
      if (is_finite(p)) x_range.include(p.x);
  }

  const double right_edge = has_right ? kRightWithAxis : kRightWithout;
  if (x_range.low == x_range.high) x_range = {x_range.low - 1, x_range.high + 1};
  x_range = opened(x_range);
  const Scale x{x_range.low, x_range.high, kLeft, right_edge};
  const Axis left = vertical_axis(y_ranges[0], true), right = vertical_axis(y_ranges[1], false);

  Canvas canvas;
  canvas.add(R"(<svg xmlns="http://www.w3.org/2000/svg" width="{0}" height="{1}" viewBox="0 0 {0} {1}" role="img" )"
             R"(font-family="system-ui, 'Segoe UI', 'DejaVu Sans', Helvetica, Arial, sans-serif" font-size="13">)",
             kWidth, kHeight);
  canvas.add("<title>{}</title>", escape_markup(figure.title));
  canvas.add(R"(<rect width="100%" height="100%" fill="#fff"/>)");
  canvas.label(kLeft, 30, "start", kInk, figure.title, R"( font-size="18" font-weight="600")");
  draw_legend(canvas, figure, colors);

  for (const double t : left.ticks) {
    const double at = left.scale(t);
    const std::string text =
        left.scale.logarithmic ? fmt::format("{:g}", t) : tick_label(t, left.ticks[1] - left.ticks[0]);
    canvas.line(kLeft, at, right_edge, at, kGrid);
    canvas.label(kLeft - 10, at + 4.5, "end", kFaintInk, text);
  }
  if (has_right)
    for (const double t : right.ticks) {
      const double at = right.scale(t);
      canvas.line(right_edge, at, right_edge + 5, at, kFaintInk);
      canvas.label(right_edge + 10, at + 4.5, "start", kFaintInk, tick_label(t, right.ticks[1] - right.ticks[0]));
    }
  const std::vector<double> x_ticks = nice_ticks(x_range.low, x_range.high, 8);
  for (const double t : x_ticks) {
    if (t < x_range.low || t > x_range.high) continue;
    canvas.line(x(t), kBottom, x(t), kBottom + 5, kFaintInk);
    canvas.label(x(t), kBottom + 22, "middle", kFaintInk, tick_label(t, x_ticks[1] - x_ticks[0]));
  }
  canvas.line(kLeft, kBottom, right_edge, kBottom, kFaintInk);

  const double middle = (kTop + kBottom) / 2;
  canvas.label((kLeft + right_edge) / 2, kHeight - 20, "middle", kInk, figure.x_label);
  canvas.label(24, middle, "middle", kLeftColors[0], figure.left_label + (left.scale.logarithmic ? " (log scale)" : ""),
               fmt::format(R"svg( transform="rotate(-90 24 {:.1f})")svg", middle));
  if (has_right)
    canvas.label(kWidth - 20, middle, "middle", kRightColors[0], figure.right_label,
                 fmt::format(R"svg( transform="rotate(90 {:.1f} {:.1f})")svg", kWidth - 20, middle));

  for (std::size_t i = 0; i < samples.size(); ++i)
    draw_curve(canvas, samples[i], x, (figure.curves[i].axis == Curve::Axis::right ? right : left).scale, colors[i],
               figure.curves[i].style);
  canvas.add("</svg>");
  return canvas.take();
}

void write_curve_svg(const std::filesystem::path& path, const CurveFigure& figure) {
  write_atomically(path, curve_svg(figure));
}

}  // namespace halfstep
