// The operator table: everything halfstep knows of an operator is one row.
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
  half,     ///< convolutions, matrix products: worth a cast
  follow,   ///< cheap elementwise, pooling, normalisation with f32 statistics: half when its neighbours are
  full,     ///< losses, exponentials, powers, long reductions: always f32
  neutral,  ///< shapes and data movement: whatever it is given
};
std::string_view name_of(PrecisionClass c);

/// Operands and results of one call of a reference kernel.
/// `out` tensors are allocated (zero-filled) when inference gave a static shape; a kernel whose output shape depends on
/// data assigns a tensor of its own. Absent optional operands are undefined tensors.
struct KernelCall {
  const Node& node;
  std::span<const Tensor> in;
  std::span<Tensor> out;

  bool has_in(std::size_t i) const { return i < in.size() && in[i].is_defined(); }
  bool has_out(std::size_t i) const { return i < out.size() && node.output(i) != kNoValue; }
};
using ReferenceKernel = void (*)(KernelCall&);

/// What a gradient rule is given.
class GradientContext {
 public:
  GradientContext(Builder& builder, const Node& node, std::vector<Expr> output_gradients, std::vector<bool> wanted)
      : b(builder), node(node), dy_(std::move(output_gradients)), wanted_(std::move(wanted)) {}

  Builder& b;
  const Node& node;

  /// Input i, output i of the forward node; empty when absent.
  Expr in(std::size_t i) const { return node.input(i) == kNoValue ? Expr() : b.expr(node.input(i)); }
  Expr out(std::size_t i) const { return node.output(i) == kNoValue ? Expr() : b.expr(node.output(i)); }
  /// Gradient of the loss with respect to output i; empty when none flows (then at least one other is there).
  Expr dy(std::size_t i = 0) const { return i < dy_.size() ? dy_[i] : Expr(); }
  /// Whether anyone will read the gradient of input i: a rule may skip the work for one nobody wants.
  bool wants(std::size_t i) const { return i < wanted_.size() && wanted_[i]; }

 private:
  std::vector<Expr> dy_;
  std::vector<bool> wanted_;
};

/// Returns the gradient of each input, in order; empty (or missing at the end) where there is none.
/// A gradient may have the broadcast shape of the output: summing down to the input's shape happens in differentiate.
using GradientRule = std::vector<Expr> (*)(GradientContext&);

/// The rule of operators whose result does not change smoothly with any input (Shape, Equal, ArgMax, Floor): zero.
std::vector<Expr> no_gradient(GradientContext&);

/// A graph in ONNX text form with one node of the operator, e.g.
/// `"(float[2,3] x) => (float[2,3] y) { y = Relu(x) }"`. Float inputs are drawn uniformly from [low, high]; integer
/// inputs must be given as initializers. The conformance tool runs it in every float dtype on every executor, and holds
/// the gradient of every float input against finite differences in f64.
struct OpCase {
  std::string_view text;
  double low = -2, high = 2;
  bool check_gradient = true;
};

/// What other extents and values of an operator's cases must keep to be cases of it.
struct Variations {
  /// Constants of integers stay: where indices come twice, their order would decide the result.
  bool keep_integers = false;
  /// Whether what `node` computes from operands of these shapes tells anything; nullptr: always.
  bool (*fits)(const Graph& graph, const Node& node) = nullptr;
};

/// Where NaN is open: with such an element among the operands, a result may be NaN on one executor and a number on
/// another.
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
  /// What other code asks of it: most rows need a word or none.
  OpTraits traits = {};
  ReferenceKernel reference = nullptr;
  /// nullptr: the gradient is not known, and a parameter behind this operator cannot be trained.
  GradientRule gradient = nullptr;
  /// Shape of the only result where the schema's inference gets it wrong or looks at too little: called with operands
  /// of known ranks, whose extents may be unknown. Throws Error when they do not fit.
  Shape (*result_shape)(const Node& node, std::span<const Shape> operands) = nullptr;
  std::vector<OpCase> cases = {};
  Variations variations = {};
  /// Left open by the operator's definition; most leave nothing open.
  OpenNaN open_nan = {};
  /// Fills in the schema (inputs, attributes, inference, function body) of an operator of domain ai.halfstep.
  void (*schema)(onnx::OpSchema&) = nullptr;
  /// Types of the results of an operator that a plug-in brings, in place of a schema: called with the types of the
  /// operands (undefined where one is absent), whose extents may be unknown. Throws Error when they do not fit.
  std::vector<TensorType> (*infer)(const Node& node, std::span<const TensorType> operands) = nullptr;
  /// What a user should know: the convention at kinks and ties, a limit.
  std::string_view note = {};

  /// No gradient flows through it, and none is missing.
  bool has_zero_gradient() const { return gradient == no_gradient; }
};

/// All rows, ordered by family.
std::span<const OpDef* const> op_table();
/// The row of an operator, or nullptr.
const OpDef* find_op(std::string_view name, std::string_view domain = kOnnxDomain);

/// Adds the rows of a plug-in, which must last as long as the process. To be called before other threads use the table.
/// Rows that are there already are passed over. Throws Error, and adds none, for an operator of ai.onnx or ai.halfstep,
/// one that another has added, and one without `reference` or `infer`.
void add_operators(std::span<const OpDef> rows);

/// Registers the schemas of ai.halfstep with ONNX's registry, once; called by everything that needs schemas.
void register_schemas();

/// Version of the ai.onnx operator set every Graph is in after loading, and of ai.halfstep.
inline constexpr std::int64_t kOnnxOpset = 28;
inline constexpr std::int64_t kOwnOpset = 1;

}  // namespace halfstep
