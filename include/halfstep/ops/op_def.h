// The operator table: one row holds everything halfstep knows about an operator.
#pragma once

#include <span>
#include <string_view>
#include <vector>

#include <halfstep/base/api.h>
#include <halfstep/graph/graph.h>
#include <halfstep/ops/builder.h>
#include <halfstep/ops/op_traits.h>

namespace onnx {
class OpSchema;
}

namespace HALFSTEP_API halfstep {

/// How the precision pass treats an operator (design: TensorFlow's and PyTorch's autocast lists).
enum class PrecisionClass {
  half,     ///< convolutions, matrix products: half, with casts where needed
  follow,   ///< cheap elementwise, pooling, normalization with f32 statistics: half if its neighbours are
  full,     ///< losses, exponentials, powers, long reductions: always f32
  neutral,  ///< shapes and data movement: the type of its operands
};
std::string_view name_of(PrecisionClass c);

/// Operands and results of one call of a reference kernel.
/// `out` tensors are allocated (zero-filled) if inference gave a static shape; a kernel with a data-dependent output
/// shape assigns its own tensor. Absent optional operands are undefined tensors.
struct KernelCall {
  const Node& node;
  std::span<const Tensor> in;
  std::span<Tensor> out;

  bool has_in(std::size_t i) const { return i < in.size() && in[i].is_defined(); }
  bool has_out(std::size_t i) const { return i < out.size() && node.output(i) != kNoValue; }
};
using ReferenceKernel = void (*)(KernelCall&);

/// The arguments of a gradient rule.
class GradientContext {
 public:
  GradientContext(Builder& builder, const Node& node, std::vector<Expr> output_gradients, std::vector<bool> wanted)
      : b(builder), node(node), dy_(std::move(output_gradients)), wanted_(std::move(wanted)) {}

  Builder& b;
  const Node& node;

  /// Input i and output i of the forward node; empty if absent.
  Expr in(std::size_t i) const { return node.input(i) == kNoValue ? Expr() : b.expr(node.input(i)); }
  Expr out(std::size_t i) const { return node.output(i) == kNoValue ? Expr() : b.expr(node.output(i)); }
  /// Gradient of the loss with respect to output i; empty if none flows (at least one output has a gradient).
  Expr dy(std::size_t i = 0) const { return i < dy_.size() ? dy_[i] : Expr(); }
  /// Whether the gradient of input i is needed; a rule may skip others.
  bool wants(std::size_t i) const { return i < wanted_.size() && wanted_[i]; }

 private:
  std::vector<Expr> dy_;
  std::vector<bool> wanted_;
};

/// Returns the gradient of each input, in order; empty (or missing at the end) for inputs without one.
/// A gradient may have the broadcast shape of the output: `differentiate` sums it to the input's shape.
using GradientRule = std::vector<Expr> (*)(GradientContext&);

/// The rule of operators with zero gradient: the result does not depend smoothly on any input (Shape, Equal, ArgMax,
/// Floor).
std::vector<Expr> no_gradient(GradientContext&);

/// A graph in ONNX text form with one node of the operator, e.g.
/// `"(float[2,3] x) => (float[2,3] y) { y = Relu(x) }"`. Float inputs are drawn uniformly from [low, high]; integer
/// inputs must be given as initializers. The conformance tool runs it in every float dtype on every executor, and
/// compares the gradient of every float input with finite differences in f64.
struct OpCase {
  std::string_view text;
  double low = -2, high = 2;
  bool check_gradient = true;
};

/// Restrictions on variations of an operator's cases with other extents and values.
struct Variations {
  /// Integer constants are kept: with repeated indices the result would depend on their order.
  bool keep_integers = false;
  /// Whether the result of `node` with operands of these shapes is a meaningful check; nullptr: always.
  bool (*fits)(const Graph& graph, const Node& node) = nullptr;
};

/// Operands for which NaN results are unspecified: with such an element, a result may be NaN on one executor and a
/// number on another.
struct OpenNaN {
  bool with_nan = false, with_infinity = false;
  std::string_view reason = {};
};

/// Element type and shape of an operand or a result.
struct TensorType {
  DType dtype = DType::undefined;
  Shape shape = Shape::unranked();
};

/// One operator.
struct OpDef {
  std::string_view name;
  std::string_view domain = kOnnxDomain;
  PrecisionClass precision = PrecisionClass::full;
  /// Facts used by other code; most rows set one or none.
  OpTraits traits = {};
  ReferenceKernel reference = nullptr;
  /// nullptr: the gradient is unknown, and parameters upstream of this operator cannot be trained.
  GradientRule gradient = nullptr;
  /// Shape of the only result, for schemas whose inference is wrong or incomplete. Called with operands of known ranks,
  /// whose extents may be unknown. Throws Error if the operands do not fit.
  Shape (*result_shape)(const Node& node, std::span<const Shape> operands) = nullptr;
  std::vector<OpCase> cases = {};
  Variations variations = {};
  /// Unspecified by the operator's definition; empty for most operators.
  OpenNaN open_nan = {};
  /// Fills in the schema (inputs, attributes, inference, function body) of an operator of domain ai.halfstep.
  void (*schema)(onnx::OpSchema&) = nullptr;
  /// Types of the results of a plug-in's operator, in place of a schema. Called with the types of the operands
  /// (undefined for absent ones), whose extents may be unknown. Throws Error if the operands do not fit.
  std::vector<TensorType> (*infer)(const Node& node, std::span<const TensorType> operands) = nullptr;
  /// Note for users: the convention at kinks and ties, a limit.
  std::string_view note = {};

  /// Whether the gradient is known to be zero.
  bool has_zero_gradient() const { return gradient == no_gradient; }
};

/// All rows, ordered by family.
std::span<const OpDef* const> op_table();
/// The row of an operator, or nullptr.
const OpDef* find_op(std::string_view name, std::string_view domain = kOnnxDomain);

/// Adds the rows of a plug-in, which must live until the process ends. To be called before other threads use the table.
/// Rows that were already added are skipped. Throws Error, and adds none, for an operator of ai.onnx or ai.halfstep, an
/// operator added by another plug-in, and a row without `reference` or `infer`.
void add_operators(std::span<const OpDef> rows);

/// Registers the schemas of ai.halfstep with ONNX's registry, once. Called by all code that needs schemas.
void register_schemas();

/// Opset version of ai.onnx in every loaded Graph, and of ai.halfstep.
inline constexpr std::int64_t kOnnxOpset = 28;
inline constexpr std::int64_t kOwnOpset = 1;

}  // namespace halfstep
