// Expected magnitudes of the results of an operator: the mean square of their elements from those of the operands, by
// the argument for weight initialization.
#pragma once

#include <cstdint>
#include <limits>
#include <string_view>
#include <utility>
#include <vector>

#include <halfstep/ops/op_traits.h>

namespace onnx {
class AttributeProto;
class NodeProto;
}  // namespace onnx

namespace halfstep {

/// What is known of a value. Unknown quantities are NaN, and so is everything computed from them.
struct Magnitude {
  static constexpr double kUnknown = std::numeric_limits<double>::quiet_NaN();
  double square = kUnknown;             ///< mean of the squares of the elements
  std::vector<std::int64_t> dims = {};  ///< for constants, and rearranged constants; else empty
};

/// A node with the known properties of its operands: nullptr for omitted ones.
class MagnitudeCall {
 public:
  MagnitudeCall(const onnx::NodeProto& node, std::vector<const Magnitude*> operands)
      : node_(node), operands_(std::move(operands)) {}

  std::size_t count() const { return operands_.size(); }
  double square(std::size_t k) const { return square_or(k, Magnitude::kUnknown); }
  /// For an operand that may be omitted.
  double square_or(std::size_t k, double absent) const { return is_given(k) ? operands_[k]->square : absent; }
  const std::vector<std::int64_t>& dims(std::size_t k) const;

  const onnx::AttributeProto* attribute(std::string_view name) const;
  double real(std::string_view name, double otherwise) const;
  std::int64_t integer(std::string_view name, std::int64_t otherwise) const;

 private:
  bool is_given(std::size_t k) const { return k < operands_.size() && operands_[k]; }

  const onnx::NodeProto& node_;
  std::vector<const Magnitude*> operands_;
};

namespace ops::magnitude {

double sum(const MagnitudeCall& in);
double product(const MagnitudeCall& in);
double quotient(const MagnitudeCall& in);
double convolution(const MagnitudeCall& in);
double transposed_convolution(const MagnitudeCall& in);
double gemm(const MagnitudeCall& in);
double matrix_product(const MagnitudeCall& in);
double batch_normalization(const MagnitudeCall& in);
/// For operands X, scale and possibly bias.
double normalization(const MagnitudeCall& in);
double clip(const MagnitudeCall& in);
/// As operand 0: also for means and maxima of a few elements, where the difference is small compared with the accuracy
/// of the estimate.
double same(const MagnitudeCall& in);

/// For f(x, alpha), with normally distributed x.
double of_function(double square, double (*f)(double x, double alpha), double alpha);

}  // namespace ops::magnitude
}  // namespace halfstep
