// The optimizers of domain ai.onnx.preview.training, for models that contain their own update.
#include <array>
#include <cmath>

#include <fmt/format.h>

#include "ops/families.h"
#include <halfstep/base/error.h>
#include <halfstep/ops/kernel_util.h>

namespace halfstep::ops {
namespace {

constexpr std::string_view kTrainingDomain = "ai.onnx.preview.training";
constexpr std::size_t kScalars = 2;  // R, the learning rate, and T, the number of previous updates
constexpr std::size_t kGradient = 1;

double single_number(const Tensor& tensor, const char* what) {
  if (tensor.count() != 1)
    throw_input_error(fmt::format("one number for {}", what), tensor.shape().to_string(), "correct the model");
  return to_doubles(tensor)[0];
}
double learning_rate(const KernelCall& call) { return single_number(call.in[0], "the learning rate"); }
double update_count(const KernelCall& call) { return single_number(call.in[1], "the update count"); }

/// After the scalars, the operands are `groups` lists of equal length: tensors, gradients, then state; the results are
/// all of these except the gradients. `update` gets one element of each group and changes all but the gradient.
template <std::size_t groups, class Update>
void update_all(KernelCall& call, Update update) {
  const std::size_t operands = call.in.size() - kScalars, count = operands / groups;
  if (count * groups != operands || call.out.size() != count * (groups - 1))
    throw_input_error(fmt::format("{} and {} tensors for each optimized one in and out", groups, groups - 1),
                      fmt::format("{} and {}", operands, call.out.size()), "correct the model");
  for (std::size_t i = 0; i < count; ++i) {
    auto operand = [&](std::size_t group) -> const Tensor& { return call.in[kScalars + group * count + i]; };
    std::array<std::vector<double>, groups> values;
    for (std::size_t group = 0; group < groups; ++group) {
      if (operand(group).shape() != operand(0).shape())
        throw_input_error("gradients and state of the optimized tensor's shape " + operand(0).shape().to_string(),
                          operand(group).shape().to_string(), "correct the model");
      values[group] = to_doubles(operand(group));
    }
    for (std::size_t k = 0; k < values[0].size(); ++k) {
      std::array<double, groups> element;
      for (std::size_t group = 0; group < groups; ++group) element[group] = values[group][k];
      update(element);
      for (std::size_t group = 0; group < groups; ++group) values[group][k] = element[group];
    }
    for (std::size_t group = 0; group < groups; ++group) {
      if (group == kGradient) continue;
      const std::size_t out = (group < kGradient ? group : group - 1) * count + i;
      if (call.has_out(out))
        store(ensure_out(call, out, operand(group).dtype(), operand(group).shape()), values[group]);
    }
  }
}

void adagrad(KernelCall& call) {
  const Attributes& a = call.node.attributes;
  const double decay = a.get_float("decay_factor", 0), epsilon = a.get_float("epsilon", 1e-6f);
  const double norm = a.get_float("norm_coefficient", 0);
  const double rate = learning_rate(call) / (1 + update_count(call) * decay);
  update_all<3>(call, [&](std::array<double, 3>& element) {
    auto& [x, g, squares] = element;
    const double gradient = norm * x + g;
    squares += gradient * gradient;
    x -= rate * gradient / (std::sqrt(squares) + epsilon);
  });
}

void adam(KernelCall& call) {
  const Attributes& a = call.node.attributes;
  const double alpha = a.get_float("alpha", 0.9f), beta = a.get_float("beta", 0.999f);
  const double epsilon = a.get_float("epsilon", 1e-6f), norm = a.get_float("norm_coefficient", 0);
  const double norm_post = a.get_float("norm_coefficient_post", 0), t = update_count(call);
  const double correction = t > 0 ? std::sqrt(1 - std::pow(beta, t)) / (1 - std::pow(alpha, t)) : 1;
  const double rate = learning_rate(call) * correction;
  update_all<4>(call, [&](std::array<double, 4>& element) {
    auto& [x, g, first, second] = element;
    const double gradient = norm * x + g;
    first = alpha * first + (1 - alpha) * gradient;
    second = beta * second + (1 - beta) * gradient * gradient;
    x = (1 - norm_post) * (x - rate * first / (std::sqrt(second) + epsilon));
  });
}

void momentum(KernelCall& call) {
  const Attributes& a = call.node.attributes;
  const std::string mode = a.get_string("mode", "");
  if (mode != "standard" && mode != "nesterov")
    throw_input_error("mode standard or nesterov of Momentum", "'" + mode + "'", "correct the model");
  const double alpha = a.get_float("alpha", 0), norm = a.get_float("norm_coefficient", 0);
  // The first gradient becomes the momentum unchanged.
  const double beta = update_count(call) > 0 ? a.get_float("beta", 0) : 1;
  const double rate = learning_rate(call);
  update_all<3>(call, [&](std::array<double, 3>& element) {
    auto& [x, g, v] = element;
    const double gradient = norm * x + g;
    v = alpha * v + beta * gradient;
    x -= rate * (mode == "nesterov" ? gradient + alpha * v : v);
  });
}

// Table ---------------------------------------------------------------------------------------------------------------

const std::vector<OpCase> kAdagradCases = {
    {"(float r, float[2,3] x, float[2,3] g, float[2,3] h) => (float[2,3] nx, float[2,3] nh) <int64 t = {3}> "
     "{ nx, nh = ai.onnx.preview.training.Adagrad<decay_factor = 0.1, norm_coefficient = 0.01>(r, t, x, g, h) }",
     0.01, 1, false},
    {"(float r, float[2] a, float[3] b, float[2] ga, float[3] gb, float[2] ha, float[3] hb) => "
     "(float[2] na, float[3] nb, float[2] nha, float[3] nhb) <int64 t = {0}> "
     "{ na, nb, nha, nhb = ai.onnx.preview.training.Adagrad(r, t, a, b, ga, gb, ha, hb) }",
     0.01, 1, false},
};

const std::vector<OpCase> kAdamCases = {
    {"(float r, float[2,3] x, float[2,3] g, float[2,3] v, float[2,3] h) => "
     "(float[2,3] nx, float[2,3] nv, float[2,3] nh) <int64 t = {0}> "
     "{ nx, nv, nh = ai.onnx.preview.training.Adam<norm_coefficient = 0.01>(r, t, x, g, v, h) }",
     0.01, 1, false},
    {"(float r, float[3] x, float[3] g, float[3] v, float[3] h) => (float[3] nx, float[3] nv, float[3] nh) "
     "<int64 t = {7}> { nx, nv, nh = ai.onnx.preview.training.Adam<alpha = 0.95, beta = 0.1, "
     "norm_coefficient_post = 0.001>(r, t, x, g, v, h) }",
     0.01, 1, false},
};

const std::vector<OpCase> kMomentumCases = {
    {"(float r, float[2,3] x, float[2,3] g, float[2,3] v) => (float[2,3] nx, float[2,3] nv) <int64 t = {0}> "
     "{ nx, nv = ai.onnx.preview.training.Momentum<norm_coefficient = 0.01, alpha = 0.95, beta = 0.1, "
     "mode = \"standard\">(r, t, x, g, v) }",
     0.01, 1, false},
    {"(float r, float[3] x, float[3] g, float[3] v) => (float[3] nx, float[3] nv) <int64 t = {2}> "
     "{ nx, nv = ai.onnx.preview.training.Momentum<norm_coefficient = 0.0, alpha = 0.9, beta = 1.0, "
     "mode = \"nesterov\">(r, t, x, g, v) }",
     0.01, 1, false},
};

constexpr std::string_view kNote = "the model's own update; training with --optimizer does not use it";

}  // namespace

std::span<const OpDef> onnx_optimizer_ops() {
  static const OpDef rows[] = {
      {.name = "Adagrad", .domain = kTrainingDomain, .reference = adagrad, .cases = kAdagradCases, .note = kNote},
      {.name = "Adam", .domain = kTrainingDomain, .reference = adam, .cases = kAdamCases, .note = kNote},
      {.name = "Momentum", .domain = kTrainingDomain, .reference = momentum, .cases = kMomentumCases, .note = kNote},
  };
  return rows;
}

}  // namespace halfstep::ops
