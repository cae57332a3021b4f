// Building graphs from expressions.
#pragma once

#include <initializer_list>
#include <map>
#include <string_view>
#include <utility>
#include <vector>

#include <halfstep/base/api.h>
#include <halfstep/graph/graph.h>

namespace HALFSTEP_API halfstep {

class Builder;

/// A value of a graph under construction; empty for an absent optional operand and where no gradient flows.
/// `a * b + c` adds `Mul` and `Add` nodes (with ONNX broadcasting) to the builder's graph.
class Expr {
 public:
  Expr() = default;
  Expr(Builder& builder, ValueId id) : builder_(&builder), id_(id) {}

  explicit operator bool() const { return id_ != kNoValue; }
  ValueId id() const { return id_; }
  /// The builder of its graph. Throws Error(failure) for an empty expression.
  Builder& builder() const;
  DType dtype() const;
  Shape shape() const;  ///< a copy: values move when the graph grows
  std::size_t rank() const { return shape().rank(); }

 private:
  Builder* builder_ = nullptr;
  ValueId id_ = kNoValue;
};

Expr operator+(Expr a, Expr b);
Expr operator-(Expr a, Expr b);
Expr operator*(Expr a, Expr b);
Expr operator/(Expr a, Expr b);
Expr operator-(Expr a);
// A number becomes a scalar constant of the other operand's type.
Expr operator+(Expr a, double b);
Expr operator-(Expr a, double b);
Expr operator-(double a, Expr b);
Expr operator*(Expr a, double b);
Expr operator/(Expr a, double b);
Expr operator/(double a, Expr b);

/// Appends nodes to a graph; dtype and shape of every new value are inferred immediately from the operator's schema.
/// Throws Error if inference fails (operands of the wrong rank or type), naming the operator and the operand shapes.
class Builder {
 public:
  explicit Builder(Graph& graph) : graph_(graph) {}

  Graph& graph() { return graph_; }
  Expr expr(ValueId id) { return {*this, id}; }

  /// A node of the ONNX domain with one output.
  Expr op(std::string_view type, std::vector<Expr> inputs, Attributes attributes = {});
  /// A node of domain ai.halfstep with one output.
  Expr own(std::string_view type, std::vector<Expr> inputs, Attributes attributes = {});
  /// A node with `outputs` outputs.
  std::vector<Expr> multi(std::string_view type, std::string_view domain, std::vector<Expr> inputs, std::size_t outputs,
                          Attributes attributes = {});

  Expr constant(Tensor tensor, std::string_view name = {});
  /// A scalar constant; equal ones are shared.
  Expr scalar(double value, DType dtype);
  /// A 1-D int64 constant (axes, shapes); equal ones are shared.
  Expr ints(const std::vector<std::int64_t>& values);

  // Common expressions.
  Expr cast(Expr x, DType to);  ///< x itself if it already has that type
  Expr reshape(Expr x, const Shape& shape);
  Expr transpose(Expr x, std::vector<std::int64_t> perm);
  Expr reduce_sum(Expr x, const std::vector<std::int64_t>& axes, bool keep_dims);
  /// Sums x over the axes along which `shape` was broadcast to x's shape: the gradient of broadcasting.
  Expr sum_to(Expr x, Shape shape);
  Expr zeros_like(Expr x);

  /// Sets the name prefix (a scope, or a node's name and a dot) and the forward node of all nodes added from now on.
  void set_context(std::string_view name_prefix, NodeId forward = kNoNode);

 private:
  Graph& graph_;
  std::string prefix_;
  NodeId forward_ = kNoNode;
  std::map<std::pair<double, DType>, ValueId> scalars_;
  std::map<std::vector<std::int64_t>, ValueId> ints_;
};

}  // namespace halfstep
