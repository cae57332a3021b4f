#include "formats/idx.h"

#include <cstdint>
#include <utility>
#include <vector>

#include <fmt/format.h>

#include <halfstep/base/error.h>

namespace halfstep {
namespace {

constexpr struct {
  std::uint8_t code;
  DType dtype;
} kIdxTypes[] = {
    {0x08, DType::u8},  {0x09, DType::i8},  {0x0B, DType::i16},
    {0x0C, DType::i32}, {0x0D, DType::f32}, {0x0E, DType::f64},
};

DType dtype_of_code(std::uint8_t code) {
  for (const auto& row : kIdxTypes)
    if (row.code == code) return row.dtype;
  return DType::undefined;
}

}  // namespace

DataArray open_idx(const std::filesystem::path& path) {
  const std::string name = path.string();
  const SharedBytes bytes = open_maybe_gzip(path);
  const auto byte = [&](std::size_t at) { return std::to_integer<std::uint8_t>(bytes.data()[at]); };

  if (bytes.size() < 4 || byte(0) != 0 || byte(1) != 0)
    throw_input_error("an IDX file, which starts with two zero bytes",
                      bytes.size() < 4 ? fmt::format("{} is {} bytes long", name, bytes.size())
                                       : fmt::format("{} starts with {:#04x} {:#04x}", name, byte(0), byte(1)),
                      "check that this is the right file");
  const DType dtype = dtype_of_code(byte(2));
  if (dtype == DType::undefined)
    throw_input_error("an IDX element type: 0x08, 0x09, or 0x0b to 0x0e", fmt::format("{} says {:#04x}", name, byte(2)),
                      "check that this is an IDX file");
  const std::size_t rank = byte(3);
  const std::size_t header = 4 + 4 * rank;
  if (bytes.size() < header)
    throw_input_error(fmt::format("an IDX header of {} bytes", header),
                      fmt::format("{} ends after {}", name, bytes.size()), "the file is truncated: get it again");
  std::vector<std::int64_t> dims(rank);
  for (std::size_t axis = 0; axis < rank; ++axis)
    for (std::size_t i = 0; i < 4; ++i) dims[axis] = dims[axis] << 8 | byte(4 + 4 * axis + i);
  return DataArray(name, dtype, Shape(std::move(dims)), bytes.part(header, bytes.size() - header),
                   {.big_endian = true});
}

}  // namespace halfstep
