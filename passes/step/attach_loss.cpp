#include <algorithm>
#include <cmath>
#include <map>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "graph/bodies.h"
#include "passes/step/class_axis.h"
#include <halfstep/base/error.h>
#include <halfstep/ops/builder.h>
#include <halfstep/ops/infer.h>
#include <halfstep/passes/passes.h>
#include <halfstep/passes/step/loss_options.h>

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

std::size_t class_axis_of(const LossTerm& term, const Graph& graph, ValueId output) {
  const Value& value = graph[output];
  if (term.class_axis) return given_class_axis(value, *term.class_axis);
  const std::vector<std::size_t> fitting = class_axes(value.shape, term.label_shape);
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

// Writes the loss of a graph.
class LossWriter {
 public:
  LossWriter(Graph& graph, const LossOptions& options) : graph_(graph), options_(options), b_(graph) {
    b_.set_context("loss");
    model_outputs_ = graph.outputs;
    for (const ValueId id : model_outputs_) names_.push_back(graph[id].name);
  }

  void write() {
    const ValueId of_model(graph_.values.size());  // ids below are the model's own
    const Expr loss = options_.function.write ? of_function() : of_terms();
    if (loss.id() >= of_model) graph_.rename(loss.id(), "loss");
    graph_.step.push_back({StepRole::loss, loss.id()});
    std::vector<ValueId> outputs{loss.id()};
    for (std::size_t i = 0; i < graph_.outputs.size(); ++i) {
      if (model_outputs_[i] == own_loss_) continue;
      outputs.push_back(graph_.outputs[i]);
      graph_.step.push_back({StepRole::output, graph_.outputs[i]});
    }
    if (terms_.size() > 1)
      for (const Expr term : terms_) {
        outputs.push_back(term.id());
        graph_.step.push_back({StepRole::term, term.id()});
      }
    for (const StepValue& value : graph_.step)
      if (value.role == StepRole::prediction && std::ranges::find(outputs, value.value) == outputs.end())
        outputs.push_back(value.value);
    graph_.outputs = std::move(outputs);
    graph_.remove_dead();
  }

 private:
  Expr of_terms() {
    if (options_.terms.empty()) throw_input_error("a term of a loss", "none", "");
    Expr sum;
    for (const LossTerm& term : options_.terms) {
      const LossDef& row = loss_named(term.loss);
      if (!std::isfinite(term.weight))
        throw_input_error("a finite weight of each term of a loss", fmt::format("{}", term.weight),
                          "correct the weight");
      terms_.push_back(row.formula ? of_labels(row, term) : of_model(term));
      const Expr weighted = term.weight == 1 ? terms_.back() : terms_.back() * term.weight;
      sum = sum ? sum + b_.cast(weighted, sum.dtype()) : weighted;
    }
    return sum;
  }

  Expr of_function() {
    NamedExprs outputs, labels;
    for (const ValueId id : graph_.outputs) outputs.emplace(graph_[id].name, b_.expr(id));
    for (const LabelInput& label : options_.function.labels)
      labels.emplace(label.name, input(label.name, label.dtype, label.shape, StepRole::labels));
    const Expr loss = options_.function.write(b_, outputs, labels);
    if (!loss || !is_float(loss.dtype()) || !loss.shape().is_static() || loss.shape().count() != 1)
      throw_input_error("one number of a float type from the function of the loss",
                        loss ? std::string(name_of(loss.dtype())) + loss.shape().to_string() : "nothing",
                        "reduce it to a scalar");
    return b_.reshape(loss, Shape{});
  }

  // The output that the model computes as its loss.
  Expr of_model(const LossTerm& term) {
    const std::size_t which = output_of(term);
    own_loss_ = model_outputs_[which];
    if (const ValueId labels = graph_.find(term.labels_input); graph_.is_input(labels))
      graph_.step.push_back({StepRole::labels, labels});
    return own_loss(b_.expr(own_loss_));
  }

  // The loss of an output, which becomes the scores that it is computed from where the loss takes those.
  Expr of_labels(const LossDef& row, const LossTerm& term) {
    const std::size_t which = output_of(term);
    const ValueId output = model_outputs_[which];
    check_labels_fit(row, graph_[output], term.label_dtype, term.label_shape, term.class_axis);
    LossOperands operands{.y = b_.expr(output),
                          .labels = input(term.labels, term.label_dtype, term.label_shape, StepRole::labels),
                          .ignored = term.ignore_label,
                          .numbers = numbers_of(row, term.numbers),
                          .class_weights = term.class_weights,
                          .sample_weights = sample_weights_of(term),
                          .reduction = term.reduction};
    if (!row.along.empty()) {
      operands.axis = class_axis_of(term, graph_, output);
      operands.indices = row.labels == LossLabels::classes && is_integer(term.label_dtype) &&
                         are_class_indices(graph_[output].shape, term.label_shape, operands.axis);
    }
    check_class_weights(row, operands);
    if (row.on_scores)
      if (const Expr scores = before_softmax(operands.y, operands.axis)) {
        operands.y = scores;
        graph_.outputs[which] = scores.id();
      }
    // With a label for each element, metrics may compare them with the model's own output.
    graph_.step.push_back({StepRole::prediction, operands.indices ? operands.y.id() : output});
    const Shape shape = operands.y.shape();
    operands.y = b_.cast(operands.y, operands.y.dtype() == DType::f64 ? DType::f64 : DType::f32);
    if (!operands.indices) {
      if (operands.labels.shape() != shape) operands.labels = b_.reshape(operands.labels, shape);
      operands.labels = b_.cast(operands.labels, operands.y.dtype());
    }
    return row.formula(operands);
  }

  std::size_t output_of(const LossTerm& term) const {
    if (term.output.empty()) return 0;
    const auto at = std::ranges::find(names_, term.output);
    if (at != names_.end()) return static_cast<std::size_t>(at - names_.begin());
    throw_input_error(fmt::format("the name of a model output ({})", fmt::join(names_, ", ")),
                      fmt::format("'{}'", term.output), "check the output's name");
  }

  Expr sample_weights_of(const LossTerm& term) {
    if (term.sample_weights.empty()) return {};
    const Shape& shape = term.sample_weight_shape;
    const bool per_row = shape.rank() == 1 && term.label_shape.rank() > 0 && shape[0] == term.label_shape[0];
    if (!per_row && !equal_but_for_unit_axes(shape, term.label_shape))
      throw_input_error(
          fmt::format("sample weights for the rows or points of labels of shape {}", term.label_shape.to_string()),
          shape.to_string(), "give a weight for each row");
    return input(term.sample_weights, DType::f32, shape, StepRole::sample_weights);
  }

  static void check_class_weights(const LossDef& row, const LossOperands& operands) {
    if (operands.class_weights.empty()) return;
    if (!row.weighs)
      throw_input_error("a loss over classes, for class weights", std::string(row.name), "leave the class weights out");
    const std::int64_t classes = row.labels == LossLabels::binary ? 2 : operands.y.shape()[operands.axis];
    if (static_cast<std::int64_t>(operands.class_weights.size()) != classes)
      throw_input_error(fmt::format("{} class weights", classes), std::to_string(operands.class_weights.size()),
                        "give one for each class, in their order");
    for (const double weight : operands.class_weights)
      if (!(weight >= 0 && weight <= 1e30))
        throw_input_error("class weights of at least 0", fmt::format("{}", weight), "correct the weight");
  }

  // The input of that name, made once.
  Expr input(const std::string& name, DType dtype, const Shape& shape, StepRole role) {
    const auto [at, is_new] = inputs_.try_emplace(name, kNoValue);
    if (is_new) {
      at->second = graph_.add_input(name, dtype, shape);
      graph_.step.push_back({role, at->second});
    } else if (graph_[at->second].dtype != dtype || graph_[at->second].shape != shape) {
      throw_input_error(fmt::format("one type of '{}' in all terms of the loss", name),
                        fmt::format("{}{} and {}{}", name_of(graph_[at->second].dtype),
                                    graph_[at->second].shape.to_string(), name_of(dtype), shape.to_string()),
                        "give each term its own labels");
    }
    return b_.expr(at->second);
  }

  Graph& graph_;
  const LossOptions& options_;
  Builder b_;
  std::vector<Expr> terms_;
  std::vector<ValueId> model_outputs_;  // their places among the graph's scores may take
  std::vector<std::string> names_;
  std::map<std::string, ValueId> inputs_;
  ValueId own_loss_ = kNoValue;
};

}  // namespace

void check_labels_fit(const LossDef& loss, const Value& output, DType label_dtype, const Shape& label_shape,
                      std::optional<std::int64_t> class_axis, const std::string& hint) {
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
                             "shape, or choose another --loss"
                           : "give labels of that shape, or choose another --loss";
  if (!loss.along.empty() && shape.rank() > 2) remedy += class_axis ? ", or another --class-axis" : ", or --class-axis";
  throw_input_error(fmt::format("labels that fit the model's output '{}' of shape {} under {}", output.name,
                                shape.to_string(), loss.name),
                    fmt::format("labels of {}{}", name_of(label_dtype), label_shape.to_string()),
                    hint.empty() ? remedy : hint + "; else " + remedy);
}

LossFunction loss_of_model(Graph model) {
  if (!model.states.empty() || model.outputs.empty())
    throw_input_error("a model without states and with an output, as a loss", "another", "export the loss alone");
  return {.write = [model = std::move(model)](Builder& b, const NamedExprs& outputs, const NamedExprs& labels) {
    BodyArguments arguments;
    for (const ValueId in : model.inputs) {
      const std::string& name = model[in].name;
      const auto output = outputs.find(name), label = labels.find(name);
      if (output == outputs.end() && label == labels.end())
        throw_input_error("inputs of the loss model that are outputs of the model or labels", fmt::format("'{}'", name),
                          "name it like one of them");
      arguments.inputs.push_back((output != outputs.end() ? output : label)->second.id());
    }
    Graph& graph = b.graph();
    const std::size_t first = graph.nodes.size();
    const ValueId loss = append_copy(graph, model, arguments, "loss.").at(0);
    for (std::size_t i = first; i < graph.nodes.size(); ++i) infer_node(graph, graph.nodes[i]);
    return b.expr(loss);
  }};
}

Pass attach_loss(LossTerm term) { return attach_loss(LossOptions{.terms = {std::move(term)}}); }

Pass attach_loss(LossOptions options) {
  return {"attach_loss", [options = std::move(options)](Graph& graph) {
            if (graph.outputs.empty()) throw_input_error("a model with an output", "none", "export the model again");
            LossWriter(graph, options).write();
          }};
}

}  // namespace halfstep
