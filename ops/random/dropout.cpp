#include "ops/random/dropout.h"

#include <algorithm>
#include <random>

#include <fmt/format.h>

#include "ops/magnitude.h"
#include "ops/onnx_row.h"
#include "ops/random/philox_dropout.h"
#include "ops/schema_util.h"
#include <halfstep/base/error.h>
#include <halfstep/ops/kernel_util.h>

namespace halfstep::ops {
namespace {

/// Sets output 0 to x / (1 - ratio) where `keep` is true and 0 elsewhere, and output 1, if present, to `keep`.
void apply_mask(KernelCall& call, const std::vector<std::int64_t>& keep, double ratio) {
  const Tensor& x = call.in[0];
  std::vector<double> y = to_doubles(x);
  const double scale = 1 / (1 - ratio);
  for (std::size_t i = 0; i < y.size(); ++i) y[i] = keep[i] ? y[i] * scale : 0;
  if (call.has_out(0)) store(ensure_out(call, 0, x.dtype(), x.shape()), y);
  if (call.has_out(1)) store(ensure_out(call, 1, DType::boolean, x.shape()), keep);
}

double checked_ratio(const Tensor& tensor) {
  const std::vector<double> values = to_doubles(tensor);
  if (values.size() != 1 || !(values[0] >= 0 && values[0] < 1))
    throw_input_error("a dropout ratio that is one number in [0, 1)",
                      values.size() == 1 ? std::to_string(values[0]) : fmt::format("{} numbers", values.size()),
                      "correct the model");
  return values[0];
}

// The random numbers (MT19937, 53-bit uniforms) are those of ONNX's own reference implementation.
void dropout_kernel(KernelCall& call) {
  double ratio = call.has_in(1) ? checked_ratio(call.in[1]) : 0.5;
  const bool training = call.has_in(2) && single_int(call.in[2], "training_mode") != 0;
  std::vector<std::int64_t> keep(static_cast<std::size_t>(call.in[0].count()), 1);
  if (!training || ratio == 0) {
    apply_mask(call, keep, 0);
    return;
  }
  std::mt19937 engine(static_cast<std::uint32_t>(call.node.attributes.get_int("seed", 0)));
  for (std::int64_t& k : keep) {
    const double high = engine() >> 5, low = engine() >> 6;
    k = (high * 0x1p26 + low) * 0x1p-53 >= ratio;
  }
  apply_mask(call, keep, ratio);
}

void philox_dropout_kernel(KernelCall& call) {
  const double ratio = checked_ratio(call.in[1]);
  const DropoutStream stream = {static_cast<std::uint64_t>(call.node.attributes.get_int("seed", 0)),
                                static_cast<std::uint32_t>(call.node.attributes.get_int("stream", 0)),
                                static_cast<std::uint64_t>(single_int(call.in[2], "counter"))};
  std::vector<std::int64_t> keep(static_cast<std::size_t>(call.in[0].count()));
  for (std::size_t first = 0; first < keep.size(); first += 4) {
    const std::array<float, 4> uniforms = stream.uniforms(first / 4);
    for (std::size_t i = first; i < std::min(first + 4, keep.size()); ++i) keep[i] = uniforms[i - first] >= ratio;
  }
  apply_mask(call, keep, ratio);
}

// Both are linear in x and select by position only, so the gradient is the same operator on dy.
std::vector<Expr> dropout_gradient(GradientContext& g) {
  if (!g.dy()) return {};
  return {g.b.multi(g.node.op, g.node.domain, {g.dy(), g.in(1), g.in(2)}, 1, g.node.attributes)[0]};
}

void philox_dropout_schema(onnx::OpSchema& schema) {
  schema.Attr("seed", "Seed of the training run.", onnx::AttributeProto::INT, std::int64_t{0})
      .Attr("stream", "Tells the dropouts of a model apart.", onnx::AttributeProto::INT, std::int64_t{0});
  constrain_floats(schema, "T", "Type of x.");
  constrain_floats(schema, "TR", "Type of the ratio.");
  schema.TypeConstraint("I", {"tensor(int64)"}, "Type of the counter.")
      .TypeConstraint("M", {"tensor(bool)"}, "Type of the mask.")
      .Input(0, "x", "Any shape.", "T")
      .Input(1, "ratio", "Probability of an element to be dropped, a scalar in [0, 1).", "TR")
      .Input(2, "counter", "Number of the step, a scalar.", "I")
      .Output(0, "y", "x / (1 - ratio) where kept, 0 elsewhere.", "T")
      .Output(1, "mask", "Which elements were kept.", "M", onnx::OpSchema::Optional)
      .TypeAndShapeInferenceFunction([](onnx::InferenceContext& ctx) {
        onnx::propagateShapeAndTypeFromFirstInput(ctx);
        if (ctx.getNumOutputs() < 2) return;
        onnx::updateOutputElemType(ctx, 1, onnx::TensorProto::BOOL);
        if (onnx::hasInputShape(ctx, 0)) onnx::propagateShapeFromInputToOutput(ctx, 0, 1);
      });
}

const std::vector<OpCase> kDropoutCases = {
    {"(float[3,4] x) => (float[3,4] y) { y = Dropout(x) }"},
    {"(float[3,4] x) => (float[3,4] y, bool[3,4] mask) <float ratio = {0.0}, bool training = {1}> "
     "{ y, mask = Dropout(x, ratio, training) }"},
    {"(float[3,4] x) => (float[3,4] y, bool[3,4] mask) <float ratio = {0.75}, bool training = {1}> "
     "{ y, mask = Dropout<seed = 7>(x, ratio, training) }"},
    {"(float[0,4] x) => (float[0,4] y) <float ratio = {0.25}, bool training = {1}> "
     "{ y = Dropout<seed = 7>(x, ratio, training) }"},
};

const std::vector<OpCase> kPhiloxDropoutCases = {
    {"(float[3,5] x) => (float[3,5] y, bool[3,5] mask) <float ratio = {0.5}, int64 counter = {3}> "
     "{ y, mask = ai.halfstep.PhiloxDropout<seed = 42, stream = 1>(x, ratio, counter) }"},
    {"(float[7] x) => (float[7] y) <float ratio = {0.0}, int64 counter = {0}> "
     "{ y = ai.halfstep.PhiloxDropout(x, ratio, counter) }"},
    {"(float[0,5] x) => (float[0,5] y) <float ratio = {0.25}, int64 counter = {0}> "
     "{ y = ai.halfstep.PhiloxDropout(x, ratio, counter) }"},
};

}  // namespace

std::span<const OpDef> dropout_ops() {
  using enum OperandRole;
  static const OpDef rows[] = {
      onnx_row("Dropout", PrecisionClass::follow,
               {.elementwise = Elementwise::unary,
                .operands = {data, setting, setting},
                .random = true,
                .magnitude = magnitude::same},
               dropout_kernel, dropout_gradient, kDropoutCases,
               "in training mode every run draws the same numbers (seed 0 when none is given); training uses "
               "PhiloxDropout"),
      {.name = "PhiloxDropout",
       .domain = kOwnDomain,
       .precision = PrecisionClass::follow,
       .traits = {.random = true},
       .reference = philox_dropout_kernel,
       .gradient = dropout_gradient,
       .cases = kPhiloxDropoutCases,
       .schema = philox_dropout_schema},
  };
  return rows;
}

}  // namespace halfstep::ops
