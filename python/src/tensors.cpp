#include "python/src/tensors.h"

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <string_view>
#include <utility>

#include <nanobind/ndarray.h>
#include <nanobind/stl/string.h>

#include <halfstep/base/error.h>

namespace halfstep::python {
namespace {

using dlpack_code = nb::dlpack::dtype_code;

/// Types that the package ml_dtypes adds to NumPy, and the unsigned integer of the same size.
struct BorrowedType {
  DType dtype;
  const char* name;
  const char* bits;
};
constexpr std::array kBorrowed = {
    BorrowedType{DType::bf16, "bfloat16", "uint16"},
    BorrowedType{DType::f8e4m3fn, "float8_e4m3fn", "uint8"},
    BorrowedType{DType::f8e4m3fnuz, "float8_e4m3fnuz", "uint8"},
    BorrowedType{DType::f8e5m2, "float8_e5m2", "uint8"},
    BorrowedType{DType::f8e5m2fnuz, "float8_e5m2fnuz", "uint8"},
};

/// Owners of elements. They acquire the GIL to release them, because this may happen on any thread.
struct HeldBuffer {
  Py_buffer view{};
  ~HeldBuffer() {
    const nb::gil_scoped_acquire lock;
    PyBuffer_Release(&view);
  }
};
struct HeldArray {
  nb::ndarray<nb::ro> array;
  ~HeldArray() {
    const nb::gil_scoped_acquire lock;
    array = {};
  }
};

/// The result of str().
std::string string_of(nb::handle object) { return utf8_of(nb::steal(PyObject_Str(object.ptr()))); }

[[noreturn]] void refuse(nb::handle object, const std::string& name, const std::string& hint) {
  std::string found = string_of(object.type().attr("__name__"));
  if (nb::hasattr(object, "dtype")) found += " of " + string_of(object.attr("dtype"));
  throw_input_error("an array of numbers for '" + name + "'", found, hint);
}

DType signed_of(std::size_t bytes) {
  return bytes == 1 ? DType::i8 : bytes == 2 ? DType::i16 : bytes == 4 ? DType::i32 : DType::i64;
}
DType unsigned_of(std::size_t bytes) {
  return bytes == 1 ? DType::u8 : bytes == 2 ? DType::u16 : bytes == 4 ? DType::u32 : DType::u64;
}

/// The type of a buffer's format (module struct); undefined for foreign byte orders and non-numeric formats.
DType dtype_of_format(std::string_view format, std::size_t bytes) {
  if (!format.empty() && std::string_view("@=<").find(format[0]) != std::string_view::npos) format.remove_prefix(1);
  if (format.size() != 1) return DType::undefined;
  switch (format[0]) {
    case 'f':
      return DType::f32;
    case 'd':
      return DType::f64;
    case 'e':
      return DType::f16;
    case '?':
      return DType::boolean;
    default:
      if (std::string_view("bhilqn").find(format[0]) != std::string_view::npos) return signed_of(bytes);
      if (std::string_view("BHILQN").find(format[0]) != std::string_view::npos) return unsigned_of(bytes);
      return DType::undefined;
  }
}

DType dtype_of_dlpack(nb::dlpack::dtype type) {
  if (type.lanes != 1) return DType::undefined;
  const std::size_t bytes = type.bits / 8;
  switch (static_cast<dlpack_code>(type.code)) {
    case dlpack_code::Int:
      return signed_of(bytes);
    case dlpack_code::UInt:
      return unsigned_of(bytes);
    case dlpack_code::Float:
      return bytes == 2 ? DType::f16 : bytes == 4 ? DType::f32 : bytes == 8 ? DType::f64 : DType::undefined;
    case dlpack_code::Bfloat:
      return bytes == 2 ? DType::bf16 : DType::undefined;
    case dlpack_code::Bool:
      return DType::boolean;
    default:
      return DType::undefined;
  }
}

std::optional<nb::dlpack::dtype> dlpack_of(DType dtype) {
  const auto type = [&](dlpack_code code) {
    return nb::dlpack::dtype{static_cast<std::uint8_t>(code), static_cast<std::uint8_t>(bits_of(dtype)), 1};
  };
  switch (dtype) {
    case DType::f16:
    case DType::f32:
    case DType::f64:
      return type(dlpack_code::Float);
    case DType::boolean:
      return type(dlpack_code::Bool);
    case DType::i8:
    case DType::i16:
    case DType::i32:
    case DType::i64:
      return type(dlpack_code::Int);
    case DType::u8:
    case DType::u16:
    case DType::u32:
    case DType::u64:
      return type(dlpack_code::UInt);
    case DType::c64:
    case DType::c128:
      return type(dlpack_code::Complex);
    default:
      for (const BorrowedType& borrowed : kBorrowed)
        if (borrowed.dtype == dtype) return type(dlpack_code::UInt);
      return {};
  }
}

bool is_aligned(const void* data, std::size_t bytes) {
  return bytes == 0 || reinterpret_cast<std::uintptr_t>(data) % bytes == 0;
}

/// Nothing if the object has no buffer, or one that is not contiguous or aligned, or has an unsupported type.
std::optional<Tensor> from_buffer(nb::handle object, DType elements = DType::undefined) {
  auto held = std::make_shared<HeldBuffer>();
  if (PyObject_GetBuffer(object.ptr(), &held->view, PyBUF_RECORDS_RO) != 0) {
    PyErr_Clear();
    return {};
  }
  const Py_buffer& view = held->view;
  const auto bytes = static_cast<std::size_t>(view.itemsize);
  const DType dtype = elements != DType::undefined ? elements : dtype_of_format(view.format ? view.format : "B", bytes);
  if (dtype == DType::undefined || bits_of(dtype) != 8 * bytes || !PyBuffer_IsContiguous(&view, 'C') ||
      !is_aligned(view.buf, bytes))
    return {};
  std::vector<std::int64_t> extents;
  for (int i = 0; i < view.ndim; ++i) extents.push_back(view.shape[i]);
  return Tensor::view(dtype, Shape(std::move(extents)), view.buf, std::move(held));
}

/// A view of an array of another library, in host memory.
std::optional<Tensor> from_dlpack(nb::handle object) {
  if (!nb::hasattr(object, "__dlpack__")) return {};
  nb::ndarray<nb::ro, nb::c_contig> array;
  if (!nb::try_cast(object, array) || array.device_type() != nb::device::cpu::value) return {};
  const DType dtype = dtype_of_dlpack(array.dtype());
  if (dtype == DType::undefined) return {};
  std::vector<std::int64_t> extents;
  for (std::size_t i = 0; i < array.ndim(); ++i) extents.push_back(static_cast<std::int64_t>(array.shape(i)));
  void* data = const_cast<void*>(array.data());  // halfstep only reads its inputs
  return Tensor::view(dtype, Shape(std::move(extents)), data,
                      std::make_shared<HeldArray>(HeldArray{nb::ndarray<nb::ro>(array)}));
}

const BorrowedType* borrowed_type_of(nb::handle object) {
  if (!nb::hasattr(object, "dtype") || !nb::hasattr(object, "view")) return nullptr;
  const std::string name = string_of(object.attr("dtype"));
  for (const BorrowedType& borrowed : kBorrowed)
    if (name == borrowed.name) return &borrowed;
  return nullptr;
}

/// As a NumPy array: contiguous, aligned, in native byte order.
nb::object numpy_array(nb::handle object, const std::string& name) {
  try {
    const nb::module_ numpy = nb::module_::import_("numpy");
    nb::object array = numpy.attr("ascontiguousarray")(object);
    if (!nb::cast<bool>(array.attr("dtype").attr("isnative")))
      array = array.attr("astype")(array.attr("dtype").attr("newbyteorder")("="));
    // ascontiguousarray adds an axis to a scalar, and keeps unaligned arrays unaligned.
    return numpy.attr("require")(array, nb::none(), "A").attr("reshape")(numpy.attr("shape")(object));
  } catch (const nb::python_error& error) {
    refuse(object, name, error.what());
  }
}

}  // namespace

Tensor tensor_from(nb::handle object, const std::string& name) {
  if (std::optional<Tensor> tensor = from_buffer(object)) return *std::move(tensor);
  if (const BorrowedType* borrowed = borrowed_type_of(object)) {
    const nb::object contiguous = numpy_array(object, name);
    if (std::optional<Tensor> tensor = from_buffer(contiguous.attr("view")(borrowed->bits), borrowed->dtype))
      return *std::move(tensor);
  }
  if (std::optional<Tensor> tensor = from_dlpack(object)) return *std::move(tensor);
  if (object.is_none() || nb::isinstance<nb::str>(object) || nb::isinstance<nb::dict>(object))
    refuse(object, name, "pass a NumPy array");
  if (nb::hasattr(object, "__dlpack__") && !nb::hasattr(object, "__array_interface__"))
    refuse(object, name, "pass one in host memory that does not require a gradient: tensor.detach().cpu()");
  if (std::optional<Tensor> tensor = from_buffer(numpy_array(object, name))) return *std::move(tensor);
  refuse(object, name, "convert it to a type that the model supports: array.astype(numpy.float32)");
}

NamedTensors tensors_from(nb::handle mapping, const char* what) {
  if (!PyDict_Check(mapping.ptr()))
    throw_input_error(std::string(what) + " as a dictionary from names to arrays",
                      string_of(mapping.type().attr("__name__")), "write {'NAME': array}");
  NamedTensors tensors;
  for (const auto [key, value] : nb::borrow<nb::dict>(mapping)) {
    if (!nb::isinstance<nb::str>(key))
      throw_input_error(std::string(what) + " with names as strings", string_of(key), "");
    const std::string name = utf8_of(key);
    tensors.emplace(name, tensor_from(value, name));
  }
  return tensors;
}

nb::object array_from(const Tensor& tensor) {
  const std::optional<nb::dlpack::dtype> type = dlpack_of(tensor.dtype());
  if (!type)
    throw_input_error("a tensor of a type that NumPy supports", std::string(name_of(tensor.dtype())),
                      "cast it in the model");
  static std::byte nothing;
  auto held = std::make_unique<Tensor>(tensor);
  void* data = held->count() > 0 ? held->raw() : &nothing;
  const nb::capsule owner(held.release(), [](void* p) noexcept { delete static_cast<Tensor*>(p); });
  std::vector<std::size_t> extents;
  for (const std::int64_t extent : tensor.shape()) extents.push_back(static_cast<std::size_t>(extent));
  nb::object array = nb::cast(
      nb::ndarray<nb::numpy>(data, extents.size(), extents.data(), owner, nullptr, *type, nb::device::cpu::value));
  for (const BorrowedType& borrowed : kBorrowed) {
    if (borrowed.dtype != tensor.dtype()) continue;
    try {
      return array.attr("view")(nb::module_::import_("ml_dtypes").attr(borrowed.name));
    } catch (const nb::python_error&) {
      return array;
    }
  }
  return array;
}

nb::dict arrays_from(const NamedTensors& tensors) {
  nb::dict arrays;
  for (const auto& [name, tensor] : tensors) arrays[text(name)] = array_from(tensor);
  return arrays;
}

nb::list infos_from(const std::vector<TensorInfo>& infos) {
  nb::list result;
  for (const TensorInfo& info : infos) {
    nb::object shape = nb::none();
    if (info.shape.is_ranked()) {
      nb::list extents;
      for (const std::int64_t extent : info.shape)
        extents.append(extent == Shape::kUnknown ? nb::object(nb::none()) : nb::cast(extent));
      shape = nb::tuple(extents);
    }
    result.append(nb::make_tuple(text(info.name), text(name_of(info.dtype)), shape));
  }
  return result;
}

}  // namespace halfstep::python
