// Makers of convolutions and their gradients, by plans of cuDNN's graph API.
#include <algorithm>
#include <span>
#include <string>
#include <vector>

#include <fmt/format.h>

#include "executors/cudnn/convolution.h"
#include "executors/cudnn/descriptors.h"
#include "executors/cudnn/kernel_table.h"
#include "executors/cudnn/operation_graph.h"
#include "executors/cudnn/plan_cache.h"
#include "ops/epilogue.h"

namespace halfstep::cudnn {
namespace {

using Direction = OperationGraph::Direction;

/// Those beyond the first are for the case that one fails when it runs.
constexpr std::size_t kPlans = 3;

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
    return graph.plan({.deterministic = arithmetic.deterministic, .tensor_cores = is_half(p.dtype) || arithmetic.tf32},
                      kPlans);
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

void* address(const Launch& l, int place, bool is_staged) {
  if (place == kResult) return is_staged ? l.scratch : l.out[0];
  return const_cast<void*>(l.in[place]);
}

/// Runs the first plan, from then on the next one when cuDNN refuses it. Where it refuses all, the next run begins with
/// the first again: what was wrong, as little memory, may be over.
Made run_plans(KernelContext& context, std::string_view what, TensorOrder order,
               const std::vector<ExecutionPlan>& plans, const Places& places, std::size_t staged,
               const AfterConvolution& after) {
  const ExecutionPlan& first = plans.front();
  const cudnnHandle_t handle = libraries(context).cudnn.get();
  const auto bind = [=](const Launch& l) -> std::function<void()> {
    std::vector<std::int64_t> tensors{0, 1, 2};
    std::vector<void*> addresses{address(l, places.x, places.is_staged), address(l, places.w, places.is_staged),
                                 address(l, places.y, places.is_staged)};
    const auto add = [&](bool is_there, std::int64_t number, std::size_t operand) {
      if (!is_there) return;
      tensors.push_back(places.bias ? number : number - 1);
      addresses.push_back(const_cast<void*>(l.in[operand]));
    };
    add(places.bias, 3, 2);
    add(places.addition, 4, 3);
    auto* workspace = static_cast<std::byte*>(l.scratch) + staged;
    const auto pack = variant_pack(tensors, addresses, plans.front().workspace ? workspace : nullptr);
    void* result = places.is_staged ? l.scratch : l.out[0];
    return [=, taken = std::size_t{0}]() mutable {
      for (;; ++taken) {
        const cudnnStatus_t status = cudnnBackendExecute(handle, plans[taken].plan->get(), pack->get());
        if (status == CUDNN_STATUS_SUCCESS) break;
        if (taken + 1 < plans.size()) continue;
        taken = 0;
        check(status, "cudnnBackendExecute");
      }
      if (after) after(l, result);
    };
  };
  std::vector<core::Layout> in(context.node().inputs.size());
  for (const int place : {places.x, places.w, places.y})
    if (place != kResult) in[place] = layout_in(order, context.in(place).shape);
  if (in.size() > 3 && context.has_input(3)) in[3] = layout_in(order, context.in(3).shape);  // what is added
  return on_device(
      context, {.name = fmt::format("cudnn: {}, engine {}", what, first.engine),
                .remark = fmt::format("{}{}{}workspace {} bytes", first.notes, first.notes.empty() ? "" : ", ",
                                      order == TensorOrder::channels_last ? "channels last, " : "", first.workspace),
                .bind = bind,
                .scratch_bytes = staged + first.workspace,
                .in_layouts = std::move(in),
                .out_layouts = {layout_in(order, context.out(0).shape)}});
}

Made refuse_without(const Plans& none) {
  return refuse(none.refusal.empty() ? "cuDNN's graph API has no plan for this convolution" : none.refusal);
}

/// The result in its own type, else in that of the operands and converted by `after`.
Made gradient(KernelContext& context, const ConvolutionProblem& p, Direction direction, const Places& places,
              std::string_view what) {
  if (std::string reason = refusal(p); !reason.empty()) return refuse(reason);
  const DType to = context.out(0).dtype;
  if (to != p.dtype && to != DType::f32) return refuse("the result's type is neither the operands' nor f32");
  Form whole{direction, to};
  const Plans& plans = plan_in_best_order(context, p, whole);
  if (!plans.list.empty()) return run_plans(context, what, whole.order, plans.list, places, 0, {});
  if (to == p.dtype) return refuse_without(plans);
  Form form{direction, p.dtype};
  const Plans& narrow = plan_in_best_order(context, p, form);
  if (narrow.list.empty()) return refuse_without(narrow);
  Places staged = places;
  staged.is_staged = true;
  const Shape& shape = context.out(0).shape;
  return run_plans(context, what, form.order, narrow.list, staged, staged_bytes(p.dtype, shape),
                   widened(p.dtype, shape.count()));
}

}  // namespace

Made make_convolution_planned(KernelContext& context) {
  const DType dtype = context.in(0).dtype, to = context.out(0).dtype;
  const ConvolutionProblem p =
      convolution_problem(context.node(), dtype, context.in(0).shape, context.in(1).shape, context.out(0).shape);
  if (std::string reason = refusal(p); !reason.empty()) return refuse(reason);
  const ops::Epilogue last = ops::epilogue_of(context.node().attributes);
  if (last && last.kind != ops::Epilogue::Kind::relu) return refuse("an activation that is not Relu");
  if (to != dtype && to != DType::f32) return refuse("the result's type is neither the operands' nor f32");
  Form whole{Direction::forward, to, context.has_input(2), context.has_input(3), static_cast<bool>(last)};
  if (const Plans& plans = plan_in_best_order(context, p, whole); !plans.list.empty())
    return run_plans(context, "convolution", whole.order, plans.list, {0, 1, kResult, whole.bias, whole.addition}, 0,
                     {});
  Form alone{Direction::forward, dtype};
  const Plans& plans = plan_in_best_order(context, p, alone);
  if (plans.list.empty()) return refuse_without(plans);
  return run_plans(context, "convolution", alone.order, plans.list, {0, 1, kResult, false, false, to != dtype},
                   to == dtype ? 0 : staged_bytes(dtype, p.y), epilogue_of_convolution(context, alone.order));
}

Made make_convolution_transpose_planned(KernelContext& context) {
  ConvolutionProblem p;
  if (std::string reason = transposed_problem(context, p); !reason.empty()) return refuse(reason);
  if (std::string reason = refusal(p); !reason.empty()) return refuse(reason);
  Form form{Direction::data_gradient, p.dtype};
  const Plans& plans = plan_in_best_order(context, p, form);
  if (plans.list.empty()) return refuse_without(plans);
  return run_plans(context, "transposed convolution", form.order, plans.list, {kResult, 1, 0}, 0,
                   epilogue_of_convolution(context, form.order));
}

Made make_convolution_grad_input_planned(KernelContext& context) {
  return gradient(context,
                  convolution_problem(context.node(), context.in(0).dtype, context.out(0).shape, context.in(1).shape,
                                      context.in(0).shape),
                  Direction::data_gradient, {kResult, 1, 0}, "data gradient");
}

Made make_convolution_grad_weight_planned(KernelContext& context) {
  return gradient(context,
                  convolution_problem(context.node(), context.in(0).dtype, context.in(1).shape, context.out(0).shape,
                                      context.in(0).shape),
                  Direction::weight_gradient, {1, kResult, 0}, "weight gradient");
}

}  // namespace halfstep::cudnn
