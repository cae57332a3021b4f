#include "conformance/compare.h"

#include <algorithm>
#include <cmath>
#include <vector>

#include <fmt/format.h>

namespace halfstep {
namespace {

bool within(double a, double b, const Tolerance& tolerance) {
  if (a == b || (std::isnan(a) && std::isnan(b))) return true;
  return std::isfinite(a) && std::isfinite(b) &&
         std::fabs(a - b) <= tolerance.absolute + tolerance.relative * std::fabs(b);
}

}  // namespace

double precision_of(DType dtype) {
  switch (dtype) {
    case DType::f16:
      return 0x1p-10;
    case DType::bf16:
      return 0x1p-7;
    case DType::f64:
      return 0x1p-52;
    default:
      return 0x1p-23;
  }
}

double largest_element(const Tensor& tensor) {
  double largest = 0;
  for (double x : to_doubles(tensor))
    if (std::isfinite(x)) largest = std::max(largest, std::fabs(x));
  return largest;
}

std::string difference(std::string_view name, const Tensor& found, const Tensor& wanted, const Tolerance& tolerance,
                       std::string_view source) {
  if (found.dtype() != wanted.dtype() || found.shape() != wanted.shape())
    return fmt::format("output '{}' is {}{}, and {}{} {}", name, name_of(found.dtype()), found.shape().to_string(),
                       name_of(wanted.dtype()), wanted.shape().to_string(), source);
  if (identical(found, wanted)) return {};
  if (is_float(wanted.dtype())) {
    const std::vector<double> a = to_doubles(found), b = to_doubles(wanted);
    for (std::size_t i = 0; i < a.size(); ++i)
      if (!within(a[i], b[i], tolerance))
        return fmt::format("output '{}', element {}: {:.9g}, and {:.9g} {} (allowed: {:.3g})", name, i, a[i], b[i],
                           source, tolerance.absolute + tolerance.relative * std::fabs(b[i]));
    return {};
  }
  if (is_integer(wanted.dtype()) || wanted.dtype() == DType::boolean) {
    const std::vector<std::int64_t> a = to_int64s(found), b = to_int64s(wanted);
    for (std::size_t i = 0; i < a.size(); ++i)
      if (a[i] != b[i]) return fmt::format("output '{}', element {}: {}, and {} {}", name, i, a[i], b[i], source);
  }
  return fmt::format("output '{}' of type {} differs from that {}", name, name_of(wanted.dtype()), source);
}

}  // namespace halfstep
