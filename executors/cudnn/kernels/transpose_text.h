// Transposition by tiles that go through shared memory, so that reading and writing are both of neighbours.
#pragma once

#include "executors/cudnn/kernels/chain_arguments.h"

namespace halfstep::cudnn {

/// `rows` lie next to each other in the operand, `columns` in the result; the other axes are those of a batch.
// clang-format off
HALFSTEP_SHARED_TEXT(kTransposeArgumentsText,
struct TransposeArguments {
  static constexpr int kAxes = 6;
  const void* from;
  void* to;
  long long tiles, row_tiles, column_tiles;
  long long rows, columns;
  long long column_step;
  long long row_step;
  long long extents[kAxes];
  long long from_steps[kAxes];
  long long to_steps[kAxes];
};)
// clang-format on

/// With {axes} axes of a batch.
inline constexpr std::string_view kTransposeText = R"text(
extern "C" __global__ void __launch_bounds__(256) transpose(const __grid_constant__ TransposeArguments a) {
  __shared__ {element} tile[32][33];  // one more, so that a column is spread over all banks
  const int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
  for (i64 t = blockIdx.x; t < a.tiles; t += gridDim.x) {
    i64 left = t / a.column_tiles;
    const i64 first_column = (t - left * a.column_tiles) * 32;
    i64 batch = left / a.row_tiles;
    const i64 first_row = (left - batch * a.row_tiles) * 32;
    const {element}* from = static_cast<const {element}*>(a.from);
    {element}* to = static_cast<{element}*>(a.to);
#pragma unroll
    for (int axis = {axes} - 1; axis >= 0; --axis) {
      const i64 quotient = batch / a.extents[axis], at = batch - quotient * a.extents[axis];
      from += at * a.from_steps[axis];
      to += at * a.to_steps[axis];
      batch = quotient;
    }
    for (int k = warp; k < 32; k += 8)
      if (first_row + lane < a.rows && first_column + k < a.columns)
        tile[k][lane] = from[first_row + lane + (first_column + k) * a.column_step];
    __syncthreads();
    for (int k = warp; k < 32; k += 8)
      if (first_row + k < a.rows && first_column + lane < a.columns)
        to[(first_row + k) * a.row_step + first_column + lane] = tile[lane][k];
    __syncthreads();
  }
}
)text";

}  // namespace halfstep::cudnn
