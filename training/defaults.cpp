#include "training/defaults.h"

#include <algorithm>

#include <fmt/format.h>

#include "data/row_shape.h"
#include "passes/step/class_axis.h"
#include "training/label_summary.h"
#include <halfstep/base/error.h>

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
struct Default {
  const LossDef* row;
  std::string_view why;
};

Default default_loss(const Facts& f) {
  const LossFacts facts{.last_operator = f.last,
                        .integer = f.integer,
                        .indices = f.has_indices(),
                        .for_each_element = f.for_each_element,
                        .single = f.single,
                        .one_hot = !f.values.one_hot_axes.empty(),
                        .zeros_and_ones = f.values.zero_or_one && f.values.any_zero && f.values.any_one,
                        .zero_one_or_ignored = f.values.zero_one_or_ignored,
                        .from_zero_to_one = f.values.from_zero_to_one};
  for (const LossDef& loss : losses())
    if (loss.is_default)
      if (const auto why = loss.is_default(facts)) return {&loss, *why};
  throw_failure("a loss that is the default", "none", "this is a defect of the table of losses");
}

/// The class axis, and into `notices` where it was a choice.
std::size_t choose_class_axis(const Facts& f, std::string_view along, bool indices, const LossRequest& request,
                              std::vector<std::string>& notices) {
  const Value& output = f.graph[f.output];
  if (request.class_axis) return given_class_axis(output, *request.class_axis);
  std::vector<std::size_t> fitting = indices ? f.axes : f.values.one_hot_axes;
  if (fitting.empty()) {
    fitting = {1};
    if (f.shape.rank() > 2) fitting.push_back(f.shape.rank() - 1);
  }
  const std::size_t axis = fitting.size() == 1 ? fitting[0] : likely_class_axis(f.graph, f.output, fitting);
  if (fitting.size() > 1)
    notices.push_back(
        fmt::format("{} are taken along axis {} of '{}' {}, {}; the labels fit axis {} as well: --class-axis {}", along,
                    axis, output.name, f.shape.to_string(),
                    class_axis_of_model(f.graph, f.output) == axis ? "as the model's last layer has them"
                                                                   : "as in PyTorch and ONNX",
                    fitting[0] == axis ? fitting[1] : fitting[0], fitting[0] == axis ? fitting[1] : fitting[0]));
  const bool softmax = f.last == "Softmax" || f.last == "LogSoftmax";
  if (softmax && class_axis_of_model(f.graph, f.output) != axis)
    notices.push_back(
        fmt::format("the model ends in {} over another axis than that of the {}, {}: check "
                    "--class-axis",
                    f.last, along, axis));
  return axis;
}

/// Labels of --ignore-label do not count from here on.
void leave_out_ignored(LossChoice& choice, const Facts& f, const LossRequest& request) {
  choice.reading.ignored = choice.target.ignore_index = request.ignore_label;
  if (f.values.others == 0 && f.values.complete && !request.is_sample)
    throw_input_error("a label that is not ignored",
                      fmt::format("{} everywhere, which is ignored", request.ignore_label),
                      "check the labels and --ignore-label");
  if (f.values.ignored > 0)
    choice.notices.push_back(fmt::format("labels of {} are ignored ({} of {}{}): --ignore-label", request.ignore_label,
                                         f.values.ignored, f.values.complete ? "" : "the first ",
                                         f.values.ignored + f.values.others));
}

void read_class_labels(LossChoice& choice, const LossDef& loss, const Facts& f, const LossRequest& request) {
  LabelReading& reading = choice.reading;
  bool indices = f.integer && !f.axes.empty();
  if (request.class_axis)
    indices =
        f.integer && are_class_indices(f.shape, f.labels, given_class_axis(f.graph[f.output], *request.class_axis));
  indices = indices && loss.labels == LossLabels::classes;
  reading.class_axis = choose_class_axis(f, loss.along, indices, request, choice.notices);
  if (!indices) {
    reading.form = Form::one_hot;
    choice.label = {DType::f32, without_axis(f.shape, 0)};
    return;
  }
  reading.form = Form::classes;
  choice.label.dtype = DType::i64;
  choice.target.classes = f.shape[reading.class_axis];
  leave_out_ignored(choice, f, request);
}

void read_element_labels(LossChoice& choice, const LossDef& loss, const Facts& f, const LossRequest& request) {
  LabelReading& reading = choice.reading;
  choice.label.dtype = DType::f32;
  reading.binary_threshold = loss.threshold;
  const bool binary = loss.labels == LossLabels::binary;
  // Only where they may occur: a step without them has no mask.
  if (binary && loss.ignores && (f.values.ignored > 0 || request.is_sample)) leave_out_ignored(choice, f, request);
  if ((reading.ignored ? f.values.zero_one_or_ignored : f.values.zero_or_one) && (binary || f.single))
    reading.form = Form::binary;
  else
    reading.form = !binary && !f.values.one_hot_axes.empty() ? Form::one_hot : Form::values;
  if (loss.along.empty() && reading.form == Form::one_hot) {
    // Only accuracy and its like look at classes here.
    std::vector<std::string> notices;
    reading.class_axis = choose_class_axis(f, "classes", false, request, notices);
    if (request.metrics && !request.metrics->empty())
      choice.notices.insert(choice.notices.end(), notices.begin(), notices.end());
  } else if (!loss.along.empty()) {
    reading.class_axis = choose_class_axis(f, loss.along, false, request, choice.notices);
  } else if (request.class_axis) {
    choice.notices.push_back(fmt::format("--class-axis has no effect: {} has no classes", loss.name));
  }
}

}  // namespace

LossChoice choose_loss(const Graph& graph, ValueId output, const Dataset& data, const LossRequest& request) {
  const DataArray& labels = *data.y;
  const Facts facts = gather(graph, output, labels, request.ignore_label);
  LossChoice choice;
  const Default chosen = request.loss ? Default{&loss_named(*request.loss), {}} : default_loss(facts);
  const LossDef& loss = *chosen.row;
  choice.row = &loss;
  const DType dtype = facts.integer ? DType::i64 : labels.dtype();
  check_labels_fit(loss, graph[output], dtype, facts.labels, request.class_axis, data.label_hint);
  if (!chosen.why.empty())
    choice.notices.push_back(fmt::format("the loss is {}, because {}: --loss", loss.name, chosen.why));
  choice.label = labels.row_type();
  choice.target.probabilities = loss.labels == LossLabels::binary || loss.labels == LossLabels::shares;
  if (loss.along == "classes")
    read_class_labels(choice, loss, facts, request);
  else
    read_element_labels(choice, loss, facts, request);
  if (request.ignore_label != LossRequest{}.ignore_label && (!loss.ignores || choice.reading.form == Form::one_hot))
    choice.notices.push_back("--ignore-label has no effect: it is for class indices and binary labels");
  choice.metrics = request.metrics ? *request.metrics : default_metrics(loss, choice.reading);
  const std::int64_t classes =
      choice.reading.class_axis < facts.shape.rank() ? facts.shape[choice.reading.class_axis] : 1;
  check_metrics(choice.metrics, choice.reading, classes,
                fmt::format("labels of {}{} for the output {} under {}", name_of(labels.dtype()),
                            facts.labels.to_string(), facts.shape.to_string(), loss.name));
  return choice;
}

}  // namespace halfstep
