#include "ops/movement/interpolation.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>
#include <string>

#include <fmt/format.h>

#include "base/row_named.h"
#include <halfstep/base/error.h>
#include <halfstep/ops/kernel_util.h>

namespace halfstep::ops {
namespace {

/// One axis: its extents, the scale (result per operand), and the region of interest.
struct AxisGeometry {
  std::int64_t input, output;
  float scale;
  float roi_start = 0, roi_end = 1;

  /// The operand's length in units of the result's elements; it need not be a whole number.
  float length() const { return scale * static_cast<float>(input); }
  float last_input() const { return static_cast<float>(input) - 1; }
  /// The extent of the result, which is rounded if `length` is not whole.
  float last_output() const { return static_cast<float>(output) - 1; }
};

/// The coordinate of element `o` of the result on the operand's axis, whose elements have integer coordinates. In f32,
/// as in ONNX Runtime: rounding determines the nearest element.
using Transform = float (*)(const AxisGeometry& axis, float o);

float half_pixel(const AxisGeometry& axis, float o) { return (o + 0.5f) / axis.scale - 0.5f; }

float half_pixel_symmetric(const AxisGeometry& axis, float o) {
  const float rounding = static_cast<float>(axis.output) / axis.length();
  const double offset = static_cast<float>(axis.input) / 2 * (1 - rounding);
  return static_cast<float>(offset + (o + 0.5) / axis.scale - 0.5);
}

float pytorch_half_pixel(const AxisGeometry& axis, float o) { return axis.output > 1 ? half_pixel(axis, o) : 0; }

float align_corners(const AxisGeometry& axis, float o) {
  return axis.output == 1 ? 0 : o * axis.last_input() / axis.last_output();
}

float asymmetric(const AxisGeometry& axis, float o) { return o / axis.scale; }

float tf_crop_and_resize(const AxisGeometry& axis, float o) {
  if (axis.output <= 1) return 0.5f * (axis.roi_start + axis.roi_end) * axis.last_input();
  return axis.roi_start * axis.last_input() +
         o * (axis.roi_end - axis.roi_start) * axis.last_input() / axis.last_output();
}

/// Rounds a coordinate to an element.
using Rounding = double (*)(double x);

// A coordinate that rounding errors moved away from the middle between two elements counts as the middle.
bool is_tie(double x) { return std::abs(x - std::floor(x) - 0.5) < 1e-6; }

template <class F>
struct Named {
  std::string_view name;
  F value;
};
template <class F, std::size_t n>
F by_name(const Named<F> (&known)[n], const std::string& name, const char* what) {
  return row_named(known, name, fmt::format("Resize's {} to be one of ", what), "correct the model").value;
}

Transform transform_of(const Attributes& attributes) {
  static constexpr Named<Transform> kTransforms[] = {
      {"half_pixel", half_pixel},
      {"half_pixel_symmetric", half_pixel_symmetric},
      {"pytorch_half_pixel", pytorch_half_pixel},
      {"align_corners", align_corners},
      {"asymmetric", asymmetric},
      {"tf_crop_and_resize", tf_crop_and_resize},
  };
  return by_name(kTransforms, attributes.get_string("coordinate_transformation_mode", "half_pixel"),
                 "coordinate_transformation_mode");
}

Rounding rounding_of(const Attributes& attributes) {
  static constexpr Named<Rounding> kRoundings[] = {
      {"round_prefer_floor", [](double x) { return is_tie(x) ? std::floor(x) : std::round(x); }},
      {"round_prefer_ceil", [](double x) { return is_tie(x) ? std::ceil(x) : std::round(x); }},
      {"floor", [](double x) { return std::floor(x); }},
      {"ceil", [](double x) { return std::ceil(x); }},
  };
  return by_name(kRoundings, attributes.get_string("nearest_mode", "round_prefer_floor"), "nearest_mode");
}

/// An interpolation kernel: the weight of an element by its distance; 0 from `radius` on.
struct Filter {
  double radius, a;

  double operator()(double distance) const {
    const double x = std::abs(distance);
    if (x >= radius) return 0;
    if (radius == 1) return 1 - x;
    // Keys, Cubic convolution interpolation for digital image processing, 1981.
    return x <= 1 ? ((a + 2) * x - (a + 3)) * x * x + 1 : ((a * x - 5 * a) * x + 8 * a) * x - 4 * a;
  }
};

std::int64_t inside(double coordinate, std::int64_t extent) {
  return static_cast<std::int64_t>(std::clamp(coordinate, 0.0, static_cast<double>(extent - 1)));
}

class TapMaker {
 public:
  explicit TapMaker(const Attributes& attributes)
      : transform_(transform_of(attributes)),
        rounding_(rounding_of(attributes)),
        antialias_(attributes.get_int("antialias", 0) != 0),
        exclude_outside_(attributes.get_int("exclude_outside", 0) != 0) {
    static constexpr Named<double> kRadii[] = {{"nearest", 0}, {"linear", 1}, {"cubic", 2}};
    filter_ = {by_name(kRadii, attributes.get_string("mode", "nearest"), "mode"),
               attributes.get_float("cubic_coeff_a", -0.75f)};
    if (antialias_ && filter_.radius == 0)
      throw_input_error("mode linear or cubic with antialias", "nearest", "correct the Resize");
  }

  std::vector<Tap> operator()(const AxisGeometry& axis, std::int64_t o) const {
    const double x = transform_(axis, static_cast<float>(o));
    const double last = static_cast<double>(axis.input - 1);
    if (!std::isfinite(x))
      throw_input_error("finite scales and region of interest", fmt::to_string(x), "correct the Resize");
    if (transform_ == tf_crop_and_resize && (x < 0 || x > last)) return {};
    if (filter_.radius == 0) return {{inside(rounding_(x), axis.input), 1}};

    // For downscaling, an antialiasing filter is widened by the inverse scale.
    const double narrow = antialias_ ? std::min<double>(axis.scale, 1) : 1;
    const double reach = filter_.radius / narrow;
    std::vector<Tap> taps;
    double total = 0;
    // More than one radius outside of the axis, the end element has all the weight.
    const double centre = std::clamp(x, -reach, last + reach);
    const auto first = static_cast<std::int64_t>(std::floor(centre - reach)) + 1;
    const auto end = static_cast<std::int64_t>(std::ceil(centre + reach));
    for (std::int64_t at = first; at < end; ++at) {
      const auto i = static_cast<double>(at);
      const double weight = filter_((i - centre) * narrow);
      const bool outside = i < 0 || i > last;
      if (weight == 0 || (outside && exclude_outside_)) continue;
      total += weight;
      const std::int64_t index = inside(i, axis.input);
      if (!taps.empty() && taps.back().index == index)
        taps.back().weight += weight;
      else
        taps.push_back({index, weight});
    }
    if (total == 0) return {{inside(x, axis.input), 1}};
    for (Tap& tap : taps) tap.weight /= total;
    return taps;
  }

 private:
  Transform transform_;
  Rounding rounding_;
  bool antialias_, exclude_outside_;
  Filter filter_{};
};

bool is_given(const Tensor& tensor) { return tensor.is_defined() && tensor.count() > 0; }

void check_count(const Tensor& tensor, std::size_t count, const char* what) {
  if (static_cast<std::size_t>(tensor.count()) != count)
    throw_input_error(fmt::format("{} of Resize's {}", count, what), fmt::to_string(tensor.count()),
                      "check Resize's operands");
}

/// Scales and extents of the given axes, in f32 as ONNX Runtime computes them.
std::vector<AxisGeometry> geometry(const Attributes& attributes, const std::vector<std::int64_t>& extents,
                                   const Tensor& scales, const Tensor& sizes) {
  if (is_given(scales) == is_given(sizes) && !extents.empty())
    throw_input_error("either scales or sizes of a Resize", is_given(scales) ? "both" : "neither", "correct the model");
  std::vector<AxisGeometry> axes;
  if (is_given(scales)) {
    check_count(scales, extents.size(), "scales");
    for (std::size_t i = 0; i < extents.size(); ++i) {
      const float scale = convert(scales, DType::f32).data<float>()[i];
      const float length = std::floor(static_cast<float>(extents[i]) * scale);
      if (!(scale > 0) || !(length < static_cast<float>(std::numeric_limits<std::int64_t>::max())))
        throw_input_error("positive, finite scales", fmt::to_string(scale), "check Resize's operands");
      axes.push_back({extents[i], static_cast<std::int64_t>(length), scale});
    }
  } else if (is_given(sizes)) {
    check_count(sizes, extents.size(), "sizes");
    const std::vector<std::int64_t> wanted = to_int64s(sizes);
    for (std::size_t i = 0; i < extents.size(); ++i) {
      if (wanted[i] < 0) throw_input_error("sizes of at least 0", fmt::to_string(wanted[i]), "check Resize's operands");
      axes.push_back({extents[i], wanted[i],
                      extents[i] == 0 ? 1 : static_cast<float>(wanted[i]) / static_cast<float>(extents[i])});
    }
    const std::string policy = attributes.get_string("keep_aspect_ratio_policy", "stretch");
    if (policy != "stretch") {
      if (policy != "not_larger" && policy != "not_smaller")
        throw_input_error("Resize's keep_aspect_ratio_policy to be one of stretch, not_larger, not_smaller",
                          "'" + policy + "'", "correct the model");
      const auto [least, most] = std::ranges::minmax(axes, {}, &AxisGeometry::scale);
      const float scale = policy == "not_larger" ? least.scale : most.scale;
      for (AxisGeometry& axis : axes) {
        axis.scale = scale;
        axis.output = std::llround(axis.length());
      }
    }
  }
  return axes;
}

std::vector<std::size_t> resized_axes(const Attributes& attributes, const Shape& input) {
  if (attributes.has("axes")) return normalize_axes(attributes.get_ints("axes"), input.rank());
  std::vector<std::size_t> axes(input.rank());
  std::iota(axes.begin(), axes.end(), std::size_t{0});
  return axes;
}

std::vector<std::int64_t> extents_of(const Shape& input, const std::vector<std::size_t>& axes) {
  std::vector<std::int64_t> extents;
  for (std::size_t axis : axes) extents.push_back(input[axis]);
  return extents;
}

}  // namespace

Shape resized_shape(const Attributes& attributes, const Shape& input, const Tensor& scales, const Tensor& sizes) {
  const std::vector<std::size_t> resized = resized_axes(attributes, input);
  std::vector<std::int64_t> extents = extents_of(input, resized);
  const bool keeps_ratio = is_given(sizes) && attributes.get_string("keep_aspect_ratio_policy", "stretch") != "stretch";
  const bool has_unknown = std::ranges::find(extents, Shape::kUnknown) != extents.end();
  std::ranges::replace(extents, Shape::kUnknown, std::int64_t{1});
  const std::vector<AxisGeometry> geometries = geometry(attributes, extents, scales, sizes);
  Shape result = input;
  for (std::size_t i = 0; i < geometries.size(); ++i) {
    const std::size_t axis = resized[i];
    const bool open = keeps_ratio ? has_unknown : input[axis] == Shape::kUnknown && is_given(scales);
    result[axis] = open ? Shape::kUnknown : geometries[i].output;
  }
  return result;
}

namespace {

/// Every axis of the result, and the geometry of the resized ones. Throws Error if operands do not fit.
struct ResizeGeometry {
  std::vector<std::size_t> axes;
  std::vector<AxisGeometry> geometries;

  ResizeGeometry(const Attributes& attributes, const Shape& input, const Tensor& roi, const Tensor& scales,
                 const Tensor& sizes)
      : axes(resized_axes(attributes, input)),
        geometries(geometry(attributes, extents_of(input, axes), scales, sizes)) {
    const std::size_t n = geometries.size();
    if (attributes.get_string("coordinate_transformation_mode", "") == "tf_crop_and_resize") {
      if (!is_given(roi))
        throw_input_error("a region of interest with tf_crop_and_resize", "none", "correct the model");
      check_count(roi, 2 * n, "numbers of the region of interest");
      const std::vector<double> bounds = to_doubles(roi);
      for (std::size_t i = 0; i < n; ++i) {
        geometries[i].roi_start = static_cast<float>(bounds[i]);
        geometries[i].roi_end = static_cast<float>(bounds[i + n]);
      }
    }
    for (const AxisGeometry& axis : geometries)
      if (axis.input == 0 && axis.output > 0)
        throw_input_error("an operand with elements to resize", "shape " + input.to_string(), "check Resize's operand");
  }
};

}  // namespace

void check_resizing(const Attributes& attributes, const Shape& input, const Tensor& roi, const Tensor& scales,
                    const Tensor& sizes) {
  const TapMaker make_taps(attributes);
  // Coordinates are clamped to those of the first and the last element.
  for (const AxisGeometry& axis : ResizeGeometry(attributes, input, roi, scales, sizes).geometries)
    if (axis.output > 0) make_taps(axis, 0), make_taps(axis, axis.output - 1);
}

Resizing::Resizing(const Attributes& attributes, const Shape& input, const Tensor& roi, const Tensor& scales,
                   const Tensor& sizes) {
  const TapMaker make_taps(attributes);
  for (std::int64_t extent : input) {
    AxisTaps& taps = axes.emplace_back();
    for (std::int64_t i = 0; i < extent; ++i) taps.push_back({{i, 1}});
  }
  const ResizeGeometry resized(attributes, input, roi, scales, sizes);
  for (std::size_t i = 0; i < resized.axes.size(); ++i) {
    const AxisGeometry& axis = resized.geometries[i];
    AxisTaps& taps = axes[resized.axes[i]];
    taps.clear();
    for (std::int64_t o = 0; o < axis.output; ++o) taps.push_back(make_taps(axis, o));
  }
}

}  // namespace halfstep::ops
