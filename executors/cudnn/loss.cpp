// Makers of softmax and of the cross-entropy losses.
#include "executors/cudnn/kernels/loss.h"

#include "executors/cudnn/indexing.h"
#include "executors/cudnn/kernel_table.h"
#include "executors/cudnn/kernels/launch.h"

namespace halfstep::cudnn {
namespace {

AxisRows axis_rows(const Shape& shape, std::int64_t attribute) {
  const std::size_t axis = normalize_axis(attribute, shape.rank());
  return {shape[axis], shape.count(axis + 1, shape.rank())};
}

/// What both directions read of node and labels.
struct CrossEntropy {
  AxisRows at;
  std::int64_t rows;
  bool has_ignore;
  std::int64_t ignore_index;
  bool none, mean;

  CrossEntropy(const Attributes& attributes, const Shape& scores)
      : at{scores[1], scores.count(2, scores.rank())},
        rows(scores[0] * at.inner),
        has_ignore(attributes.has("ignore_index")),
        ignore_index(attributes.get_int("ignore_index", 0)) {
    const std::string reduction = attributes.get_string("reduction", "mean");
    none = reduction == "none";
    mean = reduction == "mean";
  }

  template <class T, class Label>
  Labels<T, Label> labels(const Label* labels, const T* weights) const {
    return {labels, weights, at.length, has_ignore, ignore_index};
  }
};

template <class T, class Label>
Made cross_entropy(KernelContext& context) {
  const CrossEntropy ce(context.node().attributes, context.in(0).shape);
  if (ce.none && context.in(0).dtype != DType::f32)
    return refuse("one loss a row (reduction none) is computed in f32 only");
  const bool has_log_prob = context.has_output(1);
  const auto launch = [=](const Launch& l) {
    const auto labels = ce.labels(l.input<Label>(1), l.input<T>(2));
    auto* losses = ce.none ? l.output<float>(0) : static_cast<float*>(l.scratch);
    launch_rows(CrossEntropyRows<T, Label>{l.input<T>(0), labels, has_log_prob ? l.output<T>(1) : nullptr, losses,
                                           ce.rows, ce.at.length, ce.at},
                l.stream);
    if (ce.none) return;
    launch_rows(CrossEntropyTotal<T, Label>{losses, labels, l.output<T>(0), nullptr, ce.mean, 1, ce.rows}, l.stream);
  };
  return on_device(context, {.name = "own: softmax cross-entropy",
                             .launch = launch,
                             .scratch_bytes = ce.none ? 0 : static_cast<std::size_t>(ce.rows) * sizeof(float)});
}

template <class T, class Label, class D>
Made cross_entropy_grad(KernelContext& context) {
  const CrossEntropy ce(context.node().attributes, context.in(1).shape);
  const std::int64_t count = context.in(1).shape.count();
  const auto launch = [=](const Launch& l) {
    const auto labels = ce.labels(l.input<Label>(2), l.input<T>(3));
    float* total = ce.mean ? static_cast<float*>(l.scratch) : nullptr;
    if (total) launch_rows(CrossEntropyTotal<T, Label>{nullptr, labels, nullptr, total, true, 1, ce.rows}, l.stream);
    launch_elements(CrossEntropyGrad<T, Label, D>{l.input<D>(0), l.input<T>(1), labels, total, ce.none, l.output<T>(0),
                                                  ce.at.inner},
                    count, l.stream);
  };
  return on_device(
      context, {.name = "own: softmax cross-entropy", .launch = launch, .scratch_bytes = ce.mean ? sizeof(float) : 0});
}

}  // namespace

Made make_softmax(KernelContext& context) {
  return visit_float(context.in(0).dtype, [&]<class T>() -> Made {
    const Shape& shape = context.in(0).shape;
    const AxisRows at = axis_rows(shape, context.node().attributes.get_int("axis", -1));
    const std::int64_t rows = shape.count() / at.length;
    const bool logarithm = context.node().op == "LogSoftmax";
    return on_device(
        context, {.name = "own: softmax", .launch = [=](const Launch& l) {
                    launch_rows(Softmax<T>{l.input<T>(0), l.output<T>(0), rows, at.length, at, logarithm}, l.stream);
                  }});
  });
}

Made make_softmax_grad(KernelContext& context) {
  return visit_float(context.in(0).dtype, [&]<class T>() -> Made {
    const Shape& shape = context.in(0).shape;
    const AxisRows at = axis_rows(shape, context.node().attributes.get_int("axis", -1));
    const std::int64_t rows = shape.count() / at.length;
    const bool logarithm = context.node().op == "LogSoftmaxGrad";
    return on_device(context, {.name = "own: softmax", .launch = [=](const Launch& l) {
                                 launch_rows(SoftmaxGrad<T>{l.input<T>(0), l.input<T>(1), l.output<T>(0), rows,
                                                            at.length, at, logarithm},
                                             l.stream);
                               }});
  });
}

Made make_cross_entropy(KernelContext& context) {
  return visit_float(context.in(0).dtype, [&]<class T> {
    return visit_label(context.in(1).dtype, [&]<class Label> { return cross_entropy<T, Label>(context); });
  });
}

Made make_cross_entropy_grad(KernelContext& context) {
  const DType incoming = context.in(0).dtype;
  return visit_float(context.in(1).dtype, [&]<class T>() -> Made {
    return visit_label(context.in(2).dtype, [&]<class Label>() -> Made {
      if (incoming == context.in(1).dtype) return cross_entropy_grad<T, Label, T>(context);
      if (incoming == DType::f32) return cross_entropy_grad<T, Label, float>(context);
      return refuse("the loss' gradient is neither f32 nor of the scores' type");
    });
  });
}

}  // namespace halfstep::cudnn
