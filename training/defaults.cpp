#include "training/defaults.h"

#include "graph/error.h"

namespace halfstep {
namespace {

std::string_view last_operator(const Graph& graph, ValueId output) {
  for (const Node& node : graph.nodes)
    if (!node.outputs.empty() && node.outputs[0] == output) return node.op;
  return {};
}

LossKind default_kind(const Graph& graph, ValueId output, const DataArray& labels) {
  const std::string_view last = last_operator(graph, output);
  const Shape& shape = graph[output].shape;
  const bool single = shape.rank() < 2 || shape.dim(-1) == 1;
  const bool integer = is_integer(labels.dtype()) || labels.dtype() == DType::boolean;
  if (integer && single)
    return last == "Sigmoid" ? LossKind::binary_cross_entropy : LossKind::binary_cross_entropy_logits;
  if (integer) return LossKind::softmax_cross_entropy;
  if (last == "Sigmoid") return LossKind::binary_cross_entropy;
  if ((last == "Softmax" || last == "LogSoftmax") && labels.shape().rank() == shape.rank())
    return LossKind::softmax_cross_entropy;
  return LossKind::mean_squared_error;
}

}  // namespace

LossChoice choose_loss(const Graph& graph, ValueId output, const DataArray& labels, std::optional<LossKind> wanted) {
  LossChoice choice;
  choice.kind = wanted ? *wanted : default_kind(graph, output, labels);
  choice.label = labels.row_type();
  const Shape& shape = graph[output].shape;
  const bool integer = is_integer(labels.dtype()) || labels.dtype() == DType::boolean;
  const bool over_classes =
      choice.kind == LossKind::softmax_cross_entropy || choice.kind == LossKind::negative_log_likelihood;
  choice.label.dtype = over_classes && integer ? DType::i64 : DType::f32;
  if (over_classes && integer && shape.rank() >= 2) {
    const bool class_last =
        shape.rank() == 2 || labels.row_type().shape.rank() + 2 != shape.rank() ||
        labels.row_type().shape.dims() == std::vector<std::int64_t>(shape.begin() + 1, shape.end() - 1);
    choice.classes = class_last ? shape.dim(-1) : shape[1];
  }
  const bool binary =
      choice.kind == LossKind::binary_cross_entropy || choice.kind == LossKind::binary_cross_entropy_logits;
  if (choice.kind == LossKind::binary_cross_entropy_logits) choice.binary_threshold = 0;
  const bool single = shape.rank() < 2 || shape.dim(-1) == 1;
  if (over_classes || (binary && single && integer)) choice.metrics = {Metric{.kind = Metric::Kind::accuracy}};
  return choice;
}

}  // namespace halfstep
