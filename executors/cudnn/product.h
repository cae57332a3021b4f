// Matrix products by cuBLASLt, with what is computed beside them.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "executors/cudnn/kernel.h"
#include "ops/epilogue.h"

namespace halfstep::cudnn {

/// What operands and results are aligned to: memory planning guarantees it, where cuBLASLt would assume 256 bytes.
inline constexpr std::uint32_t kOperandAlignment = 64;

/// Matrices of one call: cuBLASLt has no algorithm for some products of more than 65535. A multiple of the alignment,
/// so that those behind begin as aligned.
inline constexpr std::int64_t kMostMatrices = 65536 - kOperandAlignment;

/// One operand: a stack of row-major matrices, `stride` elements apart (0: the same one for the whole batch).
struct ProductOperand {
  std::int64_t rows, columns;
  bool transposed;
  std::int64_t stride = 0;
};

/// What is computed along with a product Y.
enum class Beside : std::uint8_t {
  nothing,
  activation,  ///< of what would be Y
  operand,     ///< the same, and its operand Z
  slope,       ///< Y times the activation's slope at Z
  sums_a,      ///< an operand's sums over what the product sums over
  sums_b,
};

struct Product {
  ProductOperand a, b;
  std::int64_t batch = 1;
  float alpha = 1, beta = 0;
  DType type, to;
  bool bias = false;  ///< [columns of Y], added by the epilogue
  Beside beside = Beside::nothing;
  ops::Epilogue last = {};

  std::int64_t rows() const { return a.transposed ? a.columns : a.rows; }
  std::int64_t columns() const { return b.transposed ? b.rows : b.columns; }
};

inline bool has_sums(const Product& p) { return p.beside == Beside::sums_a || p.beside == Beside::sums_b; }
inline bool has_operand(const Product& p) { return p.beside == Beside::operand || p.beside == Beside::slope; }

/// Whether cuBLASLt multiplies the type.
bool is_multiplied(DType dtype);

/// A product as cuBLASLt is told it: with what is beside it in its epilogue, or without.
struct ProductForm {
  MatmulDescriptor operation;
  MatrixLayout a, b, y;
  bool is_whole = true;
};

/// A product ready to launch.
struct ProductPlan {
  std::shared_ptr<const ProductForm> form;
  cublasLtMatmulAlgo_t algorithm{};
  std::size_t workspace = 0;
};

/// All that can be taken. What is beside a product comes first in an epilogue from the H100 on, else by a kernel of its
/// own.
std::vector<ProductPlan> plans_of(const Product& p, const Libraries& libraries);

/// Those without what is beside the product: all there are for a part of a stack of matrices.
std::vector<ProductPlan> plain_plans_of(const Product& p, const Libraries& libraries);

/// What an own kernel does behind a product where the epilogue does not.
struct AfterProduct {
  std::string refusal = {};
  std::function<void(const Launch&)> launch = {};
  std::size_t scratch_bytes = 0;
};

/// The product of the matrices from `first` on, as many as the plan is for. `workspace`: aligned. Whether cuBLASLt took
/// it.
cublasStatus_t run_product(const ProductPlan& plan, const Product& p, cublasLtHandle_t handle, const Launch& l,
                           void* workspace, std::int64_t first = 0);

}  // namespace halfstep::cudnn
