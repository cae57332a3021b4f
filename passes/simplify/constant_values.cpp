#include "passes/simplify/constant_values.h"

#include <algorithm>
#include <cmath>
#include <cstdint>

namespace halfstep {
namespace {

// The first so many elements as doubles.
std::vector<double> first_elements(const Tensor& tensor, std::int64_t count) {
  if (tensor.count() == 0) return {};
  return to_doubles(tensor.reshaped(Shape{tensor.count()}).rows(0, std::min(count, tensor.count())));
}

// Whether `holds` for some first elements and then for all.
template <class Predicate>
bool holds_for_all(const Tensor& tensor, std::int64_t first, const Predicate& holds) {
  return holds(first_elements(tensor, first)) && (tensor.count() <= first || holds(to_doubles(tensor)));
}

// Tables are stored in f16, too.
bool is_one(double squares) { return std::abs(squares - 1) < 4e-3; }
// Sines and cosines of angles that are no multiples of a quarter turn: ones and zeros have squares that add up to 1,
// too.
bool is_between(double v) { return std::abs(v) > 0.01 && std::abs(v) < 0.99; }

// Whether elements i and i + distance of each pair make up a sine and its cosine.
bool are_pairs(const std::vector<double>& row_elements, std::int64_t width, std::int64_t step, std::int64_t distance) {
  bool any_between = false;
  const auto rows = static_cast<std::int64_t>(row_elements.size()) / width;
  for (std::int64_t row = 0; row < rows; ++row)
    for (std::int64_t pair = 0; pair < width / 2; ++pair) {
      const auto at = static_cast<std::size_t>(row * width + pair * step);
      const double a = row_elements[at], b = row_elements[at + static_cast<std::size_t>(distance)];
      if (!is_one(a * a + b * b)) return false;
      any_between = any_between || is_between(a);
    }
  return any_between;
}

}  // namespace

bool all_equal(const Tensor& tensor) {
  const std::vector<double> first = first_elements(tensor, 1);
  return first.empty() || all_equal_to(tensor, first[0]);
}

bool all_equal_to(const Tensor& tensor, double value) {
  constexpr std::int64_t kFirst = 64;
  return tensor.count() > 0 && holds_for_all(tensor, kFirst, [&](const std::vector<double>& elements) {
           return std::all_of(elements.begin(), elements.end(), [&](double v) { return v == value; });
         });
}

bool counts_up(const Tensor& tensor) {
  constexpr std::int64_t kFewest = 4;
  return tensor.count() >= kFewest && holds_for_all(tensor, kFewest, [](const std::vector<double>& elements) {
           for (std::size_t i = 0; i < elements.size(); ++i)
             if (elements[i] != static_cast<double>(i)) return false;
           return true;
         });
}

bool is_sine_table(const Tensor& tensor) {
  const Shape& shape = tensor.shape();
  if (shape.rank() < 2 || shape.dim(-1) < 4 || shape.dim(-1) % 2 != 0 || tensor.count() == 0) return false;
  const std::int64_t width = shape.dim(-1), rows = tensor.count() / width;
  if (rows < 2) return false;
  const auto holds = [&](std::int64_t step, std::int64_t distance) {
    return holds_for_all(tensor, 2 * width, [&](const std::vector<double>& elements) {
      return are_pairs(elements, width, step, distance);
    });
  };
  return holds(2, 1) || holds(1, width / 2);
}

bool are_sine_and_cosine(const Tensor& a, const Tensor& b) {
  constexpr std::int64_t kFirst = 64;
  if (a.shape() != b.shape() || a.count() < kFirst / 4) return false;
  const auto fit = [](const std::vector<double>& x, const std::vector<double>& y) {
    for (std::size_t i = 0; i < x.size(); ++i)
      if (!is_one(x[i] * x[i] + y[i] * y[i])) return false;
    return true;
  };
  if (!fit(first_elements(a, kFirst), first_elements(b, kFirst))) return false;
  const std::vector<double> x = to_doubles(a);
  return std::any_of(x.begin(), x.end(), is_between) && fit(x, to_doubles(b));
}

}  // namespace halfstep
