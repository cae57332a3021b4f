// Makers of convolutions and their gradients, by plans of cuDNN's graph API.
#include <algorithm>
#include <span>
#include <string>
#include <vector>

#include <fmt/format.h>

#include "executors/cudnn/convolution.h"
#include "executors/cudnn/descriptors.h"
#include "executors/cudnn/kernel_table.h"
#include "executors/cudnn/plan_run.h"
#include "ops/epilogue.h"

namespace halfstep::cudnn {
namespace {

using Direction = OperationGraph::Direction;

std::string refusal(const ConvolutionProblem& p) {
  if (!data_type(p.dtype)) return "cuDNN convolves f32, f16 and bf16, not " + std::string(name_of(p.dtype));
  if (p.x.rank() < 3 || p.x.rank() > 5) return "cuDNN convolves one to three spatial axes";
  return {};
}

/// Bias and addition have the operands' type; `to` is that of the result.
struct Form {
  Direction direction;
  DType to;
  bool bias = false, addition = false, relu = false;
  TensorOrder order = TensorOrder::row_major;
};

/// All that decides about the plans of a convolution.
std::string key_of(const ConvolutionProblem& p, const Form& form) {
  const ops::Window& w = p.window;
  std::string key = fmt::format("convolution {} {} {} {} {} {} {} {} {} {}", static_cast<int>(form.direction),
                                static_cast<int>(form.order), name_of(p.dtype), name_of(form.to), form.bias,
                                form.addition, form.relu, p.x.to_string(), p.w.to_string(), p.y.to_string());
  for (const ops::Window::Axes* axes : {&w.stride, &w.dilation, &w.pad_begin, &w.pad_end})
    for (const std::int64_t n : *axes) key += fmt::format(" {}", n);
  return key;
}

/// Tensors 0, 1 and 2 are x, w and y; the bias is 3, what is added 4.
const Plans& plan(KernelContext& context, const ConvolutionProblem& p, const Form& form) {
  return libraries(context).plans->get(key_of(p, form), [&] {
    OperationGraph graph(plan_target(libraries(context)), form.order);
    const bool forward = form.direction == Direction::forward;
    const auto type = [&](Direction result) { return form.direction == result ? form.to : p.dtype; };
    const auto x = graph.tensor(type(Direction::data_gradient), p.x);
    const auto w = graph.tensor(type(Direction::weight_gradient), p.w);
    const auto y = graph.tensor(type(Direction::forward), p.y);
    std::vector<std::int64_t> channels(p.y.rank(), 1);
    channels[1] = p.y[1];
    // What each operation gives: a value between two, and the last of them y.
    int left = int{form.bias} + int{form.addition} + int{form.relu};
    const auto bias = form.bias ? graph.tensor(p.dtype, Shape(channels)) : y;
    const auto added = form.addition ? graph.tensor(p.dtype, p.y) : y;
    const auto next = [&] { return left-- == 0 ? y : graph.between(p.y); };
    auto value = forward ? next() : y;
    graph.convolution(form.direction, x, w, value, p.window);
    const auto follow = [&](auto&& operation) {
      const auto result = next();
      operation(value, result);
      value = result;
    };
    if (form.bias) follow([&](auto from, auto to) { graph.add(from, bias, to); });
    if (form.addition) follow([&](auto from, auto to) { graph.add(from, added, to); });
    if (form.relu) follow([&](auto from, auto to) { graph.relu(from, to); });
    const Arithmetic arithmetic = libraries(context).arithmetic;
    std::vector<ExecutionPlan> plans = graph.plan(
        {.deterministic = arithmetic.deterministic, .tensor_cores = is_half(p.dtype) || arithmetic.tf32}, kPlans);
    // Whether there is one, and of which kind, decides between orders and forms.
    while (!plans.empty() && !plans.front().built().plan) plans.erase(plans.begin());
    return plans;
  });
}

/// The plans in the order that they are best in, which is put into `form`. Half types are multiplied by tensor cores
/// where channels lie together, which hardly any engine does otherwise; without them the operand stays as it lies.
const Plans& plan_in_best_order(KernelContext& context, const ConvolutionProblem& p, Form& form) {
  const auto with = [&](TensorOrder order) -> const Plans& {
    form.order = order;
    return plan(context, p, form);
  };
  const auto uses_tensor_cores = [](const Plans& plans) {
    return !plans.list.empty() && plans.list.front().uses_tensor_cores;
  };
  const TensorOrder present = order_of(context.layout(0));
  if (is_half(p.dtype) || libraries(context).arithmetic.tf32) {
    if (const Plans& plans = with(TensorOrder::channels_last); uses_tensor_cores(plans)) return plans;
    if (const Plans& plans = with(TensorOrder::row_major); uses_tensor_cores(plans)) return plans;
  }
  if (const Plans& plans = with(present); !plans.list.empty()) return plans;
  return with(present == TensorOrder::row_major ? TensorOrder::channels_last : TensorOrder::row_major);
}

/// Where x, w, y, bias and addition lie in a launch; y in scratch where it is staged.
struct Places {
  int x, w, y;  ///< the operand, or kResult
  bool bias = false, addition = false, is_staged = false;
};
constexpr int kResult = -1;

Made run(KernelContext& context, std::string_view what, TensorOrder order, const Plans& plans, const Places& places,
         std::size_t staged, const AfterConvolution& after) {
  const auto address = [places](const Launch& l, int place) -> const void* {
    return place != kResult ? l.in[place] : places.is_staged ? l.scratch : l.out[0];
  };
  const auto find = [=](const Launch& l) {
    PlanTensors tensors;
    tensors.add(0, address(l, places.x));
    tensors.add(1, address(l, places.w));
    tensors.add(2, address(l, places.y));
    if (places.bias) tensors.add(3, l.in[2]);
    if (places.addition) tensors.add(places.bias ? 4 : 3, l.in[3]);
    return tensors;
  };
  std::vector<core::Layout> in(context.node().inputs.size());
  for (const int place : {places.x, places.w, places.y})
    if (place != kResult) in[place] = layout_in(order, context.in(place).shape);
  if (in.size() > 3 && context.has_input(3)) in[3] = layout_in(order, context.in(3).shape);  // what is added
  PlanRun made{.what = std::string(what),
               .remark = order == TensorOrder::channels_last ? "channels last, " : "",
               .find = find,
               .scratch_bytes = staged,
               .in_layouts = std::move(in),
               .out_layouts = {layout_in(order, context.out(0).shape)}};
  if (after) made.after = [=](const Launch& l) { after(l, address(l, kResult)); };
  return run_plans(context, plans, std::move(made));
}

constexpr const char* kWhat = "convolution";

/// A form of a convolution, and what can compute it.
struct Planned {
  Form form;
  const Plans* plans;
  bool is_whole;

  bool is_empty() const { return plans->list.empty(); }
  bool uses_tensor_cores() const { return !is_empty() && plans->list.front().uses_tensor_cores; }
};

/// The whole of what a node computes, or the part that other kernels follow, where it is on tensor cores and the whole
/// is not, or where there is nothing else.
Planned plan_whole_or_part(KernelContext& context, const ConvolutionProblem& p, Form whole, Form part) {
  const Plans& all = plan_in_best_order(context, p, whole);
  const Planned first{whole, &all, true};
  const bool may_use_tensor_cores = is_half(p.dtype) || libraries(context).arithmetic.tf32;
  if (first.uses_tensor_cores() || (!first.is_empty() && !may_use_tensor_cores)) return first;
  const Plans& rest = plan_in_best_order(context, p, part);
  const Planned second{part, &rest, false};
  return first.is_empty() || second.uses_tensor_cores() ? second : first;
}

/// The result in its own type, else in that of the operands and converted by `after`.
Made gradient(KernelContext& context, const ConvolutionProblem& p, Direction direction, const Places& places,
              std::string_view what) {
  if (std::string reason = refusal(p); !reason.empty()) return refuse(reason);
  const DType to = context.out(0).dtype;
  if (to != p.dtype && to != DType::f32) return refuse("the result's type is neither the operands' nor f32");
  const Planned planned = plan_whole_or_part(context, p, {direction, to}, {direction, p.dtype});
  if (planned.is_empty()) return refuse_without(*planned.plans, kWhat);
  Places at = places;
  at.is_staged = planned.form.to != to;
  const Shape& shape = context.out(0).shape;
  return run(context, what, planned.form.order, *planned.plans, at, at.is_staged ? staged_bytes(p.dtype, shape) : 0,
             at.is_staged ? widened(p.dtype, shape.count()) : AfterConvolution());
}

}  // namespace

Made make_convolution(KernelContext& context) {
  const DType dtype = context.in(0).dtype, to = context.out(0).dtype;
  const ConvolutionProblem p =
      convolution_problem(context.node(), dtype, context.in(0).shape, context.in(1).shape, context.out(0).shape);
  if (std::string reason = refusal(p); !reason.empty()) return refuse(reason);
  const ops::Epilogue last = ops::epilogue_of(context.node().attributes);
  if (last && last.kind != ops::Epilogue::Kind::relu) return refuse("an activation that is not Relu");
  if (to != dtype && to != DType::f32) return refuse("the result's type is neither the operands' nor f32");
  const Planned planned = plan_whole_or_part(
      context, p, {Direction::forward, to, context.has_input(2), context.has_input(3), static_cast<bool>(last)},
      {Direction::forward, dtype});
  if (planned.is_empty()) return refuse_without(*planned.plans, kWhat);
  const Form& form = planned.form;
  const bool is_staged = form.to != to;
  return run(context, kWhat, form.order, *planned.plans, {0, 1, kResult, form.bias, form.addition, is_staged},
             is_staged ? staged_bytes(dtype, p.y) : 0,
             planned.is_whole ? AfterConvolution() : epilogue_of_convolution(context, form.order));
}

Made make_convolution_transpose(KernelContext& context) {
  ConvolutionProblem p;
  if (std::string reason = transposed_problem(context, p); !reason.empty()) return refuse(reason);
  if (std::string reason = refusal(p); !reason.empty()) return refuse(reason);
  Form form{Direction::data_gradient, p.dtype};
  const Plans& plans = plan_in_best_order(context, p, form);
  if (plans.list.empty()) return refuse_without(plans, kWhat);
  return run(context, "transposed convolution", form.order, plans, {kResult, 1, 0}, 0,
             epilogue_of_convolution(context, form.order));
}

Made make_convolution_grad_input(KernelContext& context) {
  return gradient(context,
                  convolution_problem(context.node(), context.in(0).dtype, context.out(0).shape, context.in(1).shape,
                                      context.in(0).shape),
                  Direction::data_gradient, {kResult, 1, 0}, "data gradient");
}

Made make_convolution_grad_weight(KernelContext& context) {
  return gradient(context,
                  convolution_problem(context.node(), context.in(0).dtype, context.in(1).shape, context.out(0).shape,
                                      context.in(0).shape),
                  Direction::weight_gradient, {1, kResult, 0}, "weight gradient");
}

}  // namespace halfstep::cudnn
