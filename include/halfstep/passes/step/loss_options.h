// Options of the loss: terms of the table of losses, or a custom formula.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include <halfstep/base/api.h>
#include <halfstep/graph/graph.h>
#include <halfstep/ops/builder.h>
#include <halfstep/ops/losses/loss_def.h>

namespace HALFSTEP_API halfstep {

/// One term of a loss, for one output of the model.
struct LossTerm {
  std::string loss{losses().front().name};  ///< a row of the table of losses
  std::string output = {};                  ///< the model output it is computed from; empty: the first
  DType label_dtype = DType::i64;           ///< i64 class indices, or f32
  Shape label_shape = {};                   ///< whole shape, batch included
  /// Class (or vector) axis of the output; negative axes count from the back. Unset: from the labels' shape, else from
  /// the model's last layer, else 1.
  std::optional<std::int64_t> class_axis = {};
  /// Points with this class index, or elements with this binary label, are ignored in the loss and its mean. The mean
  /// is 0 if all are ignored.
  std::optional<std::int64_t> ignore_label = {};
  LossNumbers numbers = {};  ///< parameters of the loss other than defaults
  /// The model's input for the labels, if it computes the loss itself and has one.
  std::string labels_input = {};
  std::string labels = "labels";           ///< name of the input for the labels; terms may share one
  double weight = 1;                       ///< of this term in the sum
  std::vector<double> class_weights = {};  ///< one per class; empty: all 1
  std::string sample_weights = {};         ///< an input of weights; empty: none
  Shape sample_weight_shape = {};          ///< [rows], or that of the labels
  LossReduction reduction = LossReduction::mean;
};

/// An input of a custom loss.
struct LabelInput {
  std::string name;
  DType dtype = DType::f32;
  Shape shape = {};  ///< whole shape, batch included
};
using NamedExprs = std::map<std::string, Expr, std::less<>>;

/// A custom loss: a formula over outputs of the model and labels, differentiated like the model. `write` returns a
/// scalar of a float type.
struct LossFunction {
  std::function<Expr(Builder& b, const NamedExprs& outputs, const NamedExprs& labels)> write = {};
  std::vector<LabelInput> labels = {};
};

struct LossOptions {
  std::vector<LossTerm> terms = {{}};  ///< at least one, unless `function` is set
  LossFunction function = {};          ///< if set, used instead of the terms
};

/// Throws Error unless labels of this type and shape (batch included) fit the output for a loss. The error names both
/// shapes; its remedy starts with `hint`.
void check_labels_fit(const LossDef& loss, const Value& output, DType label_dtype, const Shape& label_shape,
                      std::optional<std::int64_t> class_axis, const std::string& hint = {});

/// A loss computed by another model. Its inputs are outputs of the model with the same names, and labels; its first
/// output is the loss. Throws Error(input) if it has states.
LossFunction loss_of_model(Graph loss_model);

}  // namespace halfstep
