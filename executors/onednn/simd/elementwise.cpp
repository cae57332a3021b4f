// Sharing elementwise work among threads.
#include "executors/onednn/simd/elementwise.h"

#include "executors/onednn/simd/broadcast_rows.h"
#include "executors/onednn/simd/kernels.h"
#include "executors/onednn/simd/parallel.h"
#include "ops/elementwise/formula.h"

namespace halfstep::simd {

namespace {

/// Elements of one share of work: enough to hide the call, few enough to balance.
constexpr std::int64_t kBlock = 8192;

}  // namespace

void UnaryKernel::operator()(const void* x, void* y, std::int64_t n) const {
  const auto bytes = n * static_cast<std::int64_t>(in_bytes + out_bytes);
  parallel_for(blocks_of(n, kBlock), bytes, [&](std::int64_t block) {
    const std::int64_t begin = block * kBlock;
    fn(at(x, begin, in_bytes), at(y, begin, out_bytes), std::min(kBlock, n - begin), params);
  });
}

void BinaryKernel::operator()(const void* a, const void* b, void* y, std::int64_t n) const {
  const auto bytes = n * static_cast<std::int64_t>(2 * in_bytes + out_bytes);
  parallel_for(blocks_of(n, kBlock), bytes, [&](std::int64_t block) {
    const std::int64_t begin = block * kBlock;
    rows.array_array(at(a, begin, in_bytes), at(b, begin, in_bytes), at(y, begin, out_bytes),
                     std::min(kBlock, n - begin), params);
  });
}

void BinaryKernel::operator()(const Broadcast& shape, const void* a, const void* b, void* y) const {
  const std::int64_t step_a = shape.moves(0), step_b = shape.moves(1);
  const auto in = static_cast<std::int64_t>(in_bytes), out = static_cast<std::int64_t>(out_bytes);
  const std::int64_t bytes = (out + (step_a + step_b) * in) * shape.size();
  for_row_pieces(shape, kBlock, bytes, [&](const RowPiece& piece) {
    const void* left = at(a, piece.offsets[0] + step_a * piece.begin, in_bytes);
    const void* right = at(b, piece.offsets[1] + step_b * piece.begin, in_bytes);
    void* to = at(y, piece.result, out_bytes);
    if (step_a && step_b) return rows.array_array(left, right, to, piece.count, params);
    if (step_b) return rows.scalar_array(left, right, to, piece.count, params);
    if (step_a) return rows.array_scalar(left, right, to, piece.count, params);
    for (std::int64_t i = 0; i < piece.count; ++i) rows.array_array(left, right, at(to, i, out_bytes), 1, params);
  });
}

namespace {

std::size_t out_bytes(ops::Formula formula, DType dtype) {
  return ops::def_of(formula).gives_truth ? 1 : bytes_of(dtype, 1);
}

}  // namespace

UnaryKernel find_unary(ops::Formula formula, DType dtype, ElementwiseParams params) {
  return {find_unary_range(formula, dtype), bytes_of(dtype, 1), out_bytes(formula, dtype), params};
}

BinaryKernel find_binary(ops::Formula formula, DType dtype, ElementwiseParams params) {
  return {find_binary_rows(formula, dtype), bytes_of(dtype, 1), out_bytes(formula, dtype), params};
}

UnaryKernel find_cast(DType from, DType to) {
  return {find_cast_range(from, to), bytes_of(from, 1), bytes_of(to, 1), {}};
}

}  // namespace halfstep::simd
