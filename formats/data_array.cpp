#include <algorithm>
#include <bit>
#include <cstring>
#include <numeric>
#include <utility>

#include <fmt/format.h>

#include "base/mapped_file.h"
#include <halfstep/base/error.h>
#include <halfstep/formats/data_array.h>
#include <halfstep/formats/row_source.h>
#include <halfstep/graph/tensor_bytes.h>

namespace halfstep {
namespace {

static_assert(std::endian::native == std::endian::little);

// Limit of what a random read may page in besides the row itself: the kernel maps a window around a fault.
constexpr std::size_t kFaultWindow = std::size_t{64} << 10;

template <class Word>
Word load_word(const std::byte* at, bool big_endian) {
  Word word;
  std::memcpy(&word, at, sizeof word);
  if constexpr (sizeof(Word) == 2)
    return big_endian ? __builtin_bswap16(word) : word;
  else if constexpr (sizeof(Word) == 4)
    return big_endian ? __builtin_bswap32(word) : word;
  else if constexpr (sizeof(Word) == 8)
    return big_endian ? __builtin_bswap64(word) : word;
  else
    return word;
}

/// `count` elements from `from` on, at `offsets[i]` elements (contiguous without offsets).
template <class Word>
void copy_words(const std::byte* from, std::size_t count, const std::int64_t* offsets, bool big_endian, std::byte* to) {
  for (std::size_t i = 0; i < count; ++i) {
    const Word word =
        load_word<Word>(from + sizeof(Word) * (offsets ? static_cast<std::size_t>(offsets[i]) : i), big_endian);
    std::memcpy(to + sizeof(Word) * i, &word, sizeof word);
  }
}

// Each takes 8 bytes to find it again.
constexpr std::int64_t kMostScattered = std::int64_t{1} << 26;

/// For each element of a row, in C order, where it lies in a Fortran-ordered array counted from the row's first.
std::vector<std::int64_t> fortran_row_offsets(const Shape& shape) {
  std::vector<std::int64_t> offsets{0};
  std::int64_t stride = shape[0];
  std::vector<std::int64_t> strides;
  for (std::size_t axis = 1; axis < shape.rank(); ++axis) {
    strides.push_back(stride);
    stride *= shape[axis];
  }
  for (std::size_t axis = 1; axis < shape.rank(); ++axis) {
    std::vector<std::int64_t> longer;
    longer.reserve(offsets.size() * static_cast<std::size_t>(shape[axis]));
    for (std::int64_t offset : offsets)
      for (std::int64_t i = 0; i < shape[axis]; ++i) longer.push_back(offset + i * strides[axis - 1]);
    offsets = std::move(longer);
  }
  return offsets;
}

/// Whether an exponent of all ones (NaN, infinity) occurs.
template <class Word>
bool any_non_finite(const void* data, std::size_t count, Word exponent) {
  const Word* words = static_cast<const Word*>(data);
  Word found = 0;
  for (std::size_t i = 0; i < count; ++i) found |= static_cast<Word>((words[i] & exponent) == exponent);
  return found != 0;
}

bool any_non_finite(DType dtype, const void* data, std::size_t count) {
  switch (dtype) {
    case DType::f16:
      return any_non_finite<std::uint16_t>(data, count, 0x7c00u);
    case DType::bf16:
      return any_non_finite<std::uint16_t>(data, count, 0x7f80u);
    case DType::f32:
      return any_non_finite<std::uint32_t>(data, count, 0x7f800000u);
    case DType::f64:
      return any_non_finite<std::uint64_t>(data, count, 0x7ff0000000000000u);
    default:
      return false;
  }
}

}  // namespace

std::string RowType::to_string() const { return std::string(name_of(dtype)) + " " + shape.to_string(); }

void require_finite(const std::string& name, const RowType& type, const void* data,
                    std::span<const std::int64_t> rows) {
  const auto count = static_cast<std::size_t>(type.shape.count());
  if (!any_non_finite(type.dtype, data, count * rows.size())) return;
  const auto* bytes = static_cast<const std::byte*>(data);
  const std::size_t element = bytes_of(type.dtype, 1);
  for (std::size_t i = 0; i < rows.size() * count; ++i)
    if (any_non_finite(type.dtype, bytes + i * element, 1))
      throw_input_error("finite numbers in the data",
                        fmt::format("row {} of {} has NaN or infinity (or overflows {}) at its element {}",
                                    rows[i / count], name, name_of(type.dtype), i % count),
                        "clean the data");
}

void read_in_place(RowSource& source, std::span<const std::int64_t> rows, const RowDraw& draw, NamedTensors& out) {
  const auto places = [&] {
    std::uintptr_t sum = out.size();
    for (auto& [name, tensor] : out) sum = sum * 31 + reinterpret_cast<std::uintptr_t>(tensor.raw());
    return sum;
  };
  const std::uintptr_t before = places();
  source.read(rows, draw, out);
  if (places() != before)
    throw_failure("a source of rows that writes to the tensors it is given", "others in their place",
                  "fill them: out.at(name).data<float>()");
}

DataArray::DataArray(std::string name, DType dtype, Shape shape)
    : name_(std::move(name)), dtype_(dtype), shape_(std::move(shape)) {
  std::vector<std::int64_t> row_dims = shape_.dims();
  if (!row_dims.empty()) row_dims.erase(row_dims.begin());
  row_type_ = {dtype_, Shape(std::move(row_dims))};
  // An array without elements may have a row too large to count ([0, 2^40, 2^40]); it is never read.
  row_bytes_ = known_bytes_of(dtype_, row_type_.shape).value_or(0);
}

DataArray DataArray::made(std::string name, RowType type, std::int64_t rows, RowMaker make) {
  std::vector<std::int64_t> dims{rows};
  dims.insert(dims.end(), type.shape.begin(), type.shape.end());
  DataArray array(std::move(name), type.dtype, Shape(std::move(dims)));
  array.make_ = std::move(make);
  return array;
}

DataArray DataArray::of(std::shared_ptr<RowSource> source, const std::string& name) {
  const std::map<std::string, RowType> types = source->types();
  const auto type = types.find(name);
  if (type == types.end())
    throw_input_error(fmt::format("'{}' among what the rows of a source have", name), "none", "check its types");
  if (bits_of(type->second.dtype) == 0 || bits_of(type->second.dtype) % 8 != 0 || !type->second.shape.is_static())
    throw_input_error("rows of a static shape whose elements are whole bytes",
                      fmt::format("{} of '{}'", type->second.to_string(), name), "check the types of the source");
  DataArray array =
      made(name, type->second, source->rows(),
           [source, name, type = type->second](std::span<const std::int64_t> rows, const RowDraw& draw, void* out) {
             std::vector<std::int64_t> dims{static_cast<std::int64_t>(rows.size())};
             dims.insert(dims.end(), type.shape.begin(), type.shape.end());
             NamedTensors into{{name, Tensor::view(type.dtype, Shape(std::move(dims)), out)}};
             read_in_place(*source, rows, draw, into);
           });
  array.source_ = std::move(source);
  return array;
}

DataArray::DataArray(std::string name, DType dtype, Shape shape, SharedBytes bytes, StorageOrder order)
    : DataArray(std::move(name), dtype, std::move(shape)) {
  bytes_ = std::move(bytes);
  order_ = order;
  if (bits_of(dtype_) == 0 || bits_of(dtype_) % 8 != 0)
    throw_input_error("an array whose elements are whole bytes", fmt::format("{} in {}", name_of(dtype_), name_), "");
  const auto needed = known_bytes_of(dtype_, shape_);
  if (!needed || *needed != bytes_.size())
    throw_input_error(fmt::format("{} of {} elements to hold {} bytes of them", shape_.to_string(), name_of(dtype_),
                                  needed ? std::to_string(*needed) : "more than any file's"),
                      fmt::format("{} holds {}", name_, bytes_.size()),
                      "the file is truncated or its header is wrong: get or write it again");
  if (!order_.fortran || shape_.rank() < 2 || *needed == 0) return;
  if (row_type_.shape.count() > kMostScattered)
    throw_input_error(fmt::format("rows of at most {} elements in an array of Fortran order", kMostScattered),
                      fmt::format("{} of {}", row_type_.shape.to_string(), name_), "write it in C order");
  fortran_offsets_ = fortran_row_offsets(shape_);
}

DataArray DataArray::of(const Tensor& tensor, std::string name) {
  const auto owner = std::make_shared<Tensor>(tensor);
  const std::span<const std::byte> bytes(static_cast<const std::byte*>(owner->raw()), owner->bytes());
  return DataArray(std::move(name), tensor.dtype(), tensor.shape(), SharedBytes::of_memory(bytes, owner));
}

void DataArray::copy_row(std::int64_t row, std::byte* out) const {
  const std::size_t element = bytes_of(dtype_, 1);
  const bool scattered = !fortran_offsets_.empty();
  const std::byte* first = bytes_.data() + static_cast<std::size_t>(row) * (scattered ? element : row_bytes_);
  const std::size_t count = row_bytes_ / element;
  const std::int64_t* offsets = scattered ? fortran_offsets_.data() : nullptr;
  if (!scattered && (!order_.big_endian || element == 1)) {
    std::memcpy(out, first, row_bytes_);
  } else {
    switch (element) {
      case 1:
        copy_words<std::uint8_t>(first, count, offsets, false, out);
        break;
      case 2:
        copy_words<std::uint16_t>(first, count, offsets, order_.big_endian, out);
        break;
      case 4:
        copy_words<std::uint32_t>(first, count, offsets, order_.big_endian, out);
        break;
      default:
        copy_words<std::uint64_t>(first, count, offsets, order_.big_endian, out);
        break;
    }
  }
  if (dtype_ == DType::boolean)  // files may hold any non-zero byte for true; a C++ bool may not
    for (std::size_t i = 0; i < row_bytes_; ++i) out[i] = std::byte{out[i] != std::byte{0}};
}

void DataArray::read_rows(std::span<const std::int64_t> rows, void* out, const RowDraw& draw) const {
  for (std::int64_t row : rows)
    if (row < 0 || row >= this->rows())
      throw_input_error(fmt::format("a row in [0, {})", this->rows()), fmt::format("row {} of {}", row, name_),
                        "check the indices");
  if (make_) {
    make_(rows, draw, out);
    return require_finite(name_, row_type_, out, rows);
  }
  auto* next = static_cast<std::byte*>(out);
  for (std::int64_t row : rows) {
    if (row_bytes_ > 0) copy_row(row, next);
    next += row_bytes_;
  }
  check_rows_are_there();
  const std::size_t scattered = fortran_offsets_.empty() ? 1 : fortran_offsets_.size();
  bytes_.note_paged_in(rows.size() * (row_bytes_ + scattered * kFaultWindow));
  require_finite(name_, row_type_, out, rows);
}

Tensor DataArray::load() const {
  Tensor tensor(dtype_, shape_);
  if (tensor.count() == 0) return tensor;
  if (make_) {
    std::vector<std::int64_t> all(static_cast<std::size_t>(rows()));
    std::iota(all.begin(), all.end(), std::int64_t{0});
    make_(all, {}, tensor.raw());
    return tensor;
  }
  auto* out = static_cast<std::byte*>(tensor.raw());
  for (std::int64_t row = 0; row < rows(); ++row) copy_row(row, out + static_cast<std::size_t>(row) * row_bytes_);
  check_rows_are_there();
  return tensor;
}

void DataArray::check_rows_are_there() const {
  const std::size_t intact = bytes_.intact();
  if (intact == bytes_.size()) return;
  const std::size_t row = fortran_offsets_.empty() && row_bytes_ > 0 ? intact / row_bytes_ : 0;
  throw_truncated(name_, bytes_.size(), intact, fmt::format("row {} and what follows it are lost", row));
}

}  // namespace halfstep
