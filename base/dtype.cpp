#include <algorithm>
#include <array>
#include <iterator>

#include "base/dtype_names.h"

namespace halfstep {
namespace {

struct Row {
  DType dtype;
  std::string_view name, onnx_name;
  std::size_t bits;
};

constexpr std::array<Row, 27> kTable{{
    {DType::undefined, "undefined", "undefined", 0},
    {DType::f32, "f32", "float", 32},
    {DType::u8, "u8", "uint8", 8},
    {DType::i8, "i8", "int8", 8},
    {DType::u16, "u16", "uint16", 16},
    {DType::i16, "i16", "int16", 16},
    {DType::i32, "i32", "int32", 32},
    {DType::i64, "i64", "int64", 64},
    {DType::string, "string", "string", 0},
    {DType::boolean, "bool", "bool", 8},
    {DType::f16, "f16", "float16", 16},
    {DType::f64, "f64", "double", 64},
    {DType::u32, "u32", "uint32", 32},
    {DType::u64, "u64", "uint64", 64},
    {DType::c64, "c64", "complex64", 64},
    {DType::c128, "c128", "complex128", 128},
    {DType::bf16, "bf16", "bfloat16", 16},
    {DType::f8e4m3fn, "f8e4m3fn", "float8e4m3fn", 8},
    {DType::f8e4m3fnuz, "f8e4m3fnuz", "float8e4m3fnuz", 8},
    {DType::f8e5m2, "f8e5m2", "float8e5m2", 8},
    {DType::f8e5m2fnuz, "f8e5m2fnuz", "float8e5m2fnuz", 8},
    {DType::u4, "u4", "uint4", 4},
    {DType::i4, "i4", "int4", 4},
    {DType::f4e2m1, "f4e2m1", "float4e2m1", 4},
    {DType::f8e8m0, "f8e8m0", "float8e8m0", 8},
    {DType::u2, "u2", "uint2", 2},
    {DType::i2, "i2", "int2", 2},
}};

const Row& row(DType dtype) {
  auto index = static_cast<std::size_t>(dtype);
  return index < kTable.size() ? kTable[index] : kTable[0];
}

}  // namespace

std::size_t bits_of(DType dtype) { return row(dtype).bits; }
std::size_t bytes_of(DType dtype, std::size_t count) {
  const std::size_t bits = bits_of(dtype);
  return bits >= 8 ? count * (bits / 8) : count / 8 * bits + (count % 8 * bits + 7) / 8;  // which cannot overflow
}
std::string_view name_of(DType dtype) { return row(dtype).name; }
std::string_view onnx_name_of(DType dtype) { return row(dtype).onnx_name; }

DType dtype_from_name(std::string_view name) {
  for (const Row& r : kTable)
    if (r.name == name || r.onnx_name == name) return r.dtype;
  return DType::undefined;
}

bool is_float(DType d) { return d == DType::f32 || d == DType::f16 || d == DType::bf16 || d == DType::f64; }
bool is_half(DType d) { return d == DType::f16 || d == DType::bf16; }
bool is_integer(DType d) {
  constexpr DType kIntegers[] = {DType::u8,  DType::i8,  DType::u16, DType::i16,
                                 DType::u32, DType::i32, DType::u64, DType::i64};
  return std::ranges::find(kIntegers, d) != std::end(kIntegers);
}

}  // namespace halfstep
