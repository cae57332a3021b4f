#include <fmt/format.h>

#include <halfstep/base/error.h>
#include <halfstep/graph/named_tensors.h>

namespace halfstep {
namespace {

bool is_count(DType dtype) { return is_integer(dtype) || dtype == DType::boolean; }

}  // namespace

std::string TensorInfo::to_string() const { return fmt::format("{} {}{}", name, name_of(dtype), shape.to_string()); }

Tensor as_type(const Tensor& given, DType wanted, const std::string& name) {
  if (given.dtype() == wanted) return given;
  const bool floats = is_float(given.dtype()) && is_float(wanted), counts = is_count(given.dtype()) && is_count(wanted);
  if (!floats && (!counts || wanted == DType::boolean))
    throw_input_error(fmt::format("'{}' as {}", name, name_of(wanted)), std::string(name_of(given.dtype())),
                      "convert it first");
  Tensor result = convert(given, wanted);
  if (floats) return result;
  const std::vector<std::int64_t> before = to_int64s(given), after = to_int64s(result);
  for (std::size_t i = 0; i < before.size(); ++i)
    if (before[i] != after[i] || (given.dtype() == DType::u64 && before[i] < 0))
      throw_input_error(fmt::format("'{}' as {}", name, name_of(wanted)),
                        fmt::format("a number that it cannot hold, at element {}", i), "check the values");
  return result;
}

}  // namespace halfstep
