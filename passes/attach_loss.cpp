#include <array>

#include <fmt/format.h>

#include "graph/error.h"
#include "ops/builder.h"
#include "passes/class_axis.h"
#include "passes/passes.h"

namespace halfstep {
namespace {

struct LossName {
  LossKind kind;
  std::string_view name;
};
constexpr std::array<LossName, 7> kLosses{{
    {LossKind::softmax_cross_entropy, "softmax_cross_entropy"},
    {LossKind::negative_log_likelihood, "negative_log_likelihood"},
    {LossKind::mean_squared_error, "mean_squared_error"},
    {LossKind::l1, "l1"},
    {LossKind::binary_cross_entropy, "binary_cross_entropy"},
    {LossKind::binary_cross_entropy_logits, "binary_cross_entropy_logits"},
    {LossKind::output, "output"},
}};

bool is_over_classes(LossKind kind) {
  return kind == LossKind::softmax_cross_entropy || kind == LossKind::negative_log_likelihood;
}

// What the passes that make a step call the values that they add: its surroundings find most of them by these names.
constexpr std::array<std::string_view, 8> kStepNames{"labels",        "learning_rate", "update",       "loss",
                                                     "loss.gradient", "grad_norm",     "grads_finite", "loss_scale"};

// Takes these names from values of the model. A parameter's cannot be taken: checkpoints know it by its name.
void free_step_names(Graph& graph) {
  for (const std::string_view name : kStepNames) {
    const ValueId holder = graph.find(name);
    if (holder == kNoValue) continue;
    if (graph.state_of(holder) >= 0)
      throw_input_error("parameters that are not called as a part of the training step is", fmt::format("'{}'", name),
                        "give that initializer another name");
    graph.rename(holder, std::string(name) + ".model");
  }
}

Expr mean(Expr x) { return x.builder().op("ReduceMean", {x}, {{"keepdims", std::int64_t{0}}}); }

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

// Scores with their classes along axis 1, and a label for each point: what SoftmaxCrossEntropyLoss wants.
struct ClassRows {
  Expr scores, labels;
};
ClassRows class_rows(Expr scores, Expr labels, std::size_t axis) {
  const Shape s = scores.shape();
  Builder& b = scores.builder();
  Shape points = without_axis(s, axis);
  if (axis > 1 && axis + 1 == s.rank()) {
    points = Shape{points.count()};
    scores = b.reshape(scores, Shape{points[0], s[axis]});
  } else if (axis > 1) {
    std::vector<std::int64_t> perm{0, static_cast<std::int64_t>(axis)};
    for (std::size_t i = 1; i < s.rank(); ++i)
      if (i != axis) perm.push_back(static_cast<std::int64_t>(i));
    scores = b.transpose(scores, std::move(perm));
  }
  return {scores, labels.shape() == points ? labels : b.reshape(labels, points)};
}

Attributes class_loss_attributes(const LossOptions& options) {
  Attributes attributes{{"reduction", std::string("mean")}};
  if (options.ignore_label) attributes.set("ignore_index", *options.ignore_label);
  return attributes;
}

// Of `y`, scores or (negative log-likelihood) log-probabilities.
Expr class_loss(const LossOptions& options, Expr y, Expr labels, std::size_t axis) {
  Builder& b = y.builder();
  const bool on_scores = options.kind == LossKind::softmax_cross_entropy;
  if (!is_integer(labels.dtype()) || !are_class_indices(y.shape(), labels.shape(), axis)) {  // one-hot or soft
    const auto over = static_cast<std::int64_t>(axis);
    const Expr log_prob = on_scores ? b.op("LogSoftmax", {y}, {{"axis", over}}) : y;
    if (labels.shape() != y.shape()) labels = b.reshape(labels, y.shape());
    return mean(-b.reduce_sum(b.cast(labels, y.dtype()) * log_prob, {over}, false));
  }
  const ClassRows rows = class_rows(y, labels, axis);
  if (!on_scores) return b.op("NegativeLogLikelihoodLoss", {rows.scores, rows.labels}, class_loss_attributes(options));
  return b.multi("SoftmaxCrossEntropyLoss", kOnnxDomain, {rows.scores, rows.labels}, 2,
                 class_loss_attributes(options))[0];
}

Expr clamp(Expr x, double low, double high) {
  Builder& b = x.builder();
  return b.op("Clip", {x, b.scalar(low, x.dtype()), b.scalar(high, x.dtype())});
}

Expr elementwise_loss(LossKind kind, Expr y, Expr labels) {
  Builder& b = y.builder();
  if (labels.shape() != y.shape()) labels = b.reshape(labels, y.shape());
  Expr t = b.cast(labels, y.dtype());
  switch (kind) {
    case LossKind::l1:
      return mean(b.op("Abs", {y - t}));
    case LossKind::binary_cross_entropy: {
      // Probabilities kept off 0 and 1 by Keras' epsilon, so that a confident mistake costs a finite loss.
      Expr p = clamp(y, 1e-7, 1 - 1e-7);
      return mean(-(t * b.op("Log", {p}) + (1 - t) * b.op("Log", {1 - p})));
    }
    case LossKind::binary_cross_entropy_logits:
      // softplus(y) - t*y, which does not overflow.
      return mean(b.op("Softplus", {y}) - t * y);
    default: {
      Expr d = y - t;
      return mean(d * d);
    }
  }
}

}  // namespace

std::string_view name_of(LossKind kind) {
  for (const LossName& l : kLosses)
    if (l.kind == kind) return l.name;
  return "unknown";
}

LossKind parse_loss(std::string_view name) {
  std::string known;
  for (const LossName& l : kLosses) {
    if (l.name == name) return l.kind;
    known += (known.empty() ? "" : ", ") + std::string(l.name);
  }
  throw_input_error("a loss: " + known, "'" + std::string(name) + "'", "check --loss");
}

void check_labels_fit(LossKind kind, const Value& output, DType label_dtype, const Shape& label_shape,
                      std::optional<std::int64_t> class_axis, const std::string& hint) {
  const Shape& shape = output.shape;
  const bool elementwise = has_label_for_each_element(shape, label_shape);
  bool fits = elementwise;
  if (is_over_classes(kind)) {
    fits = shape.rank() >= 2 && elementwise;
    if (class_axis) {
      const std::size_t axis = given_class_axis(output, *class_axis);
      fits = fits || (is_integer(label_dtype) && are_class_indices(shape, label_shape, axis));
    } else if (is_integer(label_dtype)) {
      fits = fits || !class_axes(shape, label_shape).empty();
    }
  }
  if (fits) return;
  const bool may_be_classes = !is_integer(label_dtype) && label_shape.rank() + 1 == shape.rank();
  std::string remedy = may_be_classes
                           ? "save class indices as integers (labels.astype(numpy.int64)), give labels of the output's "
                             "shape, or choose another loss with --loss"
                           : "give labels of that shape, or choose another loss with --loss";
  if (is_over_classes(kind) && shape.rank() > 2)
    remedy += class_axis ? ", or another --class-axis" : ", or --class-axis";
  throw_input_error(fmt::format("labels that fit the model's output '{}' of shape {} under {}", output.name,
                                shape.to_string(), name_of(kind)),
                    fmt::format("labels of {}{}", name_of(label_dtype), label_shape.to_string()),
                    hint.empty() ? remedy : hint + "; else " + remedy);
}

Pass attach_loss(LossOptions options) {
  return {
      "attach_loss", [options = std::move(options)](Graph& graph) {
        if (graph.outputs.empty()) throw_input_error("a model with an output", "none", "export the model again");
        std::size_t which = 0;
        if (!options.output.empty()) {
          std::string known;
          for (which = 0; which < graph.outputs.size() && graph[graph.outputs[which]].name != options.output; ++which)
            known += (known.empty() ? "" : ", ") + graph[graph.outputs[which]].name;
          if (which == graph.outputs.size())
            throw_input_error("the name of a model output (" + known + ")", "'" + options.output + "'",
                              "check the output's name");
        }
        free_step_names(graph);
        Builder b(graph);
        b.set_context("loss");
        Expr y = b.expr(graph.outputs[which]);
        Expr loss;
        if (options.kind == LossKind::output) {
          if (!y.shape().is_static() || !is_float(y.dtype()))
            throw_input_error("a loss output of a float type", std::string(name_of(y.dtype())) + y.shape().to_string(),
                              "name another output");
          loss = y.shape().count() == 1 ? b.reshape(y, Shape{}) : mean(y);
        } else {
          check_labels_fit(options.kind, graph[y.id()], options.label_dtype, options.label_shape, options.class_axis);
          Expr labels = b.expr(graph.add_input("labels", options.label_dtype, options.label_shape));
          const auto as_float = [&](Expr x) { return b.cast(x, x.dtype() == DType::f64 ? DType::f64 : DType::f32); };
          if (is_over_classes(options.kind)) {
            const std::size_t axis = class_axis_of(options, graph, y.id(), options.label_shape);
            const bool on_scores = options.kind == LossKind::softmax_cross_entropy;
            if (const Expr scores = on_scores ? before_softmax(y, axis) : Expr()) {
              y = scores;
              graph.outputs[which] = y.id();
            }
            loss = class_loss(options, on_scores ? as_float(y) : b.cast(y, DType::f32), labels, axis);
          } else {
            loss = elementwise_loss(options.kind, as_float(y), labels);
          }
        }
        graph.rename(loss.id(), "loss");
        if (options.kind == LossKind::output)
          graph.outputs.erase(graph.outputs.begin() + static_cast<std::ptrdiff_t>(which));
        // The output the loss was computed from comes right behind it: metrics read it there.
        std::vector<ValueId> outputs{loss.id()};
        if (options.kind != LossKind::output) outputs.push_back(graph.outputs[which]);
        for (std::size_t i = 0; i < graph.outputs.size(); ++i)
          if (options.kind == LossKind::output || i != which) outputs.push_back(graph.outputs[i]);
        graph.outputs = std::move(outputs);
        graph.remove_dead();
      }};
}

}  // namespace halfstep
