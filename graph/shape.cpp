#include <algorithm>

#include <halfstep/base/error.h>
#include <halfstep/graph/shape.h>

namespace halfstep {

bool Shape::is_static() const {
  return ranked_ && std::all_of(dims_.begin(), dims_.end(), [](std::int64_t d) { return d >= 0; });
}

void Shape::throw_no_axis(std::size_t axis) const {
  throw_input_error("an axis of the shape " + to_string(), "axis " + std::to_string(static_cast<std::ptrdiff_t>(axis)),
                    "");
}

std::int64_t Shape::count() const { return count(0, rank()); }

std::int64_t Shape::count(std::size_t first, std::size_t last) const {
  if (!ranked_) throw_input_error("a shape of known rank", to_string(), "bind the shapes first");
  if (first > last || last > rank())
    throw_input_error("axes of the shape " + to_string(),
                      "axes [" + std::to_string(first) + ", " + std::to_string(last) + ")", "");
  std::int64_t product = 1;
  for (std::size_t i = first; i < last; ++i) {
    if (dims_[i] < 0) throw_input_error("a shape with every extent known", to_string(), "bind the shapes first");
    if (__builtin_mul_overflow(product, dims_[i], &product))
      throw_input_error("a tensor whose element count fits 63 bits", "shape " + to_string(),
                        "check the model's shapes");
  }
  return product;
}

std::vector<std::int64_t> Shape::strides() const {
  std::vector<std::int64_t> result(rank());
  std::int64_t step = 1;
  for (std::size_t i = rank(); i-- > 0;) {
    result[i] = step;
    step *= dims_[i];
  }
  return result;
}

std::string Shape::to_string() const {
  if (!ranked_) return "[...]";
  std::string text = "[";
  for (std::size_t i = 0; i < dims_.size(); ++i) {
    if (i) text += ", ";
    text += dims_[i] < 0 ? "?" : std::to_string(dims_[i]);
  }
  return text + "]";
}

Shape broadcast(const Shape& a, const Shape& b) {
  if (!a.is_ranked() || !b.is_ranked())
    throw_input_error("shapes of known rank to broadcast", a.to_string() + " and " + b.to_string(),
                      "bind the shapes first");
  std::vector<std::int64_t> dims(std::max(a.rank(), b.rank()));
  for (std::size_t i = 0; i < dims.size(); ++i) {
    const std::int64_t x = i < a.rank() ? a[a.rank() - 1 - i] : 1;
    const std::int64_t y = i < b.rank() ? b[b.rank() - 1 - i] : 1;
    if (x != y && x != 1 && y != 1)
      throw_input_error("shapes that broadcast together (equal extents, or 1)", a.to_string() + " and " + b.to_string(),
                        "check the shapes fed to this operator");
    dims[dims.size() - 1 - i] = x == 1 ? y : x;
  }
  return Shape(std::move(dims));
}

std::size_t normalize_axis(std::int64_t axis, std::size_t rank) {
  const auto r = static_cast<std::int64_t>(rank);
  if (axis < -r || axis >= r)
    throw_input_error("an axis in [-" + std::to_string(r) + ", " + std::to_string(r) + ")", std::to_string(axis),
                      "check the operator's axis attribute");
  return static_cast<std::size_t>(axis < 0 ? axis + r : axis);
}

}  // namespace halfstep
