#include "conversion/expected_magnitudes.h"

#include <algorithm>
#include <cmath>
#include <cstdint>

#include "conversion/plan.h"
#include "conversion/view_constants.h"
#include "ops/magnitude.h"
#include <halfstep/ops/op_def.h>

namespace halfstep::conversion {
namespace {

constexpr double kUnknown = Magnitude::kUnknown;
// Larger values are masks or bounds rather than data, or overflow anyway.
constexpr double kLargestMagnitude = 1e4;

double rounded(double x, DType half) {
  const auto f32 = static_cast<float>(x);
  return half == DType::f16 ? static_cast<float>(f16(f32)) : static_cast<float>(bf16(f32));
}

// Unlike std::max, NaN if either is NaN.
double larger(double a, double b) { return std::isnan(a) || std::isnan(b) ? kUnknown : std::max(a, b); }

// Statistics of a tensor of any float type, computed in parts because it may be as large as memory; equal to those of
// f32.
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
            const ValueMap<PrecisionValue>& described)
      : view_(view),
        model_(model),
        half_(half),
        described_(described),
        taken_anyway_(view.values.size()),
        values_(view.values.size()) {
    for (auto node = nodes.rbegin(); node != nodes.rend(); ++node)
      for (std::size_t k = 0; k < node->inputs.size(); ++k)
        if (node->inputs[k] != kNoValue && node->input_roles[k] == Role::tied && takes_anyway(*node, k))
          taken_anyway_[node->inputs[k]] = true;
  }

  ValueMap<Magnitude> run() {
    for (const ValueId v : values_.ids())
      if (view_.values[v].producer == kNone) values_[v] = of_source(v);
    for (const ViewNode& node : view_.nodes) estimate(node);
    return std::move(values_);
  }

 private:
  bool takes_anyway(const PrecisionNode& node, std::size_t k) const {
    if (node.forced || may_underflow(node, k)) return true;
    if (!moves_data(node)) return false;
    return count_tied_inputs(node) > 1 || std::any_of(node.outputs.begin(), node.outputs.end(),
                                                      [&](ValueId v) { return v != kNoValue && taken_anyway_[v]; });
  }

  bool is_float(ValueId v) const {
    const DType dtype = view_.values[v].dtype();
    return dtype == DType::f32 || dtype == DType::f64 || is_half(dtype);
  }

  Magnitude of_source(ValueId v) const {
    const ViewValue& value = view_.values[v];
    if (const FloatRange* range = described_[v].range; range && value.is_input && !value.initializer)
      return {.square = square_of(*range)};
    if (value.is_input) return {.square = value.scope == 0 && !value.initializer && is_float(v) ? 1 : kUnknown};
    return of_constant(v);
  }

  static double mean_square(const FloatRange& range, double sum, double largest) {
    const bool is_data = largest < kLargestMagnitude && range.infinities == 0;
    return is_data ? sum / static_cast<double>(range.finite()) : kUnknown;
  }
  static double square_of(const FloatRange& range) { return mean_square(range, range.squares, range.max); }

  double square_of_constant(ValueId v, const FloatRange& range) const {
    const bool rounds = taken_anyway_[v] || !range.underflows_as_constant(half_);
    return rounds ? mean_square(range, range.rounded_squares, rounded(range.max, half_)) : square_of(range);
  }

  Magnitude of_constant(ValueId v) const {
    if (!is_float(v)) return {};
    const auto* initializer = view_.values[v].initializer;
    const FloatRange* known = described_[v].range;
    const Tensor tensor = known && initializer ? Tensor() : stored_tensor(view_, model_, v);
    if (!known && !tensor.is_defined()) return {};
    const FloatRange range = known ? *known : range_in_f32(tensor, half_);
    if (!known && initializer) model_.forget(*initializer, 0, tensor.bytes());
    Magnitude result;
    if (tensor.is_defined())
      result.dims = tensor.shape().dims();
    else if (initializer)
      result.dims.assign(initializer->dims().begin(), initializer->dims().end());
    if (result.dims.empty()) result.dims = {1};
    result.square = square_of_constant(v, range);
    return result;
  }

  void estimate(const ViewNode& node) {
    Magnitude result;
    if (node.is("Constant") && node.outputs.size() == 1 && node.outputs[0] != kNoValue) {
      result = of_constant(node.outputs[0]);
    } else if (node.domain.empty() && node.bodies.empty()) {
      result.square = square_of(node);
      result.dims = dims_of(node);
    }
    for (const ValueId out : node.outputs) {
      if (out == kNoValue || !is_float(out)) continue;
      values_[out] = result;
      if (const FloatRange* range = described_[out].range) values_[out].square = square_of(*range);
    }
  }

  MagnitudeCall call_of(const ViewNode& node) const {
    std::vector<const Magnitude*> operands;
    for (const ValueId v : node.inputs) operands.push_back(v == kNoValue ? nullptr : &values_[v]);
    return {*node.proto, std::move(operands)};
  }

  double square_of(const ViewNode& node) const {
    const OpDef* row = find_op(node.op);
    if (!row) return kUnknown;
    if (row->traits.magnitude) return row->traits.magnitude(call_of(node));
    return row->precision == PrecisionClass::neutral ? largest_of(node) : kUnknown;
  }

  // Nodes that move data return some elements of each operand.
  double largest_of(const ViewNode& node) const {
    double result = 0;
    bool any = false;
    for (const ValueId v : node.inputs) {
      if (v == kNoValue || !is_float(v)) continue;
      result = larger(result, values_[v].square);
      any = true;
    }
    return any ? result : kUnknown;
  }

  // Weights pass through these to their product.
  std::vector<std::int64_t> dims_of(const ViewNode& node) const {
    const MagnitudeCall in = call_of(node);
    std::vector<std::int64_t> dims = in.dims(0);
    const Movement movement = traits_of(node).movement;
    if (movement == Movement::identity || movement == Movement::convert) return dims;
    if (movement != Movement::permute) return {};
    std::reverse(dims.begin(), dims.end());
    if (const auto* order = in.attribute("perm"); order && static_cast<std::size_t>(order->ints_size()) == dims.size())
      for (std::size_t k = 0; k < dims.size(); ++k) {
        const auto axis = static_cast<std::size_t>(order->ints(static_cast<int>(k)));
        if (axis >= dims.size()) return {};  // not a permutation, which the checker accepts
        dims[k] = in.dims(0)[axis];
      }
    return dims;
  }

  const ModelView& view_;
  const DetachedModel& model_;
  const DType half_;
  const ValueMap<PrecisionValue>& described_;
  ValueMap<bool> taken_anyway_;  ///< used in half, even if that cannot represent it
  ValueMap<Magnitude> values_;
};

}  // namespace

void expect_magnitudes(const ModelView& view, const DetachedModel& model, DType half,
                       const std::vector<PrecisionNode>& nodes, ValueMap<PrecisionValue>& values) {
  const ValueMap<Magnitude> estimates = Estimator(view, model, half, nodes, values).run();
  for (const ValueId v : values.ids()) {
    if (values[v].range || !std::isfinite(estimates[v].square)) continue;
    values[v].expected = std::sqrt(estimates[v].square);
    values[v].of_constant = !estimates[v].dims.empty();
  }
}

}  // namespace halfstep::conversion
