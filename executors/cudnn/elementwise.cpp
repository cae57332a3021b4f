// Makers of elementwise kernels, data movement, and sums.
#include "executors/cudnn/kernels/elementwise.h"

#include <algorithm>
#include <array>
#include <numeric>
#include <string>

#include "executors/cudnn/indexing.h"
#include "executors/cudnn/kernel_table.h"
#include "executors/cudnn/kernels/launch.h"
#include "executors/cudnn/kernels/reduction.h"

namespace halfstep::cudnn {
namespace {

template <class Op, std::size_t N>
Op op_named(std::string_view name, const std::array<std::pair<std::string_view, Op>, N>& names) {
  return std::ranges::find(names, name, &std::pair<std::string_view, Op>::first)->second;
}

constexpr std::array<std::pair<std::string_view, UnaryOp>, 10> kUnary = {{{"Relu", UnaryOp::relu},
                                                                          {"Neg", UnaryOp::neg},
                                                                          {"Exp", UnaryOp::exp},
                                                                          {"Log", UnaryOp::log},
                                                                          {"Sqrt", UnaryOp::sqrt},
                                                                          {"Abs", UnaryOp::abs},
                                                                          {"Sign", UnaryOp::sign},
                                                                          {"Reciprocal", UnaryOp::reciprocal},
                                                                          {"Sigmoid", UnaryOp::sigmoid},
                                                                          {"Tanh", UnaryOp::tanh}}};
constexpr std::array<std::pair<std::string_view, BinaryOp>, 7> kBinary = {{{"Add", BinaryOp::add},
                                                                           {"Sub", BinaryOp::sub},
                                                                           {"Mul", BinaryOp::mul},
                                                                           {"Div", BinaryOp::div},
                                                                           {"Min", BinaryOp::min},
                                                                           {"Max", BinaryOp::max},
                                                                           {"And", BinaryOp::mul}}};
constexpr const char* kTooManyAxes = "more than 8 axes remain after merging";

template <class T>
Made binary(KernelContext& context) {
  const Shape& result = context.out(0).shape;
  const std::vector<std::int64_t> steps[] = {broadcast_steps(context.in(0).shape, result),
                                             broadcast_steps(context.in(1).shape, result)};
  const std::vector<Index> maps = collapse(result.dims(), steps);
  if (maps.empty()) return refuse(kTooManyAxes);
  const BinaryOp op = op_named(context.node().op, kBinary);
  const std::int64_t count = result.count();
  return on_device(context, {.name = "own: elementwise",
                             .launch =
                                 [=](const Launch& l) {
                                   launch_elements(
                                       Binary<T>{op, l.input<T>(0), l.input<T>(1), l.output<T>(0), maps[0], maps[1]},
                                       count, l.stream);
                                 },
                             .overwrites = {is_contiguous(maps[0])   ? 0
                                            : is_contiguous(maps[1]) ? 1
                                                                     : -1}});
}

template <class T>
Made where(KernelContext& context) {
  const Shape& result = context.out(0).shape;
  std::vector<std::vector<std::int64_t>> steps;
  for (std::size_t i = 0; i < 3; ++i) steps.push_back(broadcast_steps(context.in(i).shape, result));
  const std::vector<Index> maps = collapse(result.dims(), steps);
  if (maps.empty()) return refuse(kTooManyAxes);
  const std::int64_t count = result.count();
  const auto launch = [=](const Launch& l) {
    launch_elements(Where<T>{l.input<bool>(0), l.input<T>(1), l.input<T>(2), l.output<T>(0), maps[0], maps[1], maps[2]},
                    count, l.stream);
  };
  return on_device(context, {.name = "own: elementwise",
                             .launch = launch,
                             .overwrites = {is_contiguous(maps[1])   ? 1
                                            : is_contiguous(maps[2]) ? 2
                                                                     : -1}});
}

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

template <class F>
Made visit_held(DType dtype, F&& f) {
  switch (dtype) {
    case DType::i32:
      return f.template operator()<std::int32_t>();
    case DType::i64:
      return f.template operator()<std::int64_t>();
    case DType::boolean:
      return f.template operator()<bool>();
    default:
      return visit_float(dtype, f);
  }
}

template <class T>
Made sum(KernelContext& context, const Index& kept, const Index& reduced, std::int64_t rows, std::int64_t length) {
  const float scale = context.node().op == "ReduceMean" ? 1.0f / static_cast<float>(length) : 1.0f;
  return on_device(
      context,
      {.name = "own: reduction", .launch = [=](const Launch& l) {
         launch_rows(ReduceSum<T>{l.input<T>(0), l.output<T>(0), rows, length, kept, reduced, scale}, l.stream);
       }});
}

}  // namespace

Made make_unary(KernelContext& context) {
  return visit_float(context.in(0).dtype, [&]<class T>() -> Made {
    const UnaryOp op = op_named(context.node().op, kUnary);
    const std::int64_t count = context.out(0).shape.count();
    return on_device(context, {.name = "own: elementwise",
                               .launch =
                                   [=](const Launch& l) {
                                     launch_elements(Unary<T>{op, l.input<T>(0), l.output<T>(0)}, count, l.stream);
                                   },
                               .overwrites = {0}});
  });
}

Made make_binary(KernelContext& context) {
  if (context.node().inputs.size() != 2) return refuse("more or fewer than two operands");
  if (context.in(0).dtype == DType::i64) return binary<std::int64_t>(context);
  if (context.node().op == "And") return binary<bool>(context);
  return visit_float(context.in(0).dtype, [&]<class T> { return binary<T>(context); });
}

Made make_where(KernelContext& context) {
  const DType dtype = context.out(0).dtype;
  if (dtype == DType::i64) return where<std::int64_t>(context);
  if (dtype == DType::boolean) return where<bool>(context);
  return visit_float(dtype, [&]<class T> { return where<T>(context); });
}

Made make_relu_grad(KernelContext& context) {
  return visit_float(context.in(0).dtype, [&]<class T>() -> Made {
    const std::int64_t count = context.out(0).shape.count();
    return on_device(context,
                     {.name = "own: elementwise",
                      .launch =
                          [=](const Launch& l) {
                            launch_elements(ReluGrad<T>{l.input<T>(0), l.input<T>(1), l.output<T>(0)}, count, l.stream);
                          },
                      .overwrites = {0}});
  });
}

Made make_cast(KernelContext& context) {
  const std::int64_t count = context.out(0).shape.count();
  Index flat;
  flat.rank = 1;
  flat.extents[0] = count;
  flat.steps[0] = 1;
  return visit_held(context.in(0).dtype, [&]<class From> {
    return visit_held(context.out(0).dtype,
                      [&]<class To> { return copy_kernel<From, To>(context, "own: cast", flat, count); });
  });
}

Made make_expand(KernelContext& context) {
  return moving_copy(context, "own: strided copy", broadcast_steps(context.in(0).shape, context.out(0).shape));
}

Made make_transpose(KernelContext& context) {
  const Shape& shape = context.in(0).shape;
  std::vector<std::int64_t> perm(shape.rank());
  std::iota(perm.rbegin(), perm.rend(), 0);
  perm = context.node().attributes.get_ints("perm", perm);
  const std::vector<std::int64_t> own = shape.strides();
  std::vector<std::int64_t> steps;
  for (std::int64_t axis : perm) steps.push_back(own[static_cast<std::size_t>(axis)]);
  return moving_copy(context, "own: strided copy", steps);
}

Made make_reduce_sum(KernelContext& context) {
  const Shape& shape = context.in(0).shape;
  std::vector<bool> is_reduced(shape.rank(), false);
  std::vector<std::int64_t> axes = context.node().attributes.get_ints("axes");
  if (context.has_input(1)) {
    if (!context.in(1).is_constant()) return refuse("the axes are not constant");
    axes = to_int64s(context.in(1).constant);
  }
  if (axes.empty() && context.node().attributes.get_int("noop_with_empty_axes", 0) == 0)
    is_reduced.assign(shape.rank(), true);
  for (std::int64_t axis : axes) is_reduced[normalize_axis(axis, shape.rank())] = true;

  const std::vector<std::int64_t> strides = shape.strides();
  std::vector<std::int64_t> extents[2], steps[2];  // of kept and of reduced axes
  for (std::size_t axis = 0; axis < shape.rank(); ++axis) {
    extents[is_reduced[axis]].push_back(shape[axis]);
    steps[is_reduced[axis]].push_back(strides[axis]);
  }
  const std::vector<Index> kept = collapse(extents[0], {&steps[0], 1}), reduced = collapse(extents[1], {&steps[1], 1});
  if (kept.empty() || reduced.empty()) return refuse(kTooManyAxes);
  const std::int64_t rows = context.out(0).shape.count(), length = shape.count() / rows;
  if (context.in(0).dtype == DType::i64 && context.node().op == "ReduceSum")
    return sum<std::int64_t>(context, kept[0], reduced[0], rows, length);
  return visit_float(context.in(0).dtype, [&]<class T> { return sum<T>(context, kept[0], reduced[0], rows, length); });
}

}  // namespace halfstep::cudnn
