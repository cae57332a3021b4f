#include "ops/magnitude.h"

#include <algorithm>
#include <cmath>
#include <numeric>

#include <onnx/onnx_pb.h>

namespace halfstep {

const std::vector<std::int64_t>& MagnitudeCall::dims(std::size_t k) const {
  static const std::vector<std::int64_t> unknown;
  return is_given(k) ? operands_[k]->dims : unknown;
}

const onnx::AttributeProto* MagnitudeCall::attribute(std::string_view name) const {
  for (const auto& attribute : node_.attribute())
    if (attribute.name() == name) return &attribute;
  return nullptr;
}

double MagnitudeCall::real(std::string_view name, double otherwise) const {
  const auto* found = attribute(name);
  return found ? static_cast<double>(found->f()) : otherwise;
}

std::int64_t MagnitudeCall::integer(std::string_view name, std::int64_t otherwise) const {
  const auto* found = attribute(name);
  return found ? found->i() : otherwise;
}

namespace ops::magnitude {
namespace {

constexpr double kUnknown = Magnitude::kUnknown;

double squared(double x) { return x * x; }

double product_of(const std::vector<std::int64_t>& dims, std::size_t first) {
  return std::accumulate(dims.begin() + static_cast<std::ptrdiff_t>(std::min(first, dims.size())), dims.end(), 1.0,
                         [](double product, std::int64_t extent) { return product * static_cast<double>(extent); });
}

}  // namespace

double sum(const MagnitudeCall& in) {
  double total = 0;
  for (std::size_t k = 0; k < in.count(); ++k) total += in.square(k);
  return total;
}

double product(const MagnitudeCall& in) { return in.square(0) * in.square(1); }

// The mean of a reciprocal is only known for constants.
double quotient(const MagnitudeCall& in) { return in.dims(1).empty() ? kUnknown : in.square(0) / in.square(1); }

double convolution(const MagnitudeCall& in) {
  const auto& filter = in.dims(1);
  if (filter.size() < 3) return kUnknown;
  return product(in) * product_of(filter, 1) + in.square_or(2, 0);
}

double transposed_convolution(const MagnitudeCall& in) {
  const auto& filter = in.dims(1);
  if (filter.size() < 3) return kUnknown;
  double overlap = product_of(filter, 2);
  if (const auto* strides = in.attribute("strides"))
    for (const std::int64_t stride : strides->ints()) overlap /= static_cast<double>(stride);
  const double channels = static_cast<double>(filter[0]) / static_cast<double>(in.integer("group", 1));
  return product(in) * channels * overlap + in.square_or(2, 0);
}

double gemm(const MagnitudeCall& in) {
  const auto &a = in.dims(0), &b = in.dims(1);
  double rows = kUnknown;
  if (b.size() == 2)
    rows = static_cast<double>(b[in.integer("transB", 0) ? 1 : 0]);
  else if (a.size() == 2)
    rows = static_cast<double>(a[in.integer("transA", 0) ? 0 : 1]);
  return squared(in.real("alpha", 1)) * product(in) * rows + squared(in.real("beta", 1)) * in.square_or(2, 0);
}

double matrix_product(const MagnitudeCall& in) {
  const auto &a = in.dims(0), &b = in.dims(1);
  if (!b.empty()) return product(in) * static_cast<double>(b[b.size() < 2 ? 0 : b.size() - 2]);
  return a.empty() ? kUnknown : product(in) * static_cast<double>(a.back());
}

double batch_normalization(const MagnitudeCall& in) {
  const double scale = in.square(1), bias = in.square(2), mean = in.square(3);
  if (in.integer("training_mode", 0) != 0) return scale + bias;
  const double variance = std::sqrt(in.square(4)) + in.real("epsilon", 1e-5);
  return scale * (in.square(0) + mean) / variance + bias;
}

// An input far below epsilon is not scaled to 1.
double normalization(const MagnitudeCall& in) {
  const double x = std::isnan(in.square(0)) ? 1 : in.square(0) / (in.square(0) + in.real("epsilon", 1e-5));
  return x * in.square(1) + in.square_or(2, 0);
}

double clip(const MagnitudeCall& in) {
  const bool by_attributes = in.count() == 1;
  const double low = by_attributes ? squared(in.real("min", -INFINITY)) : in.square_or(1, INFINITY);
  const double high = by_attributes ? squared(in.real("max", INFINITY)) : in.square_or(2, INFINITY);
  const double x = high < in.square(0) ? high : in.square(0);
  return low == 0 ? x / 2 : x;
}

double same(const MagnitudeCall& in) { return in.square(0); }

// By the midpoint rule over four standard deviations.
double of_function(double square, double (*f)(double x, double alpha), double alpha) {
  if (std::isnan(square)) return kUnknown;
  constexpr int kPoints = 64;
  constexpr double kReach = 4;
  double total = 0, weights = 0;
  for (int i = 0; i < kPoints; ++i) {
    const double z = kReach * ((2.0 * i + 1) / kPoints - 1), weight = std::exp(-z * z / 2);
    total += weight * squared(f(std::sqrt(square) * z, alpha));
    weights += weight;
  }
  return total / weights;
}

}  // namespace ops::magnitude
}  // namespace halfstep
