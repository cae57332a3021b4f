// Dispatch from a run-time DType to a compile-time C++ type.
#pragma once

#include <string>

#include <halfstep/base/api.h>
#include <halfstep/base/dtype.h>
#include <halfstep/base/error.h>

namespace HALFSTEP_API halfstep {

/// Calls `f.template operator()<T>()` with the C++ type T of `dtype`: floats (half types included), integers, bool.
/// Throws Error for any other type.
template <class F>
decltype(auto) visit_dtype(DType dtype, F&& f) {
  switch (dtype) {
    case DType::f32:
      return f.template operator()<float>();
    case DType::f64:
      return f.template operator()<double>();
    case DType::f16:
      return f.template operator()<f16>();
    case DType::bf16:
      return f.template operator()<bf16>();
    case DType::boolean:
      return f.template operator()<bool>();
    case DType::i8:
      return f.template operator()<std::int8_t>();
    case DType::u8:
      return f.template operator()<std::uint8_t>();
    case DType::i16:
      return f.template operator()<std::int16_t>();
    case DType::u16:
      return f.template operator()<std::uint16_t>();
    case DType::i32:
      return f.template operator()<std::int32_t>();
    case DType::u32:
      return f.template operator()<std::uint32_t>();
    case DType::i64:
      return f.template operator()<std::int64_t>();
    case DType::u64:
      return f.template operator()<std::uint64_t>();
    default:
      throw_input_error("a numeric element type", std::string(name_of(dtype)), "convert the tensor first");
  }
}

}  // namespace halfstep
