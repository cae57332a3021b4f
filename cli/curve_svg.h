// A picture of a training run: loss and metric against steps or epochs, as one self-contained SVG file.
#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include <halfstep/base/api.h>

namespace HALFSTEP_API halfstep {

struct CurvePoint {
  double x = 0, y = 0;
};

struct Curve {
  enum class Axis { left, right };
  enum class Style { training, validation };  ///< a plain line; a dashed line with markers

  std::string name = {};
  Axis axis = Axis::left;
  Style style = Style::training;
  /// By ascending x. A point that is not finite breaks the line. More points than the picture can show are averaged
  /// over equal spans of x, over a pale band from the smallest to the largest.
  std::vector<CurvePoint> points = {};
};

struct CurveFigure {
  std::string title = {};
  std::string x_label = "step";
  std::string left_label = "loss";
  std::string right_label = {};  ///< the right axis is drawn only where a curve uses it
  std::vector<Curve> curves = {};
};

/// The SVG document. The left axis is logarithmic where its curves are positive and span a factor of 30 or more. Works
/// for empty figures and single points.
std::string curve_svg(const CurveFigure& figure);

/// The same to a file, atomically. Throws Error(failure) when it cannot be written.
void write_curve_svg(const std::filesystem::path& path, const CurveFigure& figure);

/// About `count` round values (1, 2 or 5 times a power of ten apart) whose first is ≤ low and whose last is ≥ high.
std::vector<double> nice_ticks(double low, double high, int count);

}  // namespace halfstep
