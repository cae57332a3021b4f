#include "executors/cudnn/reorder.h"

#include <cstring>
#include <numeric>

#include "executors/cudnn/chain.h"
#include "executors/cudnn/indexing.h"
#include "executors/cudnn/kernels/elementwise.h"
#include "executors/cudnn/kernels/launch.h"
#include "executors/cudnn/loaded_kernel.h"
#include "executors/cudnn/transpose.h"
#include <halfstep/base/error.h>
#include <halfstep/graph/graph.h>

namespace halfstep::cudnn {
namespace {

using core::Made;

/// Puts the copy into the stream.
using LaunchCopy = std::function<void(const void* from, void* to, cudaStream_t)>;

Made copy_step(std::string name, const core::Operand& from, const core::Operand& to, const Libraries& libraries,
               LaunchCopy launch) {
  return {std::move(name), {}, [=, stream = libraries.stream.get()](const core::Memory& memory) -> core::Run {
            return
                [launch, source = memory.at(from), target = memory.at(to), stream] { launch(source, target, stream); };
          }};
}

template <class From, class To>
LaunchCopy strided(const Index& index, std::int64_t count) {
  return [=](const void* from, void* to, cudaStream_t stream) {
    launch_elements(Copy<From, To>{static_cast<const From*>(from), static_cast<To*>(to), index}, count, stream);
  };
}

/// Empty for types that have no such kernel.
LaunchCopy strided_copy(DType dtype, const Index& index, std::int64_t count) {
  switch (dtype) {
    case DType::f32:
      return strided<float, float>(index, count);
    case DType::f16:
      return strided<f16, f16>(index, count);
    case DType::bf16:
      return strided<bf16, bf16>(index, count);
    case DType::i32:
      return strided<std::int32_t, std::int32_t>(index, count);
    case DType::i64:
      return strided<std::int64_t, std::int64_t>(index, count);
    case DType::boolean:
      return strided<bool, bool>(index, count);
    default:
      return {};
  }
}

/// Between float types, of elements in order.
LaunchCopy plain_cast(DType from, DType to, std::int64_t count) {
  const Index in_order{1, {count}, {1}};
  if (from == DType::f32)
    return to == DType::f16 ? strided<float, f16>(in_order, count) : strided<float, bf16>(in_order, count);
  if (from == DType::f16)
    return to == DType::f32 ? strided<f16, float>(in_order, count) : strided<f16, bf16>(in_order, count);
  return to == DType::f32 ? strided<bf16, float>(in_order, count) : strided<bf16, f16>(in_order, count);
}

Made make_cast(const core::Operand& from, const core::Operand& to, const Libraries& libraries) {
  const std::int64_t count = from.shape.count();
  Graph body;
  const ValueId x = body.add_input("", from.dtype, Shape{count}), y = body.add_value("", to.dtype, Shape{count});
  body.define({y}, "Cast", "", {x}, {{"to", static_cast<std::int64_t>(to.dtype)}});
  body.outputs = {y};
  const ChainKernel chain = load_chain(libraries.capability, body);
  if (chain.refusal.empty())
    return copy_step("generated: elementwise", from, to, libraries,
                     [launch = chain.launch](const void* source, void* target, cudaStream_t stream) {
                       launch({source}, {target}, stream);
                     });
  return copy_step("own: cast", from, to, libraries, plain_cast(from.dtype, to.dtype, count));
}

}  // namespace

Made make_reorder(const core::Operand& from, const core::Operand& to, const Libraries& libraries) {
  const auto refuse_both = [] {
    throw_failure("copies that change a tensor's order or its type", "one of both, or of such a type", "report it");
  };
  if (from.layout == to.layout && is_float(from.dtype) && is_float(to.dtype)) return make_cast(from, to, libraries);
  if (from.layout == to.layout || from.dtype != to.dtype) refuse_both();
  // Along the result's memory.
  const core::Dims dims = core::dims_of(from.shape);
  std::vector<std::size_t> order(dims.size());
  std::iota(order.begin(), order.end(), 0);
  if (!to.layout.is_row_major()) order = to.layout.axis_order();
  const core::Dims own[] = {core::strides_like(from.layout, dims), core::strides_like(to.layout, dims)};
  std::vector<std::int64_t> extents, steps[2];
  for (const std::size_t axis : order) {
    extents.push_back(dims[axis]);
    for (int side : {0, 1}) steps[side].push_back(own[side][axis]);
  }
  if (TransposeKernel kernel = transpose_kernel(extents, steps, from.dtype, libraries.capability);
      kernel.refusal.empty())
    return copy_step("generated: transpose", from, to, libraries, std::move(kernel.launch));
  const std::vector<Index> maps = collapse(extents, {steps, 1});
  LaunchCopy copy = maps.empty() ? LaunchCopy() : strided_copy(from.dtype, maps[0], from.shape.count());
  if (!copy) refuse_both();
  return copy_step("own: strided copy", from, to, libraries, std::move(copy));
}

void reorder_on_host(DType dtype, const Shape& shape, const std::byte* from, const core::Layout& from_layout,
                     std::byte* to, const core::Layout& to_layout) {
  const core::Dims dims = core::dims_of(shape);
  const core::Dims source = core::strides_like(from_layout, dims), target = core::strides_like(to_layout, dims);
  const std::size_t element = bytes_of(dtype, 1);
  core::Dims at(dims.size(), 0);
  std::int64_t i = 0, o = 0;
  for (std::int64_t n = shape.count(); n > 0; --n) {
    std::memcpy(to + static_cast<std::size_t>(o) * element, from + static_cast<std::size_t>(i) * element, element);
    for (std::size_t axis = dims.size(); axis-- > 0;) {
      i += source[axis];
      o += target[axis];
      if (++at[axis] < dims[axis]) break;
      i -= source[axis] * dims[axis];
      o -= target[axis] * dims[axis];
      at[axis] = 0;
    }
  }
}

}  // namespace halfstep::cudnn
