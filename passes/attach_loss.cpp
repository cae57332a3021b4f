#include <array>

#include <fmt/format.h>

#include "graph/error.h"
#include "ops/builder.h"
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

[[noreturn]] void mismatch(LossKind kind, const Expr& output, const Expr& labels) {
  const bool may_be_classes = !is_integer(labels.dtype()) && labels.rank() + 1 == output.rank();
  throw_input_error(fmt::format("labels that fit the model's output '{}' of shape {} under {}",
                                output.builder().graph()[output.id()].name, output.shape().to_string(), name_of(kind)),
                    fmt::format("labels of {}{}", name_of(labels.dtype()), labels.shape().to_string()),
                    may_be_classes ? "save class indices as integers (labels.astype(numpy.int64)), give labels of the "
                                     "output's shape, or choose another loss with --loss"
                                   : "give labels of that shape, or choose another loss with --loss");
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

// The node that produces `id`, when it is an `op` over the last axis and nothing else needs its input's shape.
const Node* final_node(const Graph& graph, ValueId id, std::string_view op) {
  for (const Node& node : graph.nodes) {
    if (node.outputs.empty() || node.outputs[0] != id || !node.is(op)) continue;
    const auto rank = static_cast<std::int64_t>(graph[id].shape.rank());
    const std::int64_t axis = node.attributes.get_int("axis", -1);
    return axis == -1 || axis == rank - 1 ? &node : nullptr;
  }
  return nullptr;
}

// Scores [rows, classes] and labels [rows], or [N, C, d...] and [N, d...], as SoftmaxCrossEntropyLoss wants them.
struct ClassRows {
  Expr scores, labels;
};
ClassRows class_rows(LossKind kind, Expr scores, Expr labels) {
  const Shape &s = scores.shape(), &l = labels.shape();
  Builder& b = scores.builder();
  const bool integer = is_integer(labels.dtype());
  // [N, 1] labels are [N].
  if (integer && s.rank() == 2 && l.rank() == 2 && l[1] == 1 && l[0] == s[0])
    return {scores, b.reshape(labels, Shape{l[0]})};
  if (!integer || s.rank() < 2 || l.rank() + 1 != s.rank()) mismatch(kind, scores, labels);
  const bool class_last = std::equal(l.begin(), l.end(), s.begin());
  const bool class_second = l[0] == s[0] && std::equal(l.begin() + 1, l.end(), s.begin() + 2);
  if (class_last && s.rank() > 2)
    return {b.reshape(scores, Shape{l.count(), s.dim(-1)}), b.reshape(labels, Shape{l.count()})};
  if (!class_last && !class_second) mismatch(kind, scores, labels);
  return {scores, labels};
}

Expr cross_entropy(Expr logits, Expr labels) {
  Builder& b = logits.builder();
  if (!is_integer(labels.dtype())) {  // one-hot or soft
    if (labels.shape() != logits.shape()) mismatch(LossKind::softmax_cross_entropy, logits, labels);
    Expr log_prob = b.op("LogSoftmax", {logits}, {{"axis", std::int64_t{-1}}});
    const auto last = static_cast<std::int64_t>(logits.rank()) - 1;
    return mean(-b.reduce_sum(b.cast(labels, logits.dtype()) * log_prob, {last}, false));
  }
  const ClassRows rows = class_rows(LossKind::softmax_cross_entropy, logits, labels);
  return b.multi("SoftmaxCrossEntropyLoss", kOnnxDomain, {rows.scores, rows.labels}, 2,
                 {{"reduction", std::string("mean")}})[0];
}

Expr clamp(Expr x, double low, double high) {
  Builder& b = x.builder();
  return b.op("Clip", {x, b.scalar(low, x.dtype()), b.scalar(high, x.dtype())});
}

Expr elementwise_loss(LossKind kind, Expr y, Expr labels) {
  Builder& b = y.builder();
  if (labels.shape() != y.shape()) {
    if (labels.shape().count() != y.shape().count() || labels.shape()[0] != y.shape()[0]) mismatch(kind, y, labels);
    labels = b.reshape(labels, y.shape());
  }
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
          Expr labels = b.expr(graph.add_input("labels", options.label_dtype, options.label_shape));
          if (options.kind == LossKind::softmax_cross_entropy) {
            const Node* softmax = final_node(graph, y.id(), "Softmax");
            if (!softmax) softmax = final_node(graph, y.id(), "LogSoftmax");
            if (softmax) {
              y = b.expr(softmax->inputs[0]);
              graph.outputs[which] = y.id();
            }
            y = b.cast(y, y.dtype() == DType::f64 ? DType::f64 : DType::f32);
            loss = cross_entropy(y, labels);
          } else if (options.kind == LossKind::negative_log_likelihood) {
            const ClassRows rows = class_rows(options.kind, b.cast(y, DType::f32), labels);
            loss = b.op("NegativeLogLikelihoodLoss", {rows.scores, rows.labels}, {{"reduction", std::string("mean")}});
          } else {
            loss = elementwise_loss(options.kind, b.cast(y, y.dtype() == DType::f64 ? DType::f64 : DType::f32), labels);
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
