#include "training/defaults.h"

#include <algorithm>

#include <fmt/format.h>

#include "data/row_shape.h"
#include "graph/error.h"
#include "passes/class_axis.h"
#include "training/label_summary.h"

namespace halfstep {
namespace {

using Form = LabelReading::Form;

/// What is known of labels and the output they belong to.
struct Facts {
  const Graph& graph;
  ValueId output;
  Shape shape, labels;                 ///< of both, batch included
  DType dtype;                         ///< of the labels
  std::string_view last = {};          ///< the operator that ends the model
  std::vector<std::size_t> axes = {};  ///< class axes for which the labels' shape is that of class indices
  bool integer = false;                ///< the labels are
  bool for_each_element = false;       ///< there is a label for each element of the output
  bool single = false;                 ///< the output is one number for each label
  LabelSummary values = {};

  bool has_indices() const { return integer && !axes.empty() && !single; }
};

Facts gather(const Graph& graph, ValueId output, const DataArray& labels, std::int64_t ignored) {
  Facts f{.graph = graph, .output = output, .shape = graph[output].shape, .labels = {}, .dtype = labels.dtype()};
  f.labels = with_rows(f.shape.rank() > 0 ? f.shape[0] : 1, labels.row_type().shape);
  if (const Node* node = last_operator(graph, output)) f.last = node->op;
  f.integer = is_integer(labels.dtype()) || labels.dtype() == DType::boolean;
  f.axes = class_axes(f.shape, f.labels);
  f.for_each_element = has_label_for_each_element(f.shape, f.labels);
  f.single = f.for_each_element &&
             (f.shape.rank() < 2 ||
              std::any_of(f.axes.begin(), f.axes.end(), [&](std::size_t axis) { return f.shape[axis] == 1; }));
  Shape row = labels.row_type().shape;
  std::vector<std::size_t> axes;
  if (f.for_each_element && f.shape.rank() >= 2) {
    row = without_axis(f.shape, 0);
    axes.push_back(0);
    if (row.rank() > 1) axes.push_back(row.rank() - 1);
  }
  f.values = summarize_labels(labels, row, axes, ignored);
  for (std::size_t& axis : f.values.one_hot_axes) ++axis;  // of the output
  return f;
}

/// A loss, and why, where that is not plain.
struct Kind {
  LossKind kind;
  const char* why = nullptr;
};

Kind binary_loss(const Facts& f, const char* why) {
  return {f.last == "Sigmoid" ? LossKind::binary_cross_entropy : LossKind::binary_cross_entropy_logits, why};
}

Kind default_kind(const Facts& f) {
  const bool zeros_and_ones = f.values.zero_or_one && f.values.any_zero && f.values.any_one;
  if (f.has_indices()) return {LossKind::softmax_cross_entropy};
  if (!f.for_each_element) return {f.integer ? LossKind::softmax_cross_entropy : LossKind::mean_squared_error};
  if (f.single) {
    if (f.integer && f.values.zero_one_or_ignored) return binary_loss(f, nullptr);
    if (f.integer) return {LossKind::mean_squared_error, "the labels are integers beyond 0 and 1 for a single output"};
    if (f.last == "Sigmoid") return binary_loss(f, nullptr);
    if (zeros_and_ones) return binary_loss(f, "the labels are 0 and 1");
    return {LossKind::mean_squared_error};
  }
  if (f.last == "Softmax" || f.last == "LogSoftmax") return {LossKind::softmax_cross_entropy};
  if (f.last == "Sigmoid") return binary_loss(f, nullptr);
  if (!f.values.one_hot_axes.empty()) return {LossKind::softmax_cross_entropy, "the labels are one-hot"};
  if (zeros_and_ones) return binary_loss(f, "the labels are 0 and 1, several or none of them 1");
  if (!f.integer && f.values.from_zero_to_one)
    return {LossKind::mean_squared_error,
            "the labels are numbers from 0 to 1 (softmax_cross_entropy takes them as probabilities)"};
  return {LossKind::mean_squared_error,
          f.integer ? "the labels are integers of the output's shape, and not one-hot" : nullptr};
}

/// The class axis, and into `notices` where it was a choice.
std::size_t choose_class_axis(const Facts& f, bool indices, const TrainerOptions& options,
                              std::vector<std::string>& notices) {
  const Value& output = f.graph[f.output];
  if (options.class_axis) return given_class_axis(output, *options.class_axis);
  std::vector<std::size_t> fitting = indices ? f.axes : f.values.one_hot_axes;
  if (fitting.empty()) {
    fitting = {1};
    if (f.shape.rank() > 2) fitting.push_back(f.shape.rank() - 1);
  }
  const std::size_t axis = fitting.size() == 1 ? fitting[0] : likely_class_axis(f.graph, f.output, fitting);
  if (fitting.size() > 1)
    notices.push_back(
        fmt::format("classes are taken along axis {} of '{}' {}, {}; the labels fit axis {} as well: --class-axis {}",
                    axis, output.name, f.shape.to_string(),
                    class_axis_of_model(f.graph, f.output) == axis ? "as the model's last layer has them"
                                                                   : "as in PyTorch and ONNX",
                    fitting[0] == axis ? fitting[1] : fitting[0], fitting[0] == axis ? fitting[1] : fitting[0]));
  const bool softmax = f.last == "Softmax" || f.last == "LogSoftmax";
  if (softmax && class_axis_of_model(f.graph, f.output) != axis)
    notices.push_back(
        fmt::format("the model ends in {} over another axis than that of the classes, {}: check "
                    "--class-axis",
                    f.last, axis));
  return axis;
}

bool is_over_classes(LossKind kind) {
  return kind == LossKind::softmax_cross_entropy || kind == LossKind::negative_log_likelihood;
}
bool is_binary(LossKind kind) {
  return kind == LossKind::binary_cross_entropy || kind == LossKind::binary_cross_entropy_logits;
}

/// How labels are read under a loss that is not over classes.
Form form_of_elements(const Facts& f, LossKind kind) {
  if (f.values.zero_or_one && (is_binary(kind) || f.single)) return Form::binary;
  return !is_binary(kind) && !f.values.one_hot_axes.empty() ? Form::one_hot : Form::values;
}

void read_class_labels(LossChoice& choice, const Facts& f, const TrainerOptions& options) {
  LabelReading& reading = choice.reading;
  bool indices = f.integer && !f.axes.empty();
  if (options.class_axis)
    indices =
        f.integer && are_class_indices(f.shape, f.labels, given_class_axis(f.graph[f.output], *options.class_axis));
  reading.class_axis = choose_class_axis(f, indices, options, choice.notices);
  if (!indices) {
    reading.form = Form::one_hot;
    choice.label = {DType::f32, without_axis(f.shape, 0)};
    return;
  }
  reading.form = Form::classes;
  reading.ignored = options.ignore_label;
  choice.label.dtype = DType::i64;
  choice.target = {.classes = f.shape[reading.class_axis], .ignore_index = options.ignore_label};
  if (f.values.others == 0 && f.values.complete)
    throw_input_error("a label that counts", fmt::format("{} everywhere, which is ignored", options.ignore_label),
                      "check the labels and --ignore-label");
  if (f.values.ignored > 0)
    choice.notices.push_back(fmt::format("labels of {} do not count ({} of {}{}): --ignore-label", options.ignore_label,
                                         f.values.ignored, f.values.complete ? "" : "the first ",
                                         f.values.ignored + f.values.others));
}

void read_element_labels(LossChoice& choice, const Facts& f, const TrainerOptions& options) {
  LabelReading& reading = choice.reading;
  choice.label.dtype = DType::f32;
  reading.form = form_of_elements(f, choice.kind);
  if (choice.kind == LossKind::binary_cross_entropy_logits) reading.binary_threshold = 0;
  std::vector<std::string> notices;
  if (reading.form == Form::one_hot) reading.class_axis = choose_class_axis(f, false, options, notices);
  // Only accuracy and its like look at classes here.
  if (reading.form == Form::one_hot && options.metrics && !options.metrics->empty())
    choice.notices.insert(choice.notices.end(), notices.begin(), notices.end());
  if (options.class_axis && reading.form != Form::one_hot)
    choice.notices.push_back(fmt::format("--class-axis has no effect: {} has no classes", name_of(choice.kind)));
  choice.target.probabilities = is_binary(choice.kind);
}

}  // namespace

LossChoice choose_loss(const Graph& graph, ValueId output, const Dataset& data, const TrainerOptions& options) {
  const DataArray& labels = *data.y;
  const Facts facts = gather(graph, output, labels, options.ignore_label);
  LossChoice choice;
  const Kind kind = options.loss ? Kind{*options.loss} : default_kind(facts);
  choice.kind = kind.kind;
  const DType dtype = facts.integer ? DType::i64 : labels.dtype();
  check_labels_fit(choice.kind, graph[output], dtype, facts.labels, options.class_axis, data.label_hint);
  if (kind.why)
    choice.notices.push_back(fmt::format("the loss is {}, because {}: --loss", name_of(choice.kind), kind.why));
  choice.label = labels.row_type();
  if (is_over_classes(choice.kind))
    read_class_labels(choice, facts, options);
  else
    read_element_labels(choice, facts, options);
  const bool by_default = is_over_classes(choice.kind) || (is_binary(choice.kind) && facts.values.zero_or_one);
  if (options.metrics)
    choice.metrics = *options.metrics;
  else if (by_default)
    choice.metrics = {Metric{.kind = Metric::Kind::accuracy}};
  check_metrics(choice.metrics, choice.reading,
                fmt::format("labels of {}{} for the output {} under {}", name_of(labels.dtype()),
                            facts.labels.to_string(), facts.shape.to_string(), name_of(choice.kind)));
  return choice;
}

}  // namespace halfstep
