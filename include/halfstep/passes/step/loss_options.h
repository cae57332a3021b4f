// What a user decides about the loss: terms of the table of losses, or a formula of one's own.
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

/// One summand of a loss, of one output of the model.
struct LossTerm {
  std::string loss{losses().front().name};  ///< of a row of the table of losses
  std::string output = {};                  ///< the model output it is computed from; empty: the first
  DType label_dtype = DType::i64;           ///< i64 class indices, or f32
  Shape label_shape = {};                   ///< whole shape, batch included
  /// Where a loss over classes (or vectors) has them in the output, from the back when negative. Unset: as the labels'
  /// shape tells, else as the model's last layer does, else 1.
  std::optional<std::int64_t> class_axis = {};
  /// Points with this class index, or elements with this binary label, count neither in the loss nor in its mean. The
  /// mean of none is 0.
  std::optional<std::int64_t> ignore_label = {};
  LossNumbers numbers = {};  ///< those of the loss that are not its defaults
  /// The model's input that takes the labels, where it computes the loss itself and has one.
  std::string labels_input = {};
  std::string labels = "labels";           ///< what the input for the labels is called; terms may share one
  double weight = 1;                       ///< of this term in the sum
  std::vector<double> class_weights = {};  ///< one for each class; empty: all 1
  std::string sample_weights = {};         ///< an input of weights; empty: none
  Shape sample_weight_shape = {};          ///< [rows], or that of the labels
  LossReduction reduction = LossReduction::mean;
};

/// An input that a loss of one's own takes.
struct LabelInput {
  std::string name;
  DType dtype = DType::f32;
  Shape shape = {};  ///< whole shape, batch included
};
using NamedExprs = std::map<std::string, Expr, std::less<>>;

/// A loss of one's own: a formula over outputs of the model and labels, differentiated like the model. `write` returns
/// one number, of a float type.
struct LossFunction {
  std::function<Expr(Builder& b, const NamedExprs& outputs, const NamedExprs& labels)> write = {};
  std::vector<LabelInput> labels = {};
};

struct LossOptions {
  std::vector<LossTerm> terms = {{}};  ///< at least one, but with a function
  LossFunction function = {};          ///< set: instead of the terms
};

/// Throws Error unless labels of this type and shape (batch included) fit the output under a loss, naming both shapes
/// and, in its remedy, `hint` before what else can be done.
void check_labels_fit(const LossDef& loss, const Value& output, DType label_dtype, const Shape& label_shape,
                      std::optional<std::int64_t> class_axis, const std::string& hint = {});

/// A loss that another model computes, from inputs that are called like outputs of the model or else are labels; its
/// first output is the loss. Throws Error(input) when it has parts that need a run of their own (states).
LossFunction loss_of_model(Graph loss_model);

}  // namespace halfstep
