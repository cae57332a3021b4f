// A tensor in host memory.
#pragma once

#include <algorithm>
#include <cstddef>
#include <memory>
#include <span>
#include <string>
#include <type_traits>
#include <vector>

#include <halfstep/base/api.h>
#include <halfstep/base/dtype.h>
#include <halfstep/graph/shape.h>

namespace HALFSTEP_API halfstep {

/// Element type, static shape and a row-major, 64-byte-aligned buffer.
/// Copies are cheap: they share the buffer, and a write through one is visible in all. `clone` copies the buffer.
class Tensor {
 public:
  Tensor() = default;  ///< undefined tensor, without elements: dtype `undefined`
  /// Zero-filled (empty strings for DType::string). Throws Error unless the type is defined and the shape static.
  Tensor(DType dtype, Shape shape);
  /// A tensor over external memory. `keep_alive` is held for the lifetime of the tensor and its copies. Throws Error as
  /// the constructor does, and if `data` is null but the shape has elements.
  static Tensor view(DType dtype, Shape shape, void* data, std::shared_ptr<void> keep_alive = {});

  /// A scalar or a vector from C++ values: `Tensor::scalar(1.5f)`, `Tensor::of<std::int64_t>({2, 3})`.
  template <class T>
  static Tensor scalar(T value) {
    static_assert(element_type<T>() != DType::undefined, "no element type has this C++ type");
    Tensor t(element_type<T>(), Shape{});
    *t.data<T>() = value;
    return t;
  }
  template <class T>
  static Tensor of(const std::vector<T>& values) {
    return of<T>(values, Shape{static_cast<std::int64_t>(values.size())});
  }
  /// Throws Error unless the number of values is the shape's element count.
  template <class T>
  static Tensor of(const std::vector<T>& values, Shape shape) {
    static_assert(element_type<T>() != DType::undefined, "no element type has this C++ type");
    require_count(values.size(), shape);
    Tensor t(element_type<T>(), std::move(shape));
    std::copy(values.begin(), values.end(), t.data<T>());
    return t;
  }

  bool is_defined() const { return dtype_ != DType::undefined; }
  DType dtype() const { return dtype_; }
  const Shape& shape() const { return shape_; }
  std::int64_t count() const { return count_; }
  std::size_t bytes() const { return bytes_of(dtype_, static_cast<std::size_t>(count_)); }

  void* raw() { return data_.get(); }
  const void* raw() const { return data_.get(); }
  /// The elements; nullptr for an undefined tensor. Throws Error unless T is the dtype's C++ type (std::string for
  /// DType::string) or a type of the same width for raw bits: an unsigned integer, or a type that corresponds to no
  /// element type. Call it once, outside of loops.
  template <class T>
  T* data() {
    check_read_as<T>();
    return static_cast<T*>(data_.get());
  }
  template <class T>
  const T* data() const {
    check_read_as<T>();
    return static_cast<const T*>(data_.get());
  }
  template <class T>
  std::span<T> span() {
    return {data<T>(), static_cast<std::size_t>(count_)};
  }
  template <class T>
  std::span<const T> span() const {
    return {data<T>(), static_cast<std::size_t>(count_)};
  }

  Tensor clone() const;
  /// The same elements with another shape of equal count (shares the buffer).
  Tensor reshaped(Shape shape) const;
  /// Rows [first, last) along axis 0 (shares the buffer). Throws Error for rows out of range and for elements that are
  /// not whole bytes (packed 4- and 2-bit types).
  Tensor rows(std::int64_t first, std::int64_t last) const;

 private:
  template <class T>
  static constexpr DType element_type() {
    return std::is_same_v<std::remove_cv_t<T>, std::string> ? DType::string : dtype_of<T>();
  }
  template <class T>
  void check_read_as() const {
    if (dtype_ != element_type<T>()) [[unlikely]]
      require_bits(element_type<T>(), sizeof(T));
  }
  void require_bits(DType read_as, std::size_t bytes) const;
  static void require_count(std::size_t values, const Shape& shape);

  DType dtype_ = DType::undefined;
  Shape shape_;
  std::int64_t count_ = 0;
  std::shared_ptr<void> data_;
};

/// Throws Error if a tensor of this type and static shape needs more memory than the machine has, as its construction
/// would.
void check_fits_memory(DType dtype, const Shape& shape);

/// A copy of `from` converted to type `to` (floats round to nearest even; float → int truncates; → bool is != 0).
/// Both types must be floats, integers or bool.
Tensor convert(const Tensor& from, DType to);

/// All elements as double or int64, from any of the numeric types above. For tools and tests, not for a step.
std::vector<double> to_doubles(const Tensor& tensor);
std::vector<std::int64_t> to_int64s(const Tensor& tensor);

/// Whether dtype, shape and bytes are equal.
bool identical(const Tensor& a, const Tensor& b);

}  // namespace halfstep
