// Makers of convolutions and their gradients, by cuDNN.
#include <array>
#include <string>
#include <vector>

#include "executors/cudnn/descriptors.h"
#include "executors/cudnn/indexing.h"
#include "executors/cudnn/kernel_table.h"
#include "executors/cudnn/kernels/elementwise.h"
#include "executors/cudnn/kernels/launch.h"
#include "ops/epilogue.h"

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

struct Problem {
  DType dtype;
  Shape x, w, y;
  ops::Window window;
};

/// f32 stays f32: without tensor cores that round to TF32.
cudnnMathType_t math_of(DType dtype) { return dtype == DType::f32 ? CUDNN_FMA_MATH : CUDNN_TENSOR_OP_MATH; }

std::string refusal(const Problem& p) {
  if (!data_type(p.dtype)) return "cuDNN convolves f32, f16 and bf16, not " + std::string(name_of(p.dtype));
  if (p.x.rank() < 3 || p.x.rank() > 5) return "cuDNN convolves one to three spatial axes";
  if (p.window.pad_begin != p.window.pad_end) return "cuDNN pads both ends alike";
  return {};
}

Problem problem(const Node& node, DType dtype, const Shape& x, const Shape& w, const Shape& y) {
  return {dtype, x, w, y, ops::make_window(node.attributes, ops::spatial(x), ops::spatial(w))};
}

std::shared_ptr<const Descriptors> describe(const Problem& p, const Attributes& attributes) {
  return share(
      Descriptors{tensor_descriptor(p.dtype, p.x), tensor_descriptor(p.dtype, p.y), filter_descriptor(p.dtype, p.w),
                  convolution_descriptor(p.window, p.x.rank(), attributes.get_int("group", 1), math_of(p.dtype))});
}

/// The fastest algorithm by cuDNN's heuristic that gives the same bits on every run, in true f32 for f32, within the
/// workspace. Its math type is written into the descriptor.
template <class Perf>
const Perf* choose(std::span<const Perf> found, DType dtype, cudnnConvolutionDescriptor_t convolution) {
  for (const Perf& p : found) {
    if (p.status != CUDNN_STATUS_SUCCESS || p.determinism != CUDNN_DETERMINISTIC || p.memory > kMaxWorkspace) continue;
    if (dtype == DType::f32 && p.mathType != CUDNN_FMA_MATH) continue;
    check(cudnnSetConvolutionMathType(convolution, p.mathType), "cudnnSetConvolutionMathType");
    return &p;
  }
  return nullptr;
}

constexpr const char* kNoAlgorithm = "cuDNN has no deterministic algorithm for this convolution";
constexpr int kAlgorithms = 16;

std::string algorithm_name(std::string_view direction, int algorithm) {
  return "cudnn: " + std::string(direction) + " algorithm " + std::to_string(algorithm);
}

template <class T, class To>
auto after_convolution(KernelContext& context, bool relu) {
  const std::int64_t count = context.out(0).shape.count(), channels = context.out(0).shape[1];
  const std::int64_t inner = count / channels / context.out(0).shape[0];
  return [=](const Launch& l, const void* convolved) {
    launch_elements(BiasActivation<T, To>{static_cast<const T*>(convolved), l.input<T>(2), l.input<T>(3),
                                          l.output<To>(0), channels, inner, relu},
                    count, l.stream);
  };
}

/// What follows the convolution proper; empty when nothing does.
std::function<void(const Launch&, const void*)> epilogue(KernelContext& context) {
  const DType from = context.in(0).dtype, to = context.out(0).dtype;
  const bool relu = ops::epilogue_of(context.node().attributes).kind == ops::Epilogue::Kind::relu;
  if (from == to && !relu && !context.has_input(2) && !context.has_input(3)) return {};
  if (from == DType::f16)
    return to == from ? std::function<void(const Launch&, const void*)>(after_convolution<f16, f16>(context, relu))
                      : after_convolution<f16, float>(context, relu);
  if (from == DType::bf16)
    return to == from ? std::function<void(const Launch&, const void*)>(after_convolution<bf16, bf16>(context, relu))
                      : after_convolution<bf16, float>(context, relu);
  return after_convolution<float, float>(context, relu);
}

}  // namespace

Made make_convolution(KernelContext& context) {
  const DType dtype = context.in(0).dtype, to = context.out(0).dtype;
  const Problem p = problem(context.node(), dtype, context.in(0).shape, context.in(1).shape, context.out(0).shape);
  if (std::string reason = refusal(p); !reason.empty()) return refuse(reason);
  const ops::Epilogue last = ops::epilogue_of(context.node().attributes);
  if (last && last.kind != ops::Epilogue::Kind::relu) return refuse("an activation that is not Relu");
  if (to != dtype && to != DType::f32) return refuse("the result's type is neither the operands' nor f32");
  const auto d = describe(p, context.node().attributes);
  const cudnnHandle_t handle = libraries(context).cudnn.get();
  std::array<cudnnConvolutionFwdAlgoPerf_t, kAlgorithms> found;
  int count = 0;
  check(cudnnGetConvolutionForwardAlgorithm_v7(handle, d->x.get(), d->w.get(), d->convolution.get(), d->y.get(),
                                               kAlgorithms, &count, found.data()),
        "cudnnGetConvolutionForwardAlgorithm_v7");
  const auto* best =
      choose(std::span<const cudnnConvolutionFwdAlgoPerf_t>(found.data(), static_cast<std::size_t>(count)), dtype,
             d->convolution.get());
  if (!best) return refuse(kNoAlgorithm);

  // A result of another type is convolved into scratch, before the workspace, in the operands' type.
  const std::size_t workspace = best->memory;
  const std::size_t staged =
      to == dtype ? 0 : (bytes_of(dtype, static_cast<std::size_t>(p.y.count())) + 255) / 256 * 256;
  const auto after = epilogue(context);
  const auto algorithm = best->algo;
  const auto launch = [=](const Launch& l) {
    auto* scratch = static_cast<std::byte*>(l.scratch);
    void* y = staged ? scratch : l.out[0];
    const float one = 1, zero = 0;
    check(cudnnConvolutionForward(handle, &one, d->x.get(), l.in[0], d->w.get(), l.in[1], d->convolution.get(),
                                  algorithm, workspace ? scratch + staged : nullptr, workspace, &zero, d->y.get(), y),
          "cudnnConvolutionForward");
    if (after) after(l, y);
  };
  return on_device(
      context,
      {.name = algorithm_name("convolution", algorithm), .launch = launch, .scratch_bytes = staged + workspace});
}

Made make_convolution_grad_input(KernelContext& context) {
  const DType dtype = context.in(0).dtype;
  const Problem p = problem(context.node(), dtype, context.out(0).shape, context.in(1).shape, context.in(0).shape);
  if (std::string reason = refusal(p); !reason.empty()) return refuse(reason);
  const auto d = describe(p, context.node().attributes);
  const cudnnHandle_t handle = libraries(context).cudnn.get();
  std::array<cudnnConvolutionBwdDataAlgoPerf_t, kAlgorithms> found;
  int count = 0;
  check(cudnnGetConvolutionBackwardDataAlgorithm_v7(handle, d->w.get(), d->y.get(), d->convolution.get(), d->x.get(),
                                                    kAlgorithms, &count, found.data()),
        "cudnnGetConvolutionBackwardDataAlgorithm_v7");
  const auto* best =
      choose(std::span<const cudnnConvolutionBwdDataAlgoPerf_t>(found.data(), static_cast<std::size_t>(count)), dtype,
             d->convolution.get());
  if (!best) return refuse(kNoAlgorithm);
  const auto algorithm = best->algo;
  const std::size_t workspace = best->memory;
  const auto launch = [=](const Launch& l) {
    const float one = 1, zero = 0;
    check(cudnnConvolutionBackwardData(handle, &one, d->w.get(), l.in[1], d->y.get(), l.in[0], d->convolution.get(),
                                       algorithm, workspace ? l.scratch : nullptr, workspace, &zero, d->x.get(),
                                       l.out[0]),
          "cudnnConvolutionBackwardData");
  };
  return on_device(context,
                   {.name = algorithm_name("data gradient", algorithm), .launch = launch, .scratch_bytes = workspace});
}

Made make_convolution_grad_weight(KernelContext& context) {
  const DType dtype = context.in(0).dtype, to = context.out(0).dtype;
  const Problem p = problem(context.node(), dtype, context.in(1).shape, context.out(0).shape, context.in(0).shape);
  if (std::string reason = refusal(p); !reason.empty()) return refuse(reason);
  if (to != dtype && to != DType::f32) return refuse("the result's type is neither the operands' nor f32");
  const auto d = describe(p, context.node().attributes);
  const cudnnHandle_t handle = libraries(context).cudnn.get();
  std::array<cudnnConvolutionBwdFilterAlgoPerf_t, kAlgorithms> found;
  int count = 0;
  check(cudnnGetConvolutionBackwardFilterAlgorithm_v7(handle, d->x.get(), d->y.get(), d->convolution.get(), d->w.get(),
                                                      kAlgorithms, &count, found.data()),
        "cudnnGetConvolutionBackwardFilterAlgorithm_v7");
  const auto* best =
      choose(std::span<const cudnnConvolutionBwdFilterAlgoPerf_t>(found.data(), static_cast<std::size_t>(count)), dtype,
             d->convolution.get());
  if (!best) return refuse(kNoAlgorithm);

  // cuDNN writes the gradient in the operands' type; another one is converted from scratch.
  const std::int64_t elements = p.w.count();
  const std::size_t workspace = best->memory;
  const std::size_t staged = to == dtype ? 0 : (bytes_of(dtype, static_cast<std::size_t>(elements)) + 255) / 256 * 256;
  const auto algorithm = best->algo;
  const auto launch = [=](const Launch& l) {
    auto* scratch = static_cast<std::byte*>(l.scratch);
    void* dw = staged ? scratch : l.out[0];
    const float one = 1, zero = 0;
    check(cudnnConvolutionBackwardFilter(handle, &one, d->x.get(), l.in[1], d->y.get(), l.in[0], d->convolution.get(),
                                         algorithm, workspace ? scratch + staged : nullptr, workspace, &zero,
                                         d->w.get(), dw),
          "cudnnConvolutionBackwardFilter");
    if (!staged) return;
    Index flat{1, {elements}, {1}};
    if (dtype == DType::f16)
      launch_elements(Copy<f16, float>{static_cast<const f16*>(dw), l.output<float>(0), flat}, elements, l.stream);
    else
      launch_elements(Copy<bf16, float>{static_cast<const bf16*>(dw), l.output<float>(0), flat}, elements, l.stream);
  };
  return on_device(
      context,
      {.name = algorithm_name("weight gradient", algorithm), .launch = launch, .scratch_bytes = staged + workspace});
}

}  // namespace halfstep::cudnn
