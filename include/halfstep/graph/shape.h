// The shape of a tensor.
#pragma once

#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <string>
#include <vector>

#include <halfstep/base/api.h>

namespace HALFSTEP_API halfstep {

/// Extents of all axes. An extent may be `kUnknown` until shapes are bound. A shape is unranked if even the number of
/// axes is unknown.
class Shape {
 public:
  static constexpr std::int64_t kUnknown = -1;

  Shape() = default;  ///< a scalar
  Shape(std::initializer_list<std::int64_t> dims) : dims_(dims) {}
  explicit Shape(std::vector<std::int64_t> dims) : dims_(std::move(dims)) {}
  static Shape unranked() {
    Shape s;
    s.ranked_ = false;
    return s;
  }

  bool is_ranked() const { return ranked_; }
  /// Whether the shape is ranked and every extent is known.
  bool is_static() const;

  std::size_t rank() const { return dims_.size(); }
  /// Throws Error if there is no such axis.
  std::int64_t operator[](std::size_t axis) const { return dims_[checked(axis)]; }
  std::int64_t& operator[](std::size_t axis) { return dims_[checked(axis)]; }
  /// Extent of an axis; negative axes count from the back. Throws Error if there is no such axis.
  std::int64_t dim(std::int64_t axis) const {
    return dims_[checked(static_cast<std::size_t>(axis < 0 ? axis + static_cast<std::int64_t>(rank()) : axis))];
  }
  const std::vector<std::int64_t>& dims() const { return dims_; }
  auto begin() const { return dims_.begin(); }
  auto end() const { return dims_.end(); }

  /// Product of all extents; 1 for a scalar. Throws Error unless the shape is static and the product fits int64.
  std::int64_t count() const;
  /// Product of the extents of axes [first, last). Throws Error unless these are known and the product fits int64.
  std::int64_t count(std::size_t first, std::size_t last) const;

  /// Row-major strides in elements. The extents must be known.
  std::vector<std::int64_t> strides() const;

  bool operator==(const Shape&) const = default;

  /// "[32, 784]", "[?, 784]", "[]", "[...]" for unranked.
  std::string to_string() const;

 private:
  std::size_t checked(std::size_t axis) const {
    if (axis >= dims_.size()) [[unlikely]]
      throw_no_axis(axis);
    return axis;
  }
  [[noreturn]] void throw_no_axis(std::size_t axis) const;

  std::vector<std::int64_t> dims_;
  bool ranked_ = true;
};

/// Shape of an elementwise result by ONNX multidirectional broadcasting. Throws Error if the shapes are not compatible
/// or one is unranked.
Shape broadcast(const Shape& a, const Shape& b);

/// Converts `axis` to a non-negative axis. Throws Error unless -rank <= axis < rank.
std::size_t normalize_axis(std::int64_t axis, std::size_t rank);

}  // namespace halfstep
