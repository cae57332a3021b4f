#include "cli/curve_svg.h"

#include <cmath>
#include <limits>

#include <gmock/gmock.h>

#include "tests/temporary_directory.h"

namespace halfstep {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::Not;

std::size_t count(const std::string& text, const std::string& part) {
  std::size_t n = 0;
  for (std::size_t at = text.find(part); at != text.npos; at = text.find(part, at + part.size())) ++n;
  return n;
}

/// Every coordinate of every polyline and polygon.
std::vector<std::pair<double, double>> drawn_points(const std::string& svg) {
  std::vector<std::pair<double, double>> result;
  const std::string start = "points=\"";
  for (std::size_t at = svg.find(start); at != svg.npos; at = svg.find(start, at + 1)) {
    const char* p = svg.c_str() + at + start.size();
    while (*p != '"') {
      char* end = nullptr;
      const double x = std::strtod(p, &end), y = std::strtod(end + 1, &end);
      result.emplace_back(x, y);
      p = end + (*end == ' ');
    }
  }
  return result;
}

TEST(CurveSvg, DrawsEveryCurveWithLegendAndAxes) {
  const CurveFigure figure{
      .title = "MNIST <mlp> & \"friends\"",
      .x_label = "epoch",
      .right_label = "accuracy",
      .curves = {
          {"training loss", Curve::Axis::left, Curve::Style::training, {{1, 2}, {2, 1}, {3, 0.5}}},
          {"validation accuracy", Curve::Axis::right, Curve::Style::validation, {{1, 0.5}, {2, 0.75}, {3, 0.9}}}}};
  const std::string svg = curve_svg(figure);
  EXPECT_THAT(svg, HasSubstr("<title>MNIST &lt;mlp&gt; &amp; &quot;friends&quot;</title>"));
  for (const char* text : {">training loss<", ">validation accuracy<", ">epoch<", ">loss<", ">accuracy<"})
    EXPECT_EQ(count(svg, text), 1u) << text;
  EXPECT_EQ(count(svg, "<polyline"), 2u);
  EXPECT_EQ(count(svg, "<circle"), 3u);
  EXPECT_EQ(count(svg, "<text"), count(svg, "</text>"));
  EXPECT_THAT(svg, testing::StartsWith("<svg xmlns=\"http://www.w3.org/2000/svg\""));
  EXPECT_THAT(svg, testing::EndsWith("</svg>\n"));
}

TEST(CurveSvg, ALongCurveIsThinnedOverABand) {
  Curve curve{.name = "loss"};
  for (int i = 0; i < 100000; ++i) curve.points.push_back({static_cast<double>(i), i % 2 ? 1.0 : 3.0});
  const std::string svg = curve_svg({.curves = {curve}});
  EXPECT_LT(svg.size(), 40000u);
  EXPECT_EQ(count(svg, "<polygon"), 1u);
  EXPECT_EQ(count(svg, "<polyline"), 1u);
}

TEST(CurveSvg, StaysInsideThePictureWhateverTheNumbers) {
  constexpr double kNan = std::numeric_limits<double>::quiet_NaN();
  const std::vector<std::vector<CurvePoint>> cases = {
      {},
      {{5, 7}},
      {{0, 0}, {1, 0}},
      {{0, kNan}, {1, kNan}},
      {{0, 1}, {1, kNan}, {2, 3}, {3, HUGE_VAL}, {4, 5}},
      {{0, -1e30}, {1, 1e30}},
      {{0, 1e-30}, {1, 2e-30}},
      {{1e9, 2.3}, {1e9 + 1, 2.1}},
  };
  for (const auto& points : cases) {
    const std::string svg =
        curve_svg({.title = "t", .curves = {{"c", Curve::Axis::left, Curve::Style::training, points}}});
    EXPECT_THAT(svg, Not(HasSubstr("nan")));
    EXPECT_THAT(svg, Not(HasSubstr("\"inf")));
    for (const auto& [x, y] : drawn_points(svg)) {
      EXPECT_TRUE(x >= 0 && x <= 880 && y >= 0 && y <= 480) << x << "," << y;
    }
  }
  EXPECT_THAT(curve_svg({}), HasSubstr("</svg>"));
}

TEST(CurveSvg, AGapBreaksTheLine) {
  const double nan = std::nan("");
  const std::string svg = curve_svg(
      {.curves = {{"c", Curve::Axis::left, Curve::Style::training, {{0, 1}, {1, 2}, {2, nan}, {3, 1}, {4, 2}}}}});
  EXPECT_EQ(count(svg, "<polyline"), 2u);
}

TEST(CurveSvg, ALossThatFallsFarGetsALogarithmicAxis) {
  const auto svg_of = [](double last) {
    return curve_svg({.curves = {{"c", Curve::Axis::left, Curve::Style::training, {{0, 2.3}, {1, 1}, {2, last}}}}});
  };
  EXPECT_THAT(svg_of(0.5), HasSubstr(">loss<"));
  EXPECT_THAT(svg_of(0), HasSubstr(">loss<"));
  const std::string svg = svg_of(0.003);
  EXPECT_THAT(svg, HasSubstr(">loss (log scale)<"));
  for (const char* tick : {">0.002<", ">0.005<", ">0.01<", ">0.1<", ">1<", ">5<"})
    EXPECT_EQ(count(svg, tick), 1u) << tick;
  EXPECT_EQ(count(svg, ">0.001<"), 0u);
}

TEST(CurveSvg, NiceTicks) {
  EXPECT_THAT(nice_ticks(0, 10, 5), ElementsAre(0, 2, 4, 6, 8, 10));
  EXPECT_THAT(nice_ticks(1, 9, 5), ElementsAre(0, 2, 4, 6, 8, 10));
  EXPECT_THAT(nice_ticks(-1, 1, 4), ElementsAre(-1, -0.5, 0, 0.5, 1));
  for (const auto& [low, high] : std::initializer_list<std::pair<double, double>>{
           {0.013, 2.41}, {0.91, 0.987}, {-3e-7, 5e-8}, {1e6, 1.8e6}, {0, 1e-12}}) {
    const std::vector<double> ticks = nice_ticks(low, high, 6);
    EXPECT_LE(ticks.front(), low * (low < 0 ? 1 - 1e-9 : 1 + 1e-9));
    EXPECT_GE(ticks.back(), high * (1 - 1e-9));
    EXPECT_GE(ticks.size(), 3u);
    EXPECT_LE(ticks.size(), 9u);
  }
}

TEST(CurveSvg, WritesAFile) {
  TemporaryDirectory dir;
  const CurveFigure figure{.title = "t"};
  write_curve_svg(dir / "c.svg", figure);
  EXPECT_EQ(read_text(dir / "c.svg"), curve_svg(figure));
  error_of(Error::Kind::input, [&] { write_curve_svg("/dev/full", figure); });
}

}  // namespace
}  // namespace halfstep
