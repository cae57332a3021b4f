#include "conversion/expected_magnitudes.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdint>
#include <limits>
#include <numeric>
#include <string_view>

#include "conversion/plan.h"
#include "ops/op_def.h"

namespace halfstep::conversion {
namespace {

// What is not known is NaN: so is everything computed from it.
constexpr double kUnknown = std::numeric_limits<double>::quiet_NaN();
// What reaches this is a mask or a bound rather than data, or overflows anyway.
constexpr double kLargestMagnitude = 1e4;

struct Estimate {
  double square = kUnknown;             ///< mean of the squares of the elements
  std::vector<std::int64_t> dims = {};  ///< of constants, and of what is moved around of them; else empty
};

/// A node with the estimates of its operands.
class Operands {
 public:
  Operands(const ViewNode& node, const std::vector<Estimate>& values) : node_(node), values_(values) {}

  const Estimate& at(std::size_t k) const {
    static const Estimate absent;
    return k < node_.inputs.size() && node_.inputs[k] != kNone ? values_[static_cast<std::size_t>(node_.inputs[k])]
                                                               : absent;
  }
  double square(std::size_t k) const { return at(k).square; }
  /// Of an operand that may be left out.
  double square_or(std::size_t k, double absent) const {
    return k < node_.inputs.size() && node_.inputs[k] != kNone ? square(k) : absent;
  }
  std::size_t count() const { return node_.inputs.size(); }
  const onnx::AttributeProto* attribute(std::string_view name) const {
    for (const auto& attribute : node_.proto->attribute())
      if (attribute.name() == name) return &attribute;
    return nullptr;
  }
  double real(std::string_view name, double otherwise) const {
    const auto* found = attribute(name);
    return found ? static_cast<double>(found->f()) : otherwise;
  }
  std::int64_t integer(std::string_view name, std::int64_t otherwise) const {
    const auto* found = attribute(name);
    return found ? found->i() : otherwise;
  }

 private:
  const ViewNode& node_;
  const std::vector<Estimate>& values_;
};

double squared(double x) { return x * x; }

double rounded(double x, DType half) {
  const auto f32 = static_cast<float>(x);
  return half == DType::f16 ? static_cast<float>(f16(f32)) : static_cast<float>(bf16(f32));
}

double product_of(const std::vector<std::int64_t>& dims, std::size_t first) {
  return std::accumulate(dims.begin() + static_cast<std::ptrdiff_t>(std::min(first, dims.size())), dims.end(), 1.0,
                         [](double product, std::int64_t extent) { return product * static_cast<double>(extent); });
}

// Unlike std::max, NaN when one of them is.
double larger(double a, double b) { return std::isnan(a) || std::isnan(b) ? kUnknown : std::max(a, b); }

double sum(const Operands& in) {
  double total = 0;
  for (std::size_t k = 0; k < in.count(); ++k) total += in.square(k);
  return total;
}

double product(const Operands& in) { return in.square(0) * in.square(1); }

// The mean of a reciprocal is known of constants only.
double quotient(const Operands& in) { return in.at(1).dims.empty() ? kUnknown : in.square(0) / in.square(1); }

double convolution(const Operands& in) {
  const auto& filter = in.at(1).dims;
  if (filter.size() < 3) return kUnknown;
  return in.square(0) * in.square(1) * product_of(filter, 1) + in.square_or(2, 0);
}

double transposed_convolution(const Operands& in) {
  const auto& filter = in.at(1).dims;
  if (filter.size() < 3) return kUnknown;
  double overlap = product_of(filter, 2);
  if (const auto* strides = in.attribute("strides"))
    for (const std::int64_t stride : strides->ints()) overlap /= static_cast<double>(stride);
  const double channels = static_cast<double>(filter[0]) / static_cast<double>(in.integer("group", 1));
  return in.square(0) * in.square(1) * channels * overlap + in.square_or(2, 0);
}

double gemm(const Operands& in) {
  const auto &a = in.at(0).dims, &b = in.at(1).dims;
  double rows = kUnknown;
  if (b.size() == 2)
    rows = static_cast<double>(b[in.integer("transB", 0) ? 1 : 0]);
  else if (a.size() == 2)
    rows = static_cast<double>(a[in.integer("transA", 0) ? 0 : 1]);
  return squared(in.real("alpha", 1)) * product(in) * rows + squared(in.real("beta", 1)) * in.square_or(2, 0);
}

double matrix_product(const Operands& in) {
  const auto &a = in.at(0).dims, &b = in.at(1).dims;
  if (!b.empty()) return product(in) * static_cast<double>(b[b.size() < 2 ? 0 : b.size() - 2]);
  return a.empty() ? kUnknown : product(in) * static_cast<double>(a.back());
}

double batch_normalization(const Operands& in) {
  const double scale = in.square(1), bias = in.square(2), mean = in.square(3);
  if (in.integer("training_mode", 0) != 0) return scale + bias;
  const double variance = std::sqrt(in.square(4)) + in.real("epsilon", 1e-5);
  return scale * (in.square(0) + mean) / variance + bias;
}

// An input far below epsilon is not brought to 1.
double normalization(const Operands& in) {
  const double x = std::isnan(in.square(0)) ? 1 : in.square(0) / (in.square(0) + in.real("epsilon", 1e-5));
  return x * in.square(1) + in.square_or(2, 0);
}

double clip(const Operands& in) {
  const bool by_attributes = in.count() == 1;
  const double low = by_attributes ? squared(in.real("min", -INFINITY)) : in.square_or(1, INFINITY);
  const double high = by_attributes ? squared(in.real("max", INFINITY)) : in.square_or(2, INFINITY);
  const double x = high < in.square(0) ? high : in.square(0);
  return low == 0 ? x / 2 : x;
}

// Means and maxima of a few elements: what is lost or gained by them is little beside what the estimate is good for.
double first(const Operands& in) { return in.square(0); }

struct Rule {
  std::string_view op;
  double (*square)(const Operands&);
};
constexpr std::array kRules = {
    Rule{"Add", sum},
    Rule{"Sub", sum},
    Rule{"Sum", sum},
    Rule{"Mul", product},
    Rule{"Div", quotient},
    Rule{"Conv", convolution},
    Rule{"ConvTranspose", transposed_convolution},
    Rule{"Gemm", gemm},
    Rule{"MatMul", matrix_product},
    Rule{"BatchNormalization", batch_normalization},
    Rule{"LayerNormalization", normalization},
    Rule{"GroupNormalization", normalization},
    Rule{"InstanceNormalization", normalization},
    Rule{"RMSNormalization", normalization},
    Rule{"Clip", clip},
    Rule{"Abs", first},
    Rule{"AveragePool", first},
    Rule{"Cast", first},
    Rule{"CastLike", first},
    Rule{"Dropout", first},
    Rule{"Gather", first},
    Rule{"GlobalAveragePool", first},
    Rule{"GlobalMaxPool", first},
    Rule{"MaxPool", first},
    Rule{"Neg", first},
    Rule{"ReduceMax", first},
    Rule{"ReduceMean", first},
    Rule{"Resize", first},
};

struct Function {
  std::string_view op;
  double alpha;  ///< where the attribute of that name is absent
  double (*of)(double x, double alpha);
};
double sigmoid(double x) { return 1 / (1 + std::exp(-x)); }
constexpr std::array kFunctions = {
    Function{"Relu", 0, [](double x, double) { return std::max(x, 0.0); }},
    Function{"LeakyRelu", 0.01, [](double x, double alpha) { return x < 0 ? alpha * x : x; }},
    Function{"Elu", 1, [](double x, double alpha) { return x < 0 ? alpha * std::expm1(x) : x; }},
    Function{"Celu", 1, [](double x, double alpha) { return x < 0 ? alpha * std::expm1(x / alpha) : x; }},
    Function{"Selu", 1.67326, [](double x, double alpha) { return 1.0507 * (x < 0 ? alpha * std::expm1(x) : x); }},
    Function{"Gelu", 0, [](double x, double) { return x / 2 * (1 + std::erf(x / std::sqrt(2))); }},
    Function{"Swish", 1, [](double x, double alpha) { return x * sigmoid(alpha * x); }},
    Function{"HardSwish", 0, [](double x, double) { return x * std::clamp(x / 6 + 0.5, 0.0, 1.0); }},
    Function{"Mish", 0, [](double x, double) { return x * std::tanh(std::log1p(std::exp(x))); }},
    Function{"Sigmoid", 0, [](double x, double) { return sigmoid(x); }},
    Function{"HardSigmoid", 0.2, [](double x, double alpha) { return std::clamp(alpha * x + 0.5, 0.0, 1.0); }},
    Function{"Tanh", 0, [](double x, double) { return std::tanh(x); }},
    Function{"Erf", 0, [](double x, double) { return std::erf(x); }},
    Function{"Softplus", 0, [](double x, double) { return x > 30 ? x : std::log1p(std::exp(x)); }},
    Function{"Softsign", 0, [](double x, double) { return x / (1 + std::abs(x)); }},
};

// Of normally distributed arguments, by the midpoint rule over four standard deviations.
double square_of_function(const Function& function, double square, double alpha) {
  if (std::isnan(square)) return kUnknown;
  constexpr int kPoints = 64;
  constexpr double kReach = 4;
  double total = 0, weights = 0;
  for (int i = 0; i < kPoints; ++i) {
    const double z = kReach * ((2.0 * i + 1) / kPoints - 1), weight = std::exp(-z * z / 2);
    total += weight * squared(function.of(std::sqrt(square) * z, alpha));
    weights += weight;
  }
  return total / weights;
}

// Of a tensor of any float type, a part at a time: it may be as large as memory. The same as of f32.
FloatRange range_in_f32(const Tensor& tensor, DType half) {
  constexpr std::int64_t kPart = 64 * FloatRange::kBlock;
  FloatRange range;
  const Tensor flat = tensor.reshaped(Shape{tensor.count()});
  for (std::int64_t start = 0; start < flat.count(); start += kPart) {
    const Tensor part = convert(flat.rows(start, std::min(start + kPart, flat.count())), DType::f32);
    range.add(part.data<float>(), static_cast<std::size_t>(part.count()), half);
  }
  return range;
}

class Estimator {
 public:
  Estimator(const ModelView& view, const DetachedModel& model, DType half, const std::vector<PrecisionNode>& nodes,
            const std::vector<PrecisionValue>& described)
      : view_(view),
        model_(model),
        half_(half),
        described_(described),
        taken_anyway_(view.values.size()),
        values_(view.values.size()) {
    for (auto node = nodes.rbegin(); node != nodes.rend(); ++node)
      for (std::size_t k = 0; k < node->inputs.size(); ++k)
        if (node->inputs[k] != kNone && node->input_roles[k] == Role::tied && takes_anyway(*node, k))
          taken_anyway_[static_cast<std::size_t>(node->inputs[k])] = true;
  }

  std::vector<Estimate> run() {
    for (std::size_t v = 0; v < values_.size(); ++v)
      if (view_.values[v].producer == kNone) values_[v] = of_source(static_cast<int>(v));
    for (const ViewNode& node : view_.nodes) estimate(node);
    return std::move(values_);
  }

 private:
  bool takes_anyway(const PrecisionNode& node, std::size_t k) const {
    if (node.forced || may_underflow(node, k)) return true;
    if (!moves_data(node)) return false;
    return count_tied_inputs(node) > 1 || std::any_of(node.outputs.begin(), node.outputs.end(), [&](int v) {
             return v != kNone && taken_anyway_[static_cast<std::size_t>(v)];
           });
  }

  bool is_float(int v) const {
    const DType dtype = view_.values[static_cast<std::size_t>(v)].dtype();
    return dtype == DType::f32 || dtype == DType::f64 || is_half(dtype);
  }

  Estimate of_source(int v) const {
    const ViewValue& value = view_.values[static_cast<std::size_t>(v)];
    if (const FloatRange* range = described_[static_cast<std::size_t>(v)].range;
        range && value.is_input && !value.initializer)
      return {.square = square_of(*range)};
    if (value.is_input) return {.square = value.scope == 0 && !value.initializer && is_float(v) ? 1 : kUnknown};
    return of_constant(v);
  }

  static double mean_square(const FloatRange& range, double sum, double largest) {
    const bool is_data = largest < kLargestMagnitude && range.infinities == 0;
    return is_data ? sum / static_cast<double>(range.finite()) : kUnknown;
  }
  static double square_of(const FloatRange& range) { return mean_square(range, range.squares, range.max); }

  double square_of_constant(int v, const FloatRange& range) const {
    const bool rounds = taken_anyway_[static_cast<std::size_t>(v)] || !range.underflows_as_constant(half_);
    return rounds ? mean_square(range, range.rounded_squares, rounded(range.max, half_)) : square_of(range);
  }

  Estimate of_constant(int v) const {
    if (!is_float(v)) return {};
    const auto* initializer = view_.values[static_cast<std::size_t>(v)].initializer;
    const FloatRange* known = described_[static_cast<std::size_t>(v)].range;
    const Tensor tensor = known && initializer ? Tensor() : stored_tensor(view_, model_, v);
    if (!known && !tensor.is_defined()) return {};
    const FloatRange range = known ? *known : range_in_f32(tensor, half_);
    if (!known && initializer) model_.forget(*initializer, 0, tensor.bytes());
    Estimate result;
    if (tensor.is_defined())
      result.dims = tensor.shape().dims();
    else if (initializer)
      result.dims.assign(initializer->dims().begin(), initializer->dims().end());
    if (result.dims.empty()) result.dims = {1};
    result.square = square_of_constant(v, range);
    return result;
  }

  void estimate(const ViewNode& node) {
    Estimate result;
    if (node.is("Constant") && node.outputs.size() == 1 && node.outputs[0] != kNone) {
      result = of_constant(node.outputs[0]);
    } else if (node.domain.empty() && node.bodies.empty()) {
      result.square = square_of(node);
      result.dims = dims_of(node);
    }
    for (const int out : node.outputs) {
      if (out == kNone || !is_float(out)) continue;
      values_[static_cast<std::size_t>(out)] = result;
      if (const FloatRange* range = described_[static_cast<std::size_t>(out)].range)
        values_[static_cast<std::size_t>(out)].square = square_of(*range);
    }
  }

  double square_of(const ViewNode& node) const {
    const Operands in(node, values_);
    for (const Rule& rule : kRules)
      if (rule.op == node.op) return rule.square(in);
    for (const Function& function : kFunctions)
      if (function.op == node.op) return square_of_function(function, in.square(0), in.real("alpha", function.alpha));
    const OpDef* row = find_op(node.op);
    return row && row->precision == PrecisionClass::neutral ? largest_of(node) : kUnknown;
  }

  // What moves data gives some of what each operand has.
  double largest_of(const ViewNode& node) const {
    double result = 0;
    bool any = false;
    for (const int v : node.inputs) {
      if (v == kNone || !is_float(v)) continue;
      result = larger(result, values_[static_cast<std::size_t>(v)].square);
      any = true;
    }
    return any ? result : kUnknown;
  }

  // Weights reach their product through these.
  std::vector<std::int64_t> dims_of(const ViewNode& node) const {
    const Operands in(node, values_);
    std::vector<std::int64_t> dims = in.at(0).dims;
    if (node.is("Identity") || node.is("Cast") || node.is("CastLike")) return dims;
    if (!node.is("Transpose")) return {};
    std::reverse(dims.begin(), dims.end());
    if (const auto* order = in.attribute("perm"); order && static_cast<std::size_t>(order->ints_size()) == dims.size())
      for (std::size_t k = 0; k < dims.size(); ++k) {
        const auto axis = static_cast<std::size_t>(order->ints(static_cast<int>(k)));
        if (axis >= dims.size()) return {};  // not a permutation, which the checker lets pass
        dims[k] = in.at(0).dims[axis];
      }
    return dims;
  }

  const ModelView& view_;
  const DetachedModel& model_;
  const DType half_;
  const std::vector<PrecisionValue>& described_;
  std::vector<bool> taken_anyway_;  ///< per value: in half, even where that cannot hold it
  std::vector<Estimate> values_;
};

}  // namespace

void expect_magnitudes(const ModelView& view, const DetachedModel& model, DType half,
                       const std::vector<PrecisionNode>& nodes, std::vector<PrecisionValue>& values) {
  const std::vector<Estimate> estimates = Estimator(view, model, half, nodes, values).run();
  for (std::size_t v = 0; v < values.size(); ++v) {
    if (values[v].range || !std::isfinite(estimates[v].square)) continue;
    values[v].expected = std::sqrt(estimates[v].square);
    values[v].of_constant = !estimates[v].dims.empty();
  }
}

}  // namespace halfstep::conversion
