#include "ops/recurrent/recurrent.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include <fmt/format.h>

#include <halfstep/base/error.h>

namespace halfstep::ops {
namespace {

double sigmoid(double x) { return 1 / (1 + std::exp(-x)); }

using Function = RecurrentActivation::Function;

// Source: the list in the documentation of ONNX's RNN; defaults are those of the ONNX operators of the same name.
const Function kFunctions[] = {
    {"Relu", [](double x, double, double) { return std::max(x, 0.0); },
     [](double x, double, double) { return x <= 0 ? 0.0 : 1.0; }, 0},
    {"Tanh", [](double x, double, double) { return std::tanh(x); },
     [](double x, double, double) { return 1 - std::tanh(x) * std::tanh(x); }, 0},
    {"Sigmoid", [](double x, double, double) { return sigmoid(x); },
     [](double x, double, double) { return sigmoid(x) * (1 - sigmoid(x)); }, 0},
    {"Affine", [](double x, double alpha, double beta) { return alpha * x + beta; },
     [](double, double alpha, double) { return alpha; }, 2, 1, 0},
    {"LeakyRelu", [](double x, double alpha, double) { return x >= 0 ? x : alpha * x; },
     [](double x, double alpha, double) { return x > 0 ? 1.0 : alpha; }, 1, 0.01},
    {"ThresholdedRelu", [](double x, double alpha, double) { return x < alpha ? 0 : x; },
     [](double x, double alpha, double) { return x <= alpha ? 0.0 : 1.0; }, 1, 1},
    {"ScaledTanh", [](double x, double alpha, double beta) { return alpha * std::tanh(beta * x); },
     [](double x, double alpha, double beta) { return alpha * beta * (1 - std::tanh(beta * x) * std::tanh(beta * x)); },
     2, 1, 1},
    {"HardSigmoid", [](double x, double alpha, double beta) { return std::clamp(alpha * x + beta, 0.0, 1.0); },
     [](double x, double alpha, double beta) { return alpha * x + beta <= 0 || alpha * x + beta >= 1 ? 0.0 : alpha; },
     2, 0.2, 0.5},
    {"Elu", [](double x, double alpha, double) { return x >= 0 ? x : alpha * std::expm1(x); },
     [](double x, double alpha, double) { return x > 0 ? 1.0 : alpha * std::exp(x); }, 1, 1},
    {"Softsign", [](double x, double, double) { return x / (1 + std::fabs(x)); },
     [](double x, double, double) { return 1 / ((1 + std::fabs(x)) * (1 + std::fabs(x))); }, 0},
    {"Softplus", [](double x, double, double) { return std::max(x, 0.0) + std::log1p(std::exp(-std::fabs(x))); },
     [](double x, double, double) { return sigmoid(x); }, 0},
};

const Function& find_function(std::string_view name, const Node& node) {
  const auto found = std::ranges::find(kFunctions, name, &Function::name);
  if (found != std::end(kFunctions)) return *found;
  std::string known;
  for (const Function& function : kFunctions) known += fmt::format("{}{}", known.empty() ? "" : ", ", function.name);
  throw_input_error("activations out of " + known, fmt::format("'{}' in {} '{}'", name, node.op, node.name),
                    "check the node's attribute 'activations'");
}

std::vector<std::string_view> activation_names(const Node& node, std::span<const std::string_view> defaults,
                                               std::size_t directions) {
  std::vector<std::string_view> names;
  const Attribute* attribute = node.attributes.find("activations");
  if (const auto* given = attribute ? std::get_if<std::vector<std::string>>(attribute) : nullptr) {
    names.assign(given->begin(), given->end());
  } else {
    for (std::size_t i = 0; i < directions; ++i) names.insert(names.end(), defaults.begin(), defaults.end());
  }
  // The schema of RNN has two default activations for any direction.
  const std::size_t needed = defaults.size() * directions;
  if (names.size() > needed && directions == 1) names.resize(needed);
  if (names.size() != needed)
    throw_input_error(fmt::format("{} activations", needed),
                      fmt::format("{} in {} '{}'", names.size(), node.op, node.name),
                      "check the node's attribute 'activations'");
  return names;
}

[[noreturn]] void throw_shapes(const Node& node, const std::string& required, const std::string& found) {
  throw_input_error(required, fmt::format("{} in {} '{}'", found, node.op, node.name),
                    "check the shapes fed to this operator");
}

}  // namespace

RecurrentAttributes::RecurrentAttributes(const Node& node, std::span<const std::string_view> defaults) {
  const Attributes& a = node.attributes;
  const std::string direction = a.get_string("direction", "forward");
  if (direction == "forward") {
    directions = {{false, {}}};
  } else if (direction == "reverse") {
    directions = {{true, {}}};
  } else if (direction == "bidirectional") {
    directions = {{false, {}}, {true, {}}};
  } else {
    throw_input_error("direction forward, reverse or bidirectional",
                      fmt::format("'{}' in {} '{}'", direction, node.op, node.name), "check the node");
  }
  clip = a.get_float("clip", std::numeric_limits<float>::infinity());
  if (!(clip > 0))
    throw_input_error("a positive clip", fmt::format("{} in {} '{}'", clip, node.op, node.name), "check the node");
  batch_first = a.get_int("layout", 0) != 0;
  input_forget = a.get_int("input_forget", 0) != 0;
  linear_before_reset = a.get_int("linear_before_reset", 0) != 0;

  // The parameters are in the order of the functions that read them.
  const std::vector<std::string_view> names = activation_names(node, defaults, directions.size());
  const std::vector<float> alphas = a.get_floats("activation_alpha"), betas = a.get_floats("activation_beta");
  std::size_t next_alpha = 0, next_beta = 0;
  for (std::size_t i = 0; i < names.size(); ++i) {
    const Function& function = find_function(names[i], node);
    const bool has_alpha = function.parameters > 0 && next_alpha < alphas.size();
    const bool has_beta = function.parameters > 1 && next_beta < betas.size();
    directions[i / defaults.size()].activations.emplace_back(
        function, has_alpha ? alphas[next_alpha++] : function.alpha, has_beta ? betas[next_beta++] : function.beta);
  }
}

RecurrentExtents::RecurrentExtents(const Node& node, const RecurrentAttributes& attributes, std::int64_t gates,
                                   const Shape& x, const Shape& w, const Shape& r)
    : batch_first(attributes.batch_first) {
  if (x.rank() != 3 || w.rank() != 3 || r.rank() != 3)
    throw_shapes(node, "X, W and R of three axes",
                 fmt::format("{}, {}, {}", x.to_string(), w.to_string(), r.to_string()));
  steps = x[batch_first ? 1 : 0];
  batch = x[batch_first ? 0 : 1];
  inputs = x[2];
  hidden = r[2];
  directions = static_cast<std::int64_t>(attributes.directions.size());
  if (hidden != node.attributes.get_int("hidden_size", hidden))
    throw_shapes(node, "hidden_size equal to the last extent of R", r.to_string());
  const Shape w_shape{directions, gates * hidden, inputs}, r_shape{directions, gates * hidden, hidden};
  if (w != w_shape || r != r_shape)
    throw_shapes(node, fmt::format("W {} and R {}", w_shape.to_string(), r_shape.to_string()),
                 fmt::format("{} and {}", w.to_string(), r.to_string()));
}

std::size_t RecurrentExtents::x(std::int64_t step, std::int64_t sequence) const {
  return static_cast<std::size_t>((batch_first ? sequence * steps + step : step * batch + sequence) * inputs);
}

std::size_t RecurrentExtents::y(std::int64_t step, std::int64_t direction, std::int64_t sequence) const {
  const std::int64_t row = batch_first ? (sequence * steps + step) * directions + direction
                                       : (step * directions + direction) * batch + sequence;
  return static_cast<std::size_t>(row * hidden);
}

std::size_t RecurrentExtents::state(std::int64_t direction, std::int64_t sequence) const {
  return static_cast<std::size_t>((batch_first ? sequence * directions + direction : direction * batch + sequence) *
                                  hidden);
}

Shape RecurrentExtents::y_shape() const {
  return batch_first ? Shape{batch, steps, directions, hidden} : Shape{steps, directions, batch, hidden};
}

Shape RecurrentExtents::state_shape() const {
  return batch_first ? Shape{batch, directions, hidden} : Shape{directions, batch, hidden};
}

}  // namespace halfstep::ops
