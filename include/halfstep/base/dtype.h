// Element types of tensors.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string_view>
#include <type_traits>

#include <halfstep/base/api.h>
#include <halfstep/base/half.h>

namespace HALFSTEP_API halfstep {

/// Element type. The numbers are those of ONNX `TensorProto.DataType`, so that attributes such as `Cast.to` need no
/// translation.
enum class DType : std::uint8_t {
  undefined = 0,
  f32 = 1,
  u8 = 2,
  i8 = 3,
  u16 = 4,
  i16 = 5,
  i32 = 6,
  i64 = 7,
  string = 8,
  boolean = 9,
  f16 = 10,
  f64 = 11,
  u32 = 12,
  u64 = 13,
  c64 = 14,
  c128 = 15,
  bf16 = 16,
  f8e4m3fn = 17,
  f8e4m3fnuz = 18,
  f8e5m2 = 19,
  f8e5m2fnuz = 20,
  u4 = 21,
  i4 = 22,
  f4e2m1 = 23,
  f8e8m0 = 24,
  u2 = 25,
  i2 = 26,
};

/// Size of an element in bits; 4- and 2-bit elements are packed, the first in the low bits. 0 for undefined and string.
std::size_t bits_of(DType dtype);

/// Size of `count` elements in bytes; packed elements are rounded up to whole bytes. 0 for undefined and string.
std::size_t bytes_of(DType dtype, std::size_t count);

/// The name used in output ("f32", "bf16", "i64", "bool").
std::string_view name_of(DType dtype);

/// The type of that name, or `undefined`. Accepts the names above and ONNX's ("float", "float16", "int64").
DType dtype_from_name(std::string_view name);

/// True for f16, bf16, f32 and f64. The 8- and 4-bit floats are storage only and are excluded.
bool is_float(DType dtype);
/// True for f16 and bf16.
bool is_half(DType dtype);
/// True for signed and unsigned integers of 8 to 64 bits, not for bool.
bool is_integer(DType dtype);

/// The DType that stores C++ type T: `dtype_of<float>() == DType::f32`.
template <class T>
constexpr DType dtype_of() {
  using U = std::remove_cv_t<T>;
  if constexpr (std::is_same_v<U, float>)
    return DType::f32;
  else if constexpr (std::is_same_v<U, double>)
    return DType::f64;
  else if constexpr (std::is_same_v<U, f16>)
    return DType::f16;
  else if constexpr (std::is_same_v<U, bf16>)
    return DType::bf16;
  else if constexpr (std::is_same_v<U, bool>)
    return DType::boolean;
  else if constexpr (std::is_same_v<U, std::int8_t>)
    return DType::i8;
  else if constexpr (std::is_same_v<U, std::uint8_t>)
    return DType::u8;
  else if constexpr (std::is_same_v<U, std::int16_t>)
    return DType::i16;
  else if constexpr (std::is_same_v<U, std::uint16_t>)
    return DType::u16;
  else if constexpr (std::is_same_v<U, std::int32_t>)
    return DType::i32;
  else if constexpr (std::is_same_v<U, std::uint32_t>)
    return DType::u32;
  else if constexpr (std::is_same_v<U, std::int64_t>)
    return DType::i64;
  else if constexpr (std::is_same_v<U, std::uint64_t>)
    return DType::u64;
  else
    return DType::undefined;
}

}  // namespace halfstep
