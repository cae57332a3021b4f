// The product of two stacks of matrices: what MatMul, Gemm and the fused forms of both have in common.
#pragma once

#include <vector>

#include "ops/schema_util.h"
#include <halfstep/ops/kernel_util.h>

namespace halfstep::ops {

/// An operand: the last two axes are a matrix, transposed or not; those before say how many there are.
struct MatrixStack {
  Shape batch;
  std::int64_t rows, columns;  ///< after transposition
  bool transposed;

  /// Throws if the shape has fewer than two axes.
  MatrixStack(const Shape& shape, bool transposed);

  std::int64_t size() const { return rows * columns; }

  /// Matrix `i` of the stack, row-major after transposition.
  template <class T>
  std::vector<T> matrix(const std::vector<T>& values, std::int64_t i) const {
    const T* first = values.data() + i * size();
    std::vector<T> result(first, first + size());
    if (transposed)
      for (std::int64_t r = 0; r < rows; ++r)
        for (std::int64_t c = 0; c < columns; ++c) result[r * columns + c] = first[c * rows + r];
    return result;
  }
};

/// A B for every pair of matrices; the axes before them are broadcast.
struct StackProduct {
  MatrixStack a, b;
  Shape batch;

  /// Throws unless inner extents are equal and the other axes are broadcast.
  StackProduct(MatrixStack a, MatrixStack b);

  /// Of the result.
  Shape shape() const;

  /// alpha A B, of operands in double or, modulo 2^64, in std::uint64_t.
  template <class T>
  std::vector<T> values(const std::vector<T>& left, const std::vector<T>& right, T alpha) const;
};

/// Operands 0 and 1 of a node, transposed as its attributes transA and transB say.
StackProduct product_of(const KernelCall& call);

/// The same, of two matrices: throws for stacks.
StackProduct matrix_product_of(const KernelCall& call);

/// The node's alpha, transA and transB.
double alpha_of(const Attributes& attributes);
bool is_a_transposed(const Attributes& attributes);
bool is_b_transposed(const Attributes& attributes);

/// Attributes transA, transB and alpha.
void add_product_attributes(onnx::OpSchema& schema);

/// Shape of op(A) op(B) into output 0, batch axes as MatMul; the element type of `infer_type_from_to` into every
/// output.
void infer_product(onnx::InferenceContext& ctx);

/// The same, of two matrices: fails for stacks.
void infer_matrix_product(onnx::InferenceContext& ctx);

}  // namespace halfstep::ops
