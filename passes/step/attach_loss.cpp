#include <fmt/format.h>

#include "passes/step/class_axis.h"
#include <halfstep/base/error.h>
#include <halfstep/ops/builder.h>
#include <halfstep/passes/passes.h>

namespace halfstep {
namespace {

// What a Softmax or LogSoftmax over `axis` that produces `y` is computed from, past what `last_operator` passes; else
// empty.
Expr before_softmax(Expr y, std::size_t axis) {
  Builder& b = y.builder();
  const Graph& graph = b.graph();
  for (const Node& node : graph.nodes) {
    if (node.outputs.empty() || node.outputs[0] != y.id()) continue;
    if (node.is("Transpose")) {
      std::vector<std::int64_t> perm = node.attributes.get_ints("perm");
      if (perm.empty())
        for (std::size_t i = y.rank(); i > 0; --i) perm.push_back(static_cast<std::int64_t>(i) - 1);
      const Expr inside = before_softmax(b.expr(node.inputs[0]), static_cast<std::size_t>(perm[axis]));
      return inside ? b.transpose(inside, std::move(perm)) : Expr();
    }
    if (node.is("Identity") || (node.is("Cast") && is_float(graph[node.inputs[0]].dtype)))
      return before_softmax(b.expr(node.inputs[0]), axis);
    if (changes_shape_only(node)) {
      const Shape shape = y.shape();
      const auto inner = axis_across_units(graph[node.inputs[0]].shape, shape, axis);
      const Expr inside = inner ? before_softmax(b.expr(node.inputs[0]), *inner) : Expr();
      return inside ? b.reshape(inside, shape) : Expr();
    }
    if (!node.is("Softmax") && !node.is("LogSoftmax")) return {};
    return normalize_axis(node.attributes.get_int("axis", -1), y.rank()) == axis ? b.expr(node.inputs[0]) : Expr();
  }
  return {};
}

std::size_t class_axis_of(const LossOptions& options, const Graph& graph, ValueId output, const Shape& labels) {
  const Value& value = graph[output];
  if (options.class_axis) return given_class_axis(value, *options.class_axis);
  const std::vector<std::size_t> fitting = class_axes(value.shape, labels);
  return fitting.size() == 1 ? fitting[0] : likely_class_axis(graph, output, fitting);
}

// The output that the model's own loss is.
Expr own_loss(Expr y) {
  if (!y.shape().is_static() || !is_float(y.dtype()))
    throw_input_error("a loss output of a float type", std::string(name_of(y.dtype())) + y.shape().to_string(),
                      "name another output");
  Builder& b = y.builder();
  return y.shape().count() == 1 ? b.reshape(y, Shape{}) : b.op("ReduceMean", {y}, {{"keepdims", std::int64_t{0}}});
}

// The loss of output `output`, which becomes the scores that it is computed from where the loss takes those.
Expr loss_of_labels(const LossDef& loss, const LossOptions& options, Builder& b, ValueId& output) {
  Graph& graph = b.graph();
  const std::vector<double> numbers = numbers_of(loss.kind, options.numbers);
  check_labels_fit(loss.kind, graph[output], options.label_dtype, options.label_shape, options.class_axis);
  LossOperands operands{.y = b.expr(output),
                        .labels = b.expr(graph.add_input("labels", options.label_dtype, options.label_shape)),
                        .ignored = options.ignore_label,
                        .numbers = numbers};
  graph.step.push_back({StepRole::labels, operands.labels.id()});
  if (!loss.along.empty()) {
    operands.axis = class_axis_of(options, graph, output, options.label_shape);
    operands.indices = loss.labels == LossLabels::classes && is_integer(options.label_dtype) &&
                       are_class_indices(graph[output].shape, options.label_shape, operands.axis);
  }
  if (loss.on_scores)
    if (const Expr scores = before_softmax(operands.y, operands.axis)) {
      operands.y = scores;
      output = scores.id();
    }
  const Shape shape = operands.y.shape();
  operands.y = b.cast(operands.y, operands.y.dtype() == DType::f64 ? DType::f64 : DType::f32);
  if (!operands.indices) {
    if (operands.labels.shape() != shape) operands.labels = b.reshape(operands.labels, shape);
    operands.labels = b.cast(operands.labels, operands.y.dtype());
  }
  return loss.formula(operands);
}

}  // namespace

void check_labels_fit(LossKind kind, const Value& output, DType label_dtype, const Shape& label_shape,
                      std::optional<std::int64_t> class_axis, const std::string& hint) {
  const LossDef& loss = loss_of(kind);
  const Shape& shape = output.shape;
  bool fits = has_label_for_each_element(shape, label_shape);
  if (!loss.along.empty()) fits = fits && shape.rank() >= 2;
  if (loss.labels == LossLabels::classes && is_integer(label_dtype)) {
    fits = fits || (class_axis ? are_class_indices(shape, label_shape, given_class_axis(output, *class_axis))
                               : !class_axes(shape, label_shape).empty());
  }
  if (fits) return;
  const bool may_be_classes = !is_integer(label_dtype) && label_shape.rank() + 1 == shape.rank();
  std::string remedy = may_be_classes
                           ? "save class indices as integers (labels.astype(numpy.int64)), give labels of the output's "
                             "shape, or choose another loss with --loss"
                           : "give labels of that shape, or choose another loss with --loss";
  if (!loss.along.empty() && shape.rank() > 2) remedy += class_axis ? ", or another --class-axis" : ", or --class-axis";
  throw_input_error(fmt::format("labels that fit the model's output '{}' of shape {} under {}", output.name,
                                shape.to_string(), loss.name),
                    fmt::format("labels of {}{}", name_of(label_dtype), label_shape.to_string()),
                    hint.empty() ? remedy : hint + "; else " + remedy);
}

Pass attach_loss(LossOptions options) {
  return {"attach_loss", [options = std::move(options)](Graph& graph) {
            if (graph.outputs.empty()) throw_input_error("a model with an output", "none", "export the model again");
            std::size_t which = 0;
            if (!options.output.empty()) {
              std::string known;
              for (which = 0; which < graph.outputs.size() && graph[graph.outputs[which]].name != options.output;
                   ++which)
                known += (known.empty() ? "" : ", ") + graph[graph.outputs[which]].name;
              if (which == graph.outputs.size())
                throw_input_error("the name of a model output (" + known + ")", "'" + options.output + "'",
                                  "check the output's name");
            }
            const auto of_model = static_cast<ValueId>(graph.values.size());  // ids below are the model's own
            Builder b(graph);
            b.set_context("loss");
            const LossDef& def = loss_of(options.kind);
            const Expr loss = def.formula ? loss_of_labels(def, options, b, graph.outputs[which])
                                          : own_loss(b.expr(graph.outputs[which]));
            if (loss.id() >= of_model) graph.rename(loss.id(), "loss");
            graph.step.push_back({StepRole::loss, loss.id()});
            if (options.kind == LossKind::output)
              graph.outputs.erase(graph.outputs.begin() + static_cast<std::ptrdiff_t>(which));
            // The output the loss was computed from comes right behind it: metrics read it there.
            std::vector<ValueId> outputs{loss.id()};
            if (options.kind != LossKind::output) {
              outputs.push_back(graph.outputs[which]);
              graph.step.push_back({StepRole::prediction, graph.outputs[which]});
            } else if (const ValueId labels = graph.find(options.labels_input); graph.is_input(labels)) {
              graph.step.push_back({StepRole::labels, labels});
            }
            for (std::size_t i = 0; i < graph.outputs.size(); ++i)
              if (options.kind == LossKind::output || i != which) outputs.push_back(graph.outputs[i]);
            graph.outputs = std::move(outputs);
            graph.remove_dead();
          }};
}

}  // namespace halfstep
