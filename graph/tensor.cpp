#include <bit>
#include <cmath>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <limits>
#include <new>

#include <fmt/format.h>

#include "base/machine_memory.h"
#include "graph/pages.h"
#include <halfstep/base/error.h>
#include <halfstep/base/visit.h>
#include <halfstep/graph/tensor.h>

namespace halfstep {
namespace {

constexpr std::size_t kAlignment = 64;

std::shared_ptr<void> allocate(std::size_t bytes) {
  if (bytes >= kPagesOfItsOwn) return map_pages(bytes);
  const std::size_t rounded = (std::max<std::size_t>(bytes, 1) + kAlignment - 1) / kAlignment * kAlignment;
  void* p = std::aligned_alloc(kAlignment, rounded);
  if (!p) throw std::bad_alloc();
  std::memset(p, 0, rounded);
  return {p, [](void* q) { std::free(q); }};
}

// `value` as a float whose last bit is set if anything was cut off ("round to odd"): rounding that to a half type gives
// the same result as rounding `value`, unlike rounding to nearest twice (Boldo & Melquiond 2008).
float round_to_odd(double value) {
  const auto nearest = static_cast<float>(value);
  if (static_cast<double>(nearest) == value || !std::isfinite(nearest)) return nearest;
  auto bits = std::bit_cast<std::uint32_t>(nearest);
  if (std::fabs(static_cast<double>(nearest)) > std::fabs(value)) --bits;
  return std::bit_cast<float>(bits | 1u);
}

template <class To, class From>
To convert_one(From value) {
  using Wide = std::conditional_t<std::is_same_v<From, f16> || std::is_same_v<From, bf16>, float, From>;
  const Wide wide = static_cast<Wide>(value);
  if constexpr (std::is_same_v<To, bool>) {
    return wide != Wide{};
  } else if constexpr (std::is_same_v<To, f16> || std::is_same_v<To, bf16>) {
    if constexpr (std::is_same_v<Wide, double>)
      return To(round_to_odd(wide));
    else
      return To(static_cast<float>(wide));
  } else if constexpr (std::is_integral_v<To> && std::is_floating_point_v<Wide>) {
    // Out of range is undefined in C++: saturates, and NaN becomes 0.
    if (wide != wide) return To{};
    if (wide <= static_cast<Wide>(std::numeric_limits<To>::min())) return std::numeric_limits<To>::min();
    if (wide >= static_cast<Wide>(std::numeric_limits<To>::max())) return std::numeric_limits<To>::max();
    return static_cast<To>(wide);
  } else {
    return static_cast<To>(wide);
  }
}

void require_defined(DType dtype) {
  if (dtype == DType::undefined) throw_input_error("an element type for the tensor", "an undefined one", "");
}

std::size_t bits_in_memory(DType dtype) {
  return dtype == DType::string ? 8 * sizeof(std::string) : std::max<std::size_t>(bits_of(dtype), 1);
}

// The number of bytes is one that can be computed with.
void require_addressable(DType dtype, const Shape& shape) {
  if (static_cast<std::size_t>(shape.count()) > std::numeric_limits<std::size_t>::max() / bits_in_memory(dtype) / 2)
    throw_input_error("a tensor that fits the address space", "shape " + shape.to_string(), "check the model's shapes");
}

template <class To>
std::vector<To> to_vector(const Tensor& tensor) {
  std::vector<To> result(static_cast<std::size_t>(tensor.count()));
  visit_dtype(tensor.dtype(), [&]<class From>() {
    const From* from = tensor.data<From>();
    for (std::size_t i = 0; i < result.size(); ++i) result[i] = convert_one<To>(from[i]);
  });
  return result;
}

}  // namespace

Tensor::Tensor(DType dtype, Shape shape) : dtype_(dtype), shape_(std::move(shape)), count_(shape_.count()) {
  require_defined(dtype);
  check_fits_memory(dtype, shape_);
  if (dtype == DType::string) {
    data_ = std::shared_ptr<std::string[]>(new std::string[count_]);
    return;
  }
  data_ = allocate(bytes());
}

void check_fits_memory(DType dtype, const Shape& shape) {
  require_addressable(dtype, shape);
  // Systems promise more memory than there is, and end programs that come to use it.
  const auto bytes = static_cast<double>(shape.count()) * static_cast<double>(bits_in_memory(dtype)) / 8;
  const auto there_is = static_cast<double>(machine_memory());
  if (bytes > there_is)
    throw_failure(fmt::format("tensors that fit into this machine's {:.1f} GiB of memory", there_is / (1 << 30)),
                  fmt::format("{:.1f} GiB for the shape {}", bytes / (1 << 30), shape.to_string()),
                  "check the model's shapes, use a smaller batch, or a machine with more memory");
}

Tensor Tensor::view(DType dtype, Shape shape, void* data, std::shared_ptr<void> keep_alive) {
  require_defined(dtype);
  require_addressable(dtype, shape);
  Tensor t;
  t.dtype_ = dtype;
  t.shape_ = std::move(shape);
  t.count_ = t.shape_.count();
  if (!data && t.count_ > 0)
    throw_input_error("memory for a view of shape " + t.shape_.to_string(), "a null pointer", "");
  t.data_ = std::shared_ptr<void>(std::move(keep_alive), data);
  return t;
}

void Tensor::require_bits(DType read_as, std::size_t bytes) const {
  if (!is_defined()) return;
  const bool for_bits = read_as == DType::undefined || read_as == DType::u8 || read_as == DType::u16 ||
                        read_as == DType::u32 || read_as == DType::u64;
  if (for_bits && 8 * bytes == bits_of(dtype_)) return;
  throw_input_error(read_as == DType::undefined ? fmt::format("a tensor whose elements have {} bytes", bytes)
                                                : fmt::format("a tensor of {}", name_of(read_as)),
                    fmt::format("one of {}", name_of(dtype_)),
                    "read the elements in the tensor's own type, or convert it");
}

void Tensor::require_count(std::size_t values, const Shape& shape) {
  const std::int64_t count = shape.count();
  if (values != static_cast<std::size_t>(count))
    throw_input_error(fmt::format("{} values for the shape {}", count, shape.to_string()), std::to_string(values), "");
}

Tensor Tensor::clone() const {
  if (!is_defined()) return {};
  Tensor copy(dtype_, shape_);
  if (dtype_ == DType::string)
    std::copy_n(data<std::string>(), count_, copy.data<std::string>());
  else if (bytes() > 0)
    std::memcpy(copy.raw(), raw(), bytes());
  return copy;
}

Tensor Tensor::reshaped(Shape shape) const {
  if (shape.count() != count_)
    throw_input_error("a shape of " + std::to_string(count_) + " elements", shape.to_string(), "check the reshape");
  Tensor t = *this;
  t.shape_ = std::move(shape);
  return t;
}

Tensor Tensor::rows(std::int64_t first, std::int64_t last) const {
  const std::int64_t rows = shape_.rank() > 0 ? shape_[0] : 0;
  if (first < 0 || first > last || last > rows)
    throw_input_error(fmt::format("rows of a tensor of shape {}", shape_.to_string()),
                      fmt::format("rows [{}, {})", first, last), "");
  if (bits_of(dtype_) % 8 != 0 || bits_of(dtype_) == 0)
    throw_input_error("rows of a tensor whose elements are whole bytes", std::string(name_of(dtype_)), "");
  std::vector<std::int64_t> dims = shape_.dims();
  const std::int64_t row = shape_.count(1, shape_.rank());
  dims[0] = last - first;
  auto* start = static_cast<std::byte*>(data_.get()) + bytes_of(dtype_, static_cast<std::size_t>(first * row));
  return view(dtype_, Shape(std::move(dims)), start, data_);
}

Tensor convert(const Tensor& from, DType to) {
  Tensor result(to, from.shape());
  visit_dtype(to, [&]<class To>() {
    To* out = result.data<To>();
    visit_dtype(from.dtype(), [&]<class From>() {
      const From* in = from.data<From>();
      for (std::int64_t i = 0; i < from.count(); ++i) out[i] = convert_one<To>(in[i]);
    });
  });
  return result;
}

std::vector<double> to_doubles(const Tensor& tensor) { return to_vector<double>(tensor); }
std::vector<std::int64_t> to_int64s(const Tensor& tensor) { return to_vector<std::int64_t>(tensor); }

bool identical(const Tensor& a, const Tensor& b) {
  if (a.dtype() != b.dtype() || a.shape() != b.shape()) return false;
  if (a.dtype() == DType::string)
    return std::equal(a.data<std::string>(), a.data<std::string>() + a.count(), b.data<std::string>());
  return a.bytes() == 0 || std::memcmp(a.raw(), b.raw(), a.bytes()) == 0;
}

}  // namespace halfstep
