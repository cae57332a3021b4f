#include "tests/executors/cudnn/op_cases.h"

#include <cmath>
#include <random>

#include "tests/executors/cudnn/op_case_util.h"
#include <halfstep/ops/infer.h>

namespace halfstep::cudnn {
namespace {

using cases::Kind;

Tensor draw(const Operand& operand, DType dtype, std::mt19937& random) {
  const auto floats = [&](DType to, auto&& next) {
    Tensor t(DType::f32, operand.shape);
    for (float& v : t.span<float>()) v = next();
    return convert(t, to);
  };
  const auto uniform = [&](float low, float high) {
    return [&random, low, high] { return std::uniform_real_distribution<float>(low, high)(random); };
  };
  const auto integers = [&](DType to) {
    Tensor t(DType::i64, operand.shape);
    for (std::int64_t& v : t.span<std::int64_t>())
      v = std::uniform_int_distribution<std::int64_t>(0, operand.high - 1)(random);
    return convert(t, to);
  };
  switch (operand.kind) {
    case Kind::real:
      return floats(dtype, uniform(-2, 2));
    case Kind::positive:
      return floats(dtype, uniform(0.25f, 2));
    case Kind::ties:
      return floats(dtype, [&] { return static_cast<float>(random() % 4) - 1; });
    case Kind::f32:
      return floats(DType::f32, uniform(-2, 2));
    case Kind::positive_f32:
      return floats(DType::f32, uniform(0.25f, 2));
    case Kind::labels:
      return integers(DType::i64);
    case Kind::labels32:
      return integers(DType::i32);
    case Kind::constant:
      return Tensor::of(operand.values);
    case Kind::scalar_i64:
      return Tensor::scalar(operand.values[0]);
    case Kind::scalar_f32:
      return Tensor::scalar(static_cast<float>(operand.values[0]));
    case Kind::truth: {
      Tensor t(DType::boolean, operand.shape);
      for (bool& v : t.span<bool>()) v = operand.values.empty() ? random() % 2 != 0 : operand.values[0] != 0;
      return t;
    }
    case Kind::log_prob: {
      Tensor t(DType::f32, operand.shape);
      for (float& v : t.span<float>()) v = uniform(-2, 2)();
      const std::int64_t classes = operand.shape[1], inner = operand.shape.count(2, operand.shape.rank());
      for (std::int64_t row = 0; row < operand.shape[0] * inner; ++row) {
        const auto at = [&](std::int64_t c) -> float& {
          return t.data<float>()[(row / inner * classes + c) * inner + row % inner];
        };
        double sum = 0;
        for (std::int64_t c = 0; c < classes; ++c) sum += std::exp(at(c));
        for (std::int64_t c = 0; c < classes; ++c) at(c) -= static_cast<float>(std::log(sum));
      }
      return convert(t, dtype);
    }
    case Kind::absent:
      break;
  }
  return {};
}

}  // namespace

std::vector<OpTest> op_tests() {
  std::vector<OpTest> all;
  using namespace cases;
  for (auto* family : {matmul_tests, convolution_tests, pooling_tests, elementwise_tests, reduction_tests, loss_tests,
                       optimizer_tests})
    append(all, family());
  return all;
}

Graph make_graph(const OpTest& test, DType dtype, std::vector<Tensor>& values, unsigned seed) {
  std::mt19937 random(seed);
  Graph g;
  g.opsets = {{"", kOnnxOpset}, {std::string(kOwnDomain), kOwnOpset}};
  std::vector<ValueId> in;
  for (const Operand& operand : test.inputs) {
    const Tensor value = draw(operand, dtype, random);
    if (operand.kind == Kind::absent) {
      in.push_back(kNoValue);
    } else if (operand.kind == Kind::constant) {
      in.push_back(g.add_constant("", value));
    } else {
      in.push_back(g.add_input("", value.dtype(), value.shape()));
      values.push_back(value);
    }
  }
  g.add_node(test.op, test.domain, in, test.outputs, test.attributes);
  infer_graph(g);
  g.outputs = g.nodes[0].outputs;
  return g;
}

}  // namespace halfstep::cudnn
