// Plot of a training run: loss and metric against steps or epochs, as a self-contained SVG file.
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
  enum class Style { training, validation };  ///< a solid line; a dashed line with markers

  std::string name = {};
  Axis axis = Axis::left;
  Style style = Style::training;
  /// In ascending order of x. A non-finite point breaks the line. If there are more points than the plot can show, they
  /// are averaged over equal intervals of x, with a pale band from the minimum to the maximum.
  std::vector<CurvePoint> points = {};
};

struct CurveFigure {
  std::string title = {};
  std::string x_label = "step";
  std::string left_label = "loss";
  std::string right_label = {};  ///< the right axis is drawn only if a curve uses it
  std::vector<Curve> curves = {};
};

/// The SVG document. The left axis is logarithmic if its curves are positive and span a factor of 30 or more. Supports
/// empty figures and single points.
std::string curve_svg(const CurveFigure& figure);

/// Writes it to a file atomically. Throws Error(failure) if it cannot be written.
void write_curve_svg(const std::filesystem::path& path, const CurveFigure& figure);

/// About `count` round values (1, 2 or 5 times a power of ten apart), the first ≤ low and the last ≥ high.
std::vector<double> nice_ticks(double low, double high, int count);

}  // namespace halfstep
