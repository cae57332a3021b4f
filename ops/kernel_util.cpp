#include <algorithm>
#include <cstring>

#include <halfstep/ops/kernel_util.h>

namespace halfstep::ops {
namespace {

void store_wide(Tensor& out, DType wide_type, const void* values, std::size_t count) {
  if (count != static_cast<std::size_t>(out.count()))
    throw_input_error("operands that give " + std::to_string(out.count()) + " results", std::to_string(count),
                      "check the shapes fed to this operator");
  const Tensor wide = Tensor::view(wide_type, out.shape(), const_cast<void*>(values));
  copy_elements(convert(wide, out.dtype()), out);
}

}  // namespace

void store(Tensor& out, std::span<const double> values) { store_wide(out, DType::f64, values.data(), values.size()); }
void store(Tensor& out, std::span<const std::int64_t> values) {
  store_wide(out, DType::i64, values.data(), values.size());
}
void store(Tensor& out, std::span<const std::uint64_t> values) {
  store_wide(out, DType::u64, values.data(), values.size());
}

template <>
std::vector<double> load<double>(const Tensor& tensor) {
  return to_doubles(tensor);
}
template <>
std::vector<std::int64_t> load<std::int64_t>(const Tensor& tensor) {
  return to_int64s(tensor);
}
template <>
std::vector<std::uint64_t> load<std::uint64_t>(const Tensor& tensor) {
  const Tensor wide = convert(tensor, DType::u64);
  return {wide.data<std::uint64_t>(), wide.data<std::uint64_t>() + wide.count()};
}

bool is_unsigned(DType dtype) {
  return dtype == DType::u8 || dtype == DType::u16 || dtype == DType::u32 || dtype == DType::u64;
}

Tensor& ensure_out(KernelCall& call, std::size_t i, DType dtype, const Shape& shape) {
  Tensor& out = call.out[i];
  if (!out.is_defined() || out.dtype() != dtype || out.shape() != shape) out = Tensor(dtype, shape);
  return out;
}

void copy_elements(const Tensor& from, Tensor& to) {
  if (from.dtype() == DType::string)
    std::copy_n(from.data<std::string>(), from.count(), to.data<std::string>());
  else if (from.bytes() > 0 && from.raw() != to.raw())
    std::memcpy(to.raw(), from.raw(), from.bytes());
}

std::int64_t single_int(const Tensor& tensor, const char* what) {
  if (tensor.count() != 1)
    throw_input_error(std::string("one element in ") + what, "shape " + tensor.shape().to_string(),
                      "check the operand in the model");
  return to_int64s(tensor)[0];
}

std::vector<std::size_t> normalize_axes(const std::vector<std::int64_t>& axes, std::size_t rank) {
  std::vector<std::size_t> result;
  for (std::int64_t axis : axes) {
    const std::size_t a = normalize_axis(axis, rank);
    if (std::find(result.begin(), result.end(), a) != result.end())
      throw_input_error("axes that are all different", "axis " + std::to_string(axis) + " twice",
                        "check the operator's axes");
    result.push_back(a);
  }
  return result;
}

std::vector<std::int64_t> constant_ints(const GradientContext& g, std::size_t i) {
  const ValueId id = g.node.input(i);
  if (id == kNoValue || !g.b.graph()[id].is_constant())
    throw_input_error(
        "input " + std::to_string(i) + " of " + g.node.op + " '" + g.node.name + "' known before training starts",
        "a value computed from the data", "make it an initializer of the model");
  return to_int64s(g.b.graph()[id].constant);
}

BroadcastOffsets::BroadcastOffsets(const Shape& operand, const Shape& result)
    : extents_(result.dims()), steps_(result.rank(), 0) {
  const std::vector<std::int64_t> strides = operand.strides();
  const std::size_t lead = result.rank() - operand.rank();
  for (std::size_t axis = 0; axis < operand.rank(); ++axis)
    if (operand[axis] != 1) steps_[axis + lead] = strides[axis];
}

}  // namespace halfstep::ops
