// Makers of the losses on classes and their gradients.
#include <algorithm>

#include <fmt/format.h>

#include "executors/cudnn/kernel_table.h"
#include "executors/cudnn/kernels/row_functions.h"
#include "executors/cudnn/row_text.h"
#include "executors/cudnn/tensor_order.h"

namespace halfstep::cudnn {
namespace {

/// What the kernels of one node share. Scores are [N, C, D...], a row for each label.
struct Labels {
  DType element, label;  ///< of scores and class weights, and of labels
  Shape scores;
  core::Layout layout = {};  ///< of scores and what has their shape
  bool is_none, is_mean;
  std::string functions = {};
  std::string refusal = {};

  /// `labels` and `weights`: which inputs they are.
  Labels(KernelContext& context, Shape of_scores, DType type, std::size_t labels, std::size_t weights)
      : element(type), label(context.in(labels).dtype), scores(std::move(of_scores)) {
    const Attributes& attributes = context.node().attributes;
    const std::string reduction = attributes.get_string("reduction", "mean");
    is_none = reduction == "none";
    is_mean = reduction == "mean";
    if (scores.rank() < 2) {
      refusal = "scores without an axis of classes";
      return;
    }
    std::vector<std::int64_t> points = scores.dims();
    points.erase(points.begin() + 1);
    const bool fits = context.in(labels).shape == Shape(points) && context.fits(weights, Shape{scores[1]}) &&
                      (!context.has_input(weights) || context.in(weights).dtype == type) &&
                      context.node().output(0) != kNoValue;
    if (float_name(type).empty() || (label != DType::i32 && label != DType::i64))
      refusal = "no kernel for scores or labels of these types";
    else
      refusal = fits ? generation_refusal() : "operands that do not fit";
    functions = filled(kLabelText, {{"classes", std::to_string(scores[1])},
                                    {"ignores", attributes.has("ignore_index") ? "true" : "false"},
                                    {"ignored", fmt::format("{}ll", attributes.get_int("ignore_index", 0))},
                                    {"weighs", context.has_input(weights) ? "true" : "false"},
                                    {"element", element_name(type)}});
  }

  std::int64_t rows() const { return scores.count() / scores[1]; }
  /// In either order rows are the points in theirs.
  RowShape by_row() const {
    return layout.is_row_major() ? *rows_along(scores, 1)
                                 : *rows_along(in_memory_order(layout, scores), scores.rank() - 1);
  }
  void take_order_of(const KernelContext& context, std::size_t i) {
    layout = layout_in(order_of(context.layout(i)), scores);
  }
  /// What a kernel over rows needs of a row's label in in[1], with weights in in[2]: `counts`, `weight`, and the class,
  /// 0 where there is none.
  std::string of_row() const {
    return fmt::format(
        "const i64 label = static_cast<const {}*>(a.in[1])[row]; const bool counts = !is_ignored(label); "
        "const float weight = weight_of(a.in[2], label); const i64 k = is_class(label) ? label : 0;",
        element_name(label));
  }
  /// The sum of the weights of labels in in[0], and of the losses of rows in in[1] where there are some.
  RowFunction total(bool has_losses, std::string finish) const {
    RowFunction f{.name = "loss_total", .elements = {label}, .functions = functions};
    if (has_losses) f.elements.push_back(DType::f32);
    f.accumulator = kWeightedSumText;
    f.accumulator_bytes = 8;
    f.gather = fmt::format("{}acc.weight += weight_of(a.in[2], x0);", has_losses ? "acc.sum += x1; " : "");
    f.finish = std::move(finish);
    return f;
  }
  RowShape all_rows() const { return {1, rows(), {}, {}, {rows()}, {1}}; }
};

const void* operand(const Launch& l, std::size_t i) { return i < l.in.size() ? l.in[i] : nullptr; }

/// The loss from one loss a row, as it is, or their sum or mean. `rows` gives `loss` in its `finish`, from scores in
/// in[0], and may write the node's second output.
Made reduced_loss(KernelContext& context, const Labels& labels, RowFunction rows) {
  const std::string_view type = labels.is_none ? element_name(labels.element) : "float";
  rows.finish = fmt::format(
      "{0} const float loss = counts ? {1} : 0.0f; "
      "static_cast<{2}*>(a.out[1])[row] = round_to<{2}>(loss);",
      labels.of_row(), rows.finish, type);
  const RowKernel losses(context, rows, labels.by_row());
  const bool writes = !rows.value.empty();
  DeviceKernel made{.name = "generated: loss", .in_layouts = {labels.layout}, .out_layouts = {{}, labels.layout}};
  if (labels.is_none) {
    made.launch = [=](const Launch& l) {
      losses.launch({l.in[0], l.in[1], operand(l, 2)}, {writes ? l.out[1] : nullptr, l.out[0]}, l.scratch, l.stream);
    };
    made.scratch_bytes = losses.scratch_bytes();
    return on_device(context, std::move(made));
  }
  const RowKernel total(
      context,
      labels.total(true,
                   fmt::format("static_cast<{0}*>(a.out[0])[0] = round_to<{0}>({1});", element_name(labels.element),
                               labels.is_mean ? "acc.weight == 0 ? 0.0f : acc.sum / acc.weight" : "acc.sum")),
      labels.all_rows());
  const std::size_t bytes = padded_bytes(static_cast<std::size_t>(labels.rows()) * sizeof(float));
  made.launch = [=](const Launch& l) {
    auto* scratch = static_cast<std::byte*>(l.scratch);
    losses.launch({l.in[0], l.in[1], operand(l, 2)}, {writes ? l.out[1] : nullptr, scratch}, scratch + bytes, l.stream);
    total.launch({l.in[1], scratch, operand(l, 2)}, {l.out[0]}, scratch + bytes, l.stream);
  };
  made.scratch_bytes = bytes + std::max(losses.scratch_bytes(), total.scratch_bytes());
  return on_device(context, std::move(made));
}

/// The gradient of every score: `value`, from `factor`, the gradient of its row's logarithm, or 0 where a point does
/// not count. The loss' gradient is input 0, labels are input `first`, weights the one behind.
Made loss_gradient(KernelContext& context, const Labels& labels, std::size_t first, bool has_scores,
                   std::string_view value) {
  const DType incoming = context.in(0).dtype;
  RowFunction f{.name = "loss_gradient", .functions = labels.functions, .result = context.out(0).dtype};
  if (float_name(incoming).empty() || float_name(f.result).empty())
    return refuse("no kernel for gradients of these types");
  if (context.in(0).shape.count() != (labels.is_none ? labels.rows() : 1)) return refuse("operands that do not fit");
  if (has_scores) f.elements = {labels.element};
  f.before = fmt::format(
      "{} const float incoming = load(static_cast<const {}*>(a.in[3])[{}]); const float total = {}; "
      "const float factor = weight * (total == 0 ? 0.0f : incoming / total);",
      labels.of_row(), element_name(incoming), labels.is_none ? "row" : "0",
      labels.is_mean ? "*static_cast<const float*>(a.in[4])" : "1.0f");
  f.value = fmt::format("counts ? {} : 0.0f", value);
  const RowKernel gradient(context, f, labels.by_row());
  std::shared_ptr<const RowKernel> total;
  if (labels.is_mean)
    total = std::make_shared<RowKernel>(context, labels.total(false, "static_cast<float*>(a.out[0])[0] = acc.weight;"),
                                        labels.all_rows());
  constexpr std::size_t kTotal = 256;
  const auto launch = [=](const Launch& l) {
    auto* scratch = static_cast<std::byte*>(l.scratch);
    if (total) total->launch({l.in[first], nullptr, operand(l, first + 1)}, {scratch}, scratch + kTotal, l.stream);
    gradient.launch({has_scores ? l.in[1] : nullptr, l.in[first], operand(l, first + 1), l.in[0], scratch}, {l.out[0]},
                    nullptr, l.stream);
  };
  return on_device(context, {.name = "generated: loss",
                             .launch = launch,
                             .scratch_bytes = total ? kTotal + total->scratch_bytes() : 0,
                             .in_layouts = {{}, has_scores ? labels.layout : core::Layout()},
                             .out_layouts = {labels.layout}});
}

constexpr std::string_view kScoreOfLabel =
    "load(static_cast<const {}*>(a.in[0])[base + place<1>(k, a.extents, a.steps)])";

}  // namespace

Made make_cross_entropy(KernelContext& context) {
  Labels labels(context, context.in(0).shape, context.in(0).dtype, 1, 2);
  if (!labels.refusal.empty()) return refuse(labels.refusal);
  labels.take_order_of(context, 0);
  RowFunction f{.name = "cross_entropy", .elements = {labels.element}, .functions = labels.functions};
  f.accumulator = kScaledSumText;
  f.accumulator_bytes = 8;
  f.gather = kGatherSoftmax;
  if (context.has_output(1)) {
    f.before = "const float log_sum = log_of(acc);";
    f.value = "x0 - log_sum";
    f.result = labels.element;
  }
  f.finish = "weight * (log_of(acc) - " + fmt::format(fmt::runtime(kScoreOfLabel), element_name(labels.element)) + ")";
  return reduced_loss(context, labels, f);
}

Made make_negative_log_likelihood(KernelContext& context) {
  Labels labels(context, context.in(0).shape, context.in(0).dtype, 1, 2);
  if (!labels.refusal.empty()) return refuse(labels.refusal);
  labels.take_order_of(context, 0);
  RowFunction f{.name = "negative_log_likelihood", .functions = labels.functions};
  f.finish = "-weight * " + fmt::format(fmt::runtime(kScoreOfLabel), element_name(labels.element));
  return reduced_loss(context, labels, f);
}

Made make_cross_entropy_grad(KernelContext& context) {
  Labels labels(context, context.in(1).shape, context.in(1).dtype, 2, 3);
  if (!labels.refusal.empty()) return refuse(labels.refusal);
  labels.take_order_of(context, 1);
  return loss_gradient(context, labels, 2, true, "factor * (expf(x0) - (j == label ? 1.0f : 0.0f))");
}

Made make_negative_log_likelihood_grad(KernelContext& context) {
  const DType weights = context.has_input(2) ? context.in(2).dtype : DType::f32;
  const Labels labels(context, Shape(context.node().attributes.get_ints("input_shape")), weights, 1, 2);
  if (!labels.refusal.empty()) return refuse(labels.refusal);
  return loss_gradient(context, labels, 1, false, "j == label ? -factor : 0.0f");
}

}  // namespace halfstep::cudnn
