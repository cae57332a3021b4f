// The maker of transposes.
#include "executors/cudnn/kernels/elementwise.h"

#include <algorithm>
#include <numeric>
#include <string>

#include "executors/cudnn/indexing.h"
#include "executors/cudnn/kernel_table.h"
#include "executors/cudnn/kernels/launch.h"

namespace halfstep::cudnn {
namespace {

constexpr const char* kTooManyAxes = "more than 8 axes remain after merging";

template <class From, class To>
Made copy_kernel(KernelContext& context, std::string name, const Index& index, std::int64_t count) {
  return on_device(context,
                   {.name = std::move(name), .launch = [=](const Launch& l) {
                      launch_elements(Copy<From, To>{l.input<From>(0), l.output<To>(0), index}, count, l.stream);
                    }});
}

/// A copy of input 0 without a change of type.
Made moving_copy(KernelContext& context, std::string name, const std::vector<std::int64_t>& steps) {
  const Shape& result = context.out(0).shape;
  const std::vector<Index> maps = collapse(result.dims(), {&steps, 1});
  if (maps.empty()) return refuse(kTooManyAxes);
  const std::int64_t count = result.count();
  switch (context.in(0).dtype) {
    case DType::i32:
      return copy_kernel<std::int32_t, std::int32_t>(context, std::move(name), maps[0], count);
    case DType::i64:
      return copy_kernel<std::int64_t, std::int64_t>(context, std::move(name), maps[0], count);
    case DType::boolean:
      return copy_kernel<bool, bool>(context, std::move(name), maps[0], count);
    default:
      return visit_float(context.in(0).dtype,
                         [&]<class T> { return copy_kernel<T, T>(context, std::move(name), maps[0], count); });
  }
}

}  // namespace

Made make_transpose(KernelContext& context) {
  const Shape& shape = context.in(0).shape;
  std::vector<std::int64_t> perm(shape.rank());
  std::iota(perm.rbegin(), perm.rend(), 0);
  perm = context.node().attributes.get_ints("perm", perm);
  const std::vector<std::int64_t> own = shape.strides();
  std::vector<std::int64_t> steps;
  for (std::int64_t axis : perm) steps.push_back(own[axis]);
  return moving_copy(context, "own: strided copy", steps);
}

}  // namespace halfstep::cudnn
