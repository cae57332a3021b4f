// Makers of convolutions and their gradients, by cuDNN's older calls.
#include "executors/cudnn/convolution.h"

#include <algorithm>
#include <array>
#include <span>
#include <string>
#include <vector>

#include "executors/cudnn/descriptors.h"
#include "executors/cudnn/indexing.h"
#include "executors/cudnn/kernel_table.h"
#include "executors/cudnn/kernels/elementwise.h"
#include "executors/cudnn/kernels/launch.h"
#include "executors/cudnn/pending_failure.h"
#include "ops/epilogue.h"
#include <halfstep/graph/tensor_bytes.h>

namespace halfstep::cudnn {
namespace {

/// What cuDNN may use besides the tensors. Algorithms that want more are passed over.
constexpr std::size_t kMaxWorkspace = std::size_t{256} << 20;

/// The descriptors all three directions share; shapes are those of X, W and Y in the forward pass.
struct Descriptors {
  TensorDescriptor x, y;
  FilterDescriptor w;
  ConvolutionDescriptor convolution;
};

using Problem = ConvolutionProblem;

/// f32 stays f32, without tensor cores that round to TF32, unless they are asked for.
cudnnMathType_t math_of(DType dtype, const Arithmetic& arithmetic) {
  return dtype != DType::f32 ? CUDNN_TENSOR_OP_MATH : arithmetic.tf32 ? CUDNN_DEFAULT_MATH : CUDNN_FMA_MATH;
}

std::string refusal(KernelContext& context, const Problem& p) {
  if (libraries(context).properties) return "cuDNN's older calls answer nothing without a device";
  if (!data_type(p.dtype)) return "cuDNN convolves f32, f16 and bf16, not " + std::string(name_of(p.dtype));
  if (p.x.rank() < 3 || p.x.rank() > 5) return "cuDNN convolves one to three spatial axes";
  if (p.window.pad_begin != p.window.pad_end) return "cuDNN pads both ends alike";
  return {};
}

std::shared_ptr<const Descriptors> describe(const Problem& p, const KernelContext& context) {
  return share(Descriptors{tensor_descriptor(p.dtype, p.x), tensor_descriptor(p.dtype, p.y),
                           filter_descriptor(p.dtype, p.w),
                           convolution_descriptor(p.window, p.x.rank(), context.node().attributes.get_int("group", 1),
                                                  math_of(p.dtype, libraries(context).arithmetic))});
}

/// One way to compute a convolution.
template <class Algorithm>
struct Choice {
  Algorithm algorithm;
  cudnnMathType_t math;
  std::size_t workspace;
};

/// The algorithms that can be taken, the fastest by cuDNN's heuristic first, and which of them is.
template <class Algorithm>
class Algorithms {
 public:
  /// Those that the arithmetic allows; the first within the limit of workspace, the others within what that one takes.
  template <class Perf>
  Algorithms(std::span<const Perf> found, DType dtype, const Arithmetic& arithmetic) {
    for (const Perf& p : found) {
      const std::size_t most = choices_.empty() ? kMaxWorkspace : workspace();
      if (p.status != CUDNN_STATUS_SUCCESS || p.memory > most) continue;
      if (arithmetic.deterministic && p.determinism != CUDNN_DETERMINISTIC) continue;
      const bool is_f32 = p.mathType == CUDNN_FMA_MATH || (arithmetic.tf32 && p.mathType == CUDNN_DEFAULT_MATH);
      if (dtype == DType::f32 && !is_f32) continue;
      choices_.push_back({p.algo, p.mathType, p.memory});
    }
  }

  bool is_empty() const { return choices_.empty(); }
  std::size_t workspace() const { return choices_.front().workspace; }
  std::string name(std::string_view direction) const {
    return "cudnn: " + std::string(direction) + " algorithm " + std::to_string(choices_.front().algorithm);
  }

  /// Calls run(choice) with the algorithm taken. When cuDNN refuses it, the next one is taken from then on; what the
  /// heuristic promises need not hold for every device. Throws Error (failure) when no algorithm is left; the next call
  /// begins with the first again.
  template <class F>
  void operator()(cudnnConvolutionDescriptor_t convolution, const char* call, const F& run) {
    for (;; ++taken_) {
      const Choice<Algorithm>& choice = choices_[taken_];
      check(cudnnSetConvolutionMathType(convolution, choice.math), "cudnnSetConvolutionMathType");
      const cudnnStatus_t status = run(choice);
      if (status == CUDNN_STATUS_SUCCESS) return;
      forget_failure();
      if (taken_ + 1 < choices_.size()) continue;
      taken_ = 0;
      check(status, call);
    }
  }

 private:
  std::vector<Choice<Algorithm>> choices_;
  std::size_t taken_ = 0;
};

constexpr const char* kNoAlgorithm = "cuDNN has no algorithm for this convolution";

/// What one of cuDNN's heuristics, `call`, proposes as a list of Perf.
template <class Perf, class F>
auto algorithms_of(KernelContext& context, DType dtype, const char* call, const F& ask) {
  std::array<Perf, 16> found;
  int count = 0;
  check(ask(static_cast<int>(found.size()), &count, found.data()), call);
  return std::make_shared<Algorithms<decltype(Perf::algo)>>(
      std::span<const Perf>(found.data(), static_cast<std::size_t>(count)), dtype, libraries(context).arithmetic);
}

template <class T, class To>
auto after_convolution(KernelContext& context, TensorOrder order, bool relu) {
  const std::int64_t count = context.out(0).shape.count(), channels = context.out(0).shape[1];
  const std::int64_t inner = order == TensorOrder::channels_last ? 1 : count / channels / context.out(0).shape[0];
  return [=](const Launch& l, const void* convolved) {
    launch_elements(BiasActivation<T, To>{static_cast<const T*>(convolved), l.input<T>(2), l.input<T>(3),
                                          l.output<To>(0), channels, inner, relu},
                    count, l.stream);
  };
}

}  // namespace

ConvolutionProblem convolution_problem(const Node& node, DType dtype, const Shape& x, const Shape& w, const Shape& y) {
  return {dtype, x, w, y, ops::make_window(node.attributes, ops::spatial(x), ops::spatial(w))};
}

std::string transposed_problem(KernelContext& context, ConvolutionProblem& problem) {
  const Attributes& attributes = context.node().attributes;
  if (attributes.has("output_shape") || attributes.get_string("auto_pad", "NOTSET") != "NOTSET")
    return "pads that follow from the result's extents";
  const Shape& x = context.in(0).shape;
  problem = convolution_problem(context.node(), context.in(0).dtype, context.out(0).shape, context.in(1).shape, x);
  const auto extents = ops::spatial(x);
  if (!std::ranges::equal(extents, std::span(problem.window.output).last(extents.size())))
    return "an output padding as long as a stride";
  return {};
}

AfterConvolution epilogue_of_convolution(KernelContext& context, TensorOrder order) {
  const DType from = context.in(0).dtype, to = context.out(0).dtype;
  const bool relu = ops::epilogue_of(context.node().attributes).kind == ops::Epilogue::Kind::relu;
  if (from == to && !relu && !context.has_input(2) && !context.has_input(3)) return {};
  if (from == DType::f16)
    return to == from ? AfterConvolution(after_convolution<f16, f16>(context, order, relu))
                      : after_convolution<f16, float>(context, order, relu);
  if (from == DType::bf16)
    return to == from ? AfterConvolution(after_convolution<bf16, bf16>(context, order, relu))
                      : after_convolution<bf16, float>(context, order, relu);
  return after_convolution<float, float>(context, order, relu);
}

AfterConvolution widened(DType from, std::int64_t elements) {
  const auto convert = [elements]<class T>(T) -> AfterConvolution {
    return [elements](const Launch& l, const void* narrow) {
      launch_elements(Copy<T, float>{static_cast<const T*>(narrow), l.output<float>(0), Index{1, {elements}, {1}}},
                      elements, l.stream);
    };
  };
  return from == DType::f16 ? convert(f16()) : convert(bf16());
}

std::size_t staged_bytes(DType dtype, const Shape& shape) { return padded_bytes(bytes_of(dtype, shape)); }

Made make_convolution(KernelContext& context) {
  const DType dtype = context.in(0).dtype, to = context.out(0).dtype;
  const Problem p =
      convolution_problem(context.node(), dtype, context.in(0).shape, context.in(1).shape, context.out(0).shape);
  if (std::string reason = refusal(context, p); !reason.empty()) return refuse(reason);
  const ops::Epilogue last = ops::epilogue_of(context.node().attributes);
  if (last && last.kind != ops::Epilogue::Kind::relu) return refuse("an activation that is not Relu");
  if (to != dtype && to != DType::f32) return refuse("the result's type is neither the operands' nor f32");
  const auto d = describe(p, context);
  const cudnnHandle_t handle = libraries(context).cudnn.get();
  const auto algorithms = algorithms_of<cudnnConvolutionFwdAlgoPerf_t>(
      context, dtype, "cudnnGetConvolutionForwardAlgorithm_v7", [&](auto... list) {
        return cudnnGetConvolutionForwardAlgorithm_v7(handle, d->x.get(), d->w.get(), d->convolution.get(), d->y.get(),
                                                      list...);
      });
  if (algorithms->is_empty()) return refuse(kNoAlgorithm);

  // A result of another type is convolved into scratch, before the workspace, in the operands' type.
  const std::size_t workspace = algorithms->workspace();
  const std::size_t staged = to == dtype ? 0 : staged_bytes(dtype, p.y);
  const auto after = epilogue_of_convolution(context, TensorOrder::row_major);
  const auto launch = [=](const Launch& l) {
    auto* scratch = static_cast<std::byte*>(l.scratch);
    void* y = staged ? scratch : l.out[0];
    const float one = 1, zero = 0;
    (*algorithms)(d->convolution.get(), "cudnnConvolutionForward", [&](const auto& choice) {
      return cudnnConvolutionForward(handle, &one, d->x.get(), l.in[0], d->w.get(), l.in[1], d->convolution.get(),
                                     choice.algorithm, workspace ? scratch + staged : nullptr, choice.workspace, &zero,
                                     d->y.get(), y);
    });
    if (after) after(l, y);
  };
  return on_device(context,
                   {.name = algorithms->name("convolution"), .launch = launch, .scratch_bytes = staged + workspace});
}

namespace {

/// The input's gradient of a convolution of problem `p`, from input 0 and the weights in input 1 to output 0, and what
/// `after` adds to it.
Made backward_data(KernelContext& context, const Problem& p, const AfterConvolution& after,
                   std::string_view direction) {
  if (std::string reason = refusal(context, p); !reason.empty()) return refuse(reason);
  const auto d = describe(p, context);
  const cudnnHandle_t handle = libraries(context).cudnn.get();
  const auto algorithms = algorithms_of<cudnnConvolutionBwdDataAlgoPerf_t>(
      context, p.dtype, "cudnnGetConvolutionBackwardDataAlgorithm_v7", [&](auto... list) {
        return cudnnGetConvolutionBackwardDataAlgorithm_v7(handle, d->w.get(), d->y.get(), d->convolution.get(),
                                                           d->x.get(), list...);
      });
  if (algorithms->is_empty()) return refuse(kNoAlgorithm);
  const std::size_t workspace = algorithms->workspace();
  const auto launch = [=](const Launch& l) {
    const float one = 1, zero = 0;
    (*algorithms)(d->convolution.get(), "cudnnConvolutionBackwardData", [&](const auto& choice) {
      return cudnnConvolutionBackwardData(handle, &one, d->w.get(), l.in[1], d->y.get(), l.in[0], d->convolution.get(),
                                          choice.algorithm, workspace ? l.scratch : nullptr, choice.workspace, &zero,
                                          d->x.get(), l.out[0]);
    });
    if (after) after(l, l.out[0]);
  };
  return on_device(context, {.name = algorithms->name(direction), .launch = launch, .scratch_bytes = workspace});
}

}  // namespace

Made make_convolution_grad_input(KernelContext& context) {
  return backward_data(context,
                       convolution_problem(context.node(), context.in(0).dtype, context.out(0).shape,
                                           context.in(1).shape, context.in(0).shape),
                       {}, "data gradient");
}

Made make_convolution_transpose(KernelContext& context) {
  ConvolutionProblem p;
  if (std::string reason = transposed_problem(context, p); !reason.empty()) return refuse(reason);
  return backward_data(context, p, epilogue_of_convolution(context, TensorOrder::row_major), "transposed convolution");
}

Made make_convolution_grad_weight(KernelContext& context) {
  const DType dtype = context.in(0).dtype, to = context.out(0).dtype;
  const Problem p =
      convolution_problem(context.node(), dtype, context.in(1).shape, context.out(0).shape, context.in(0).shape);
  if (std::string reason = refusal(context, p); !reason.empty()) return refuse(reason);
  if (to != dtype && to != DType::f32) return refuse("the result's type is neither the operands' nor f32");
  const auto d = describe(p, context);
  const cudnnHandle_t handle = libraries(context).cudnn.get();
  const auto algorithms = algorithms_of<cudnnConvolutionBwdFilterAlgoPerf_t>(
      context, dtype, "cudnnGetConvolutionBackwardFilterAlgorithm_v7", [&](auto... list) {
        return cudnnGetConvolutionBackwardFilterAlgorithm_v7(handle, d->x.get(), d->y.get(), d->convolution.get(),
                                                             d->w.get(), list...);
      });
  if (algorithms->is_empty()) return refuse(kNoAlgorithm);

  // cuDNN writes the gradient in the operands' type; another one is converted from scratch.
  const std::size_t workspace = algorithms->workspace();
  const std::size_t staged = to == dtype ? 0 : staged_bytes(dtype, p.w);
  const AfterConvolution after = staged ? widened(dtype, p.w.count()) : AfterConvolution();
  const auto launch = [=](const Launch& l) {
    auto* scratch = static_cast<std::byte*>(l.scratch);
    void* dw = staged ? scratch : l.out[0];
    const float one = 1, zero = 0;
    (*algorithms)(d->convolution.get(), "cudnnConvolutionBackwardFilter", [&](const auto& choice) {
      return cudnnConvolutionBackwardFilter(
          handle, &one, d->x.get(), l.in[1], d->y.get(), l.in[0], d->convolution.get(), choice.algorithm,
          workspace ? scratch + staged : nullptr, choice.workspace, &zero, d->w.get(), dw);
    });
    if (after) after(l, dw);
  };
  return on_device(
      context, {.name = algorithms->name("weight gradient"), .launch = launch, .scratch_bytes = staged + workspace});
}

}  // namespace halfstep::cudnn
