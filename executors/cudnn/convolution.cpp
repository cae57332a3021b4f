#include "executors/cudnn/convolution.h"

#include <algorithm>
#include <span>
#include <string>

#include "executors/cudnn/indexing.h"
#include "executors/cudnn/kernels/elementwise.h"
#include "executors/cudnn/kernels/launch.h"
#include "ops/epilogue.h"
#include <halfstep/graph/tensor_bytes.h>

namespace halfstep::cudnn {
namespace {

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

}  // namespace halfstep::cudnn
