// A tensor in host memory.
#pragma once

#include <cstddef>
#include <memory>
#include <span>
#include <vector>

#include "graph/dtype.h"
#include "graph/shape.h"

namespace halfstep {

/// Element type, static shape and a row-major, 64-byte-aligned buffer.
/// Copies share the buffer (they are cheap, and a write through one is seen by all); `clone` copies it.
class Tensor {
 public:
  Tensor() = default;                ///< holds nothing: dtype `undefined`
  Tensor(DType dtype, Shape shape);  ///< zero-filled (empty strings for DType::string)
  /// Elements owned elsewhere; `keep_alive` is held for as long as the tensor or a copy lives.
  static Tensor view(DType dtype, Shape shape, void* data, std::shared_ptr<void> keep_alive = {});

  /// A scalar, or a vector, of C++ values: `Tensor::scalar(1.5f)`, `Tensor::of<std::int64_t>({2, 3})`.
  template <class T>
  static Tensor scalar(T value) {
    Tensor t(dtype_of<T>(), Shape{});
    *t.data<T>() = value;
    return t;
  }
  template <class T>
  static Tensor of(const std::vector<T>& values) {
    return of<T>(values, Shape{static_cast<std::int64_t>(values.size())});
  }
  template <class T>
  static Tensor of(const std::vector<T>& values, Shape shape) {
    Tensor t(dtype_of<T>(), std::move(shape));
    for (std::size_t i = 0; i < values.size(); ++i) t.data<T>()[i] = values[i];
    return t;
  }

  bool is_defined() const { return dtype_ != DType::undefined; }
  DType dtype() const { return dtype_; }
  const Shape& shape() const { return shape_; }
  std::int64_t count() const { return count_; }
  std::size_t bytes() const { return bytes_of(dtype_, static_cast<std::size_t>(count_)); }

  void* raw() { return data_.get(); }
  const void* raw() const { return data_.get(); }
  /// The elements; T must be the dtype's C++ type (or std::string for DType::string).
  template <class T>
  T* data() {
    return static_cast<T*>(data_.get());
  }
  template <class T>
  const T* data() const {
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
  /// The same elements under another shape of equal count (shares the buffer).
  Tensor reshaped(Shape shape) const;
  /// Rows [first, last) along axis 0 (shares the buffer). Not for packed 4- and 2-bit types.
  Tensor rows(std::int64_t first, std::int64_t last) const;

 private:
  DType dtype_ = DType::undefined;
  Shape shape_;
  std::int64_t count_ = 0;
  std::shared_ptr<void> data_;
};

/// Throws Error where a tensor of this type and static shape needs more memory than the machine has, as making it does.
void check_fits_memory(DType dtype, const Shape& shape);

/// `from` as `to`: a copy, numerically converted (floats round to nearest even; float → int truncates; → bool is != 0).
/// Both types must be floats, integers or bool.
Tensor convert(const Tensor& from, DType to);

/// Every element as double / int64 (any of the numeric types above). For tools and tests, not for a step.
std::vector<double> to_doubles(const Tensor& tensor);
std::vector<std::int64_t> to_int64s(const Tensor& tensor);

/// Equal dtype, shape and bytes.
bool identical(const Tensor& a, const Tensor& b);

}  // namespace halfstep
