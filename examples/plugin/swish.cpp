// com.example.Swish, an operator that ONNX lacks, defined by one row of a table.
#include <cmath>
#include <string>
#include <vector>

#include "example.h"
#include <halfstep/ops/kernel_util.h>

namespace example {
namespace {

using namespace halfstep;

double beta_of(const Node& node) { return node.attributes.get_float("beta", 1); }

void reference(KernelCall& call) {
  const double beta = beta_of(call.node);
  ops::map_unary<double>(call, call.in[0].dtype(), [beta](double x) { return swish(x, beta); });
}

// With s = sigmoid(beta x): s + beta x s (1 - s).
std::vector<Expr> gradient(GradientContext& g) {
  const Expr z = g.in(0) * beta_of(g.node), s = g.b.op("Sigmoid", {z});
  return {g.dy() * (s + z * s * (1.0 - s))};
}

std::vector<TensorType> infer(const Node&, std::span<const TensorType> operands) {
  const DType dtype = operands.size() == 1 ? operands[0].dtype : DType::undefined;
  if (operands.size() != 1 || (dtype != DType::undefined && !is_float(dtype)))
    throw_input_error("one operand of a float type",
                      std::to_string(operands.size()) + ", of " + std::string(name_of(dtype)), "cast it first");
  return {operands[0]};
}

}  // namespace

double swish(double x, double beta) { return x / (1 + std::exp(-beta * x)); }

std::span<const OpDef> operators() {
  static const OpDef rows[] = {{.name = "Swish",
                                .domain = "com.example",
                                .precision = PrecisionClass::follow,
                                .reference = reference,
                                .gradient = gradient,
                                .cases = {{"(float[2,3] x) => (float[2,3] y) { y = com.example.Swish(x) }"},
                                          {"(float[5] x) => (float[5] y) { y = com.example.Swish<beta = 0.5>(x) }"},
                                          {"(float[0,3] x) => (float[0,3] y) { y = com.example.Swish(x) }"}},
                                .infer = infer,
                                .note = "x * sigmoid(beta * x); beta is 1 where the attribute is missing"}};
  return rows;
}

}  // namespace example
