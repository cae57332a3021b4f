// Shared parts of RNN, LSTM and GRU: extents, attributes, activation functions.
#pragma once

#include <cstdint>
#include <span>
#include <string_view>
#include <vector>

#include <halfstep/base/api.h>
#include <halfstep/graph/graph.h>

namespace HALFSTEP_API halfstep {
namespace ops {

/// An activation function by its ONNX name, with its parameters.
class RecurrentActivation {
 public:
  /// A function that ONNX allows in a recurrent operator. `slope` is its derivative, at kinks as in PyTorch.
  struct Function {
    std::string_view name;
    double (*value)(double x, double alpha, double beta);
    double (*slope)(double x, double alpha, double beta);
    int parameters;              ///< number of parameters among alpha, beta
    double alpha = 0, beta = 0;  ///< defaults
  };

  RecurrentActivation() = default;
  RecurrentActivation(const Function& function, double alpha, double beta)
      : function_(&function), alpha_(alpha), beta_(beta) {}

  std::string_view name() const { return function_->name; }
  double value(double x) const { return function_->value(x, alpha_, beta_); }
  double slope(double x) const { return function_->slope(x, alpha_, beta_); }

 private:
  const Function* function_ = nullptr;
  double alpha_ = 0, beta_ = 0;
};

/// The attributes of one RNN, LSTM or GRU node or of its gradient.
struct RecurrentAttributes {
  /// Options of one direction; `activations` are f, g, h in the order of ONNX's equations.
  struct Direction {
    bool reverse = false;
    std::vector<RecurrentActivation> activations;
  };
  std::vector<Direction> directions;  ///< one, or forward and reverse
  double clip = 0;                    ///< bound of the inputs of activations; infinity if there is none
  bool batch_first = false;           ///< `layout` 1
  bool input_forget = false;          ///< LSTM
  bool linear_before_reset = false;   ///< GRU

  /// `defaults` names the activations of one direction. Throws Error naming an attribute with an invalid value.
  RecurrentAttributes(const Node& node, std::span<const std::string_view> defaults);
};

/// Extents, and offsets in row-major tensors of either layout.
struct RecurrentExtents {
  std::int64_t steps, batch, inputs, hidden, directions;
  bool batch_first;

  /// From X [T, N, I], W [D, gates*H, I] and R [D, gates*H, H]; throws Error if they do not fit each other or the
  /// attributes.
  RecurrentExtents(const Node& node, const RecurrentAttributes& attributes, std::int64_t gates, const Shape& x,
                   const Shape& w, const Shape& r);

  /// Offsets of the row of X (I elements), Y and a state (H elements each).
  std::size_t x(std::int64_t step, std::int64_t sequence) const;
  std::size_t y(std::int64_t step, std::int64_t direction, std::int64_t sequence) const;
  std::size_t state(std::int64_t direction, std::int64_t sequence) const;

  Shape y_shape() const;
  Shape state_shape() const;
};

}  // namespace ops
}  // namespace halfstep
