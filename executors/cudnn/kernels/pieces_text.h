// Pieces of tensors copied to where cuDNN wants weights, or back.
#pragma once

#include "executors/cudnn/kernels/chain_arguments.h"

namespace halfstep::cudnn {

/// `ends[i]`: the elements of piece i and all before it. An LSTM of two directions has the most pieces: 4 gates, each
/// with two matrices and two biases.
// clang-format off
HALFSTEP_SHARED_TEXT(kPiecesArgumentsText,
struct PiecesArguments {
  static constexpr int kMost = 32;
  const void* from[kMost];
  void* to[kMost];
  long long ends[kMost];
  long long count;
};)
// clang-format on

/// Of elements that are as wide as {element}.
inline constexpr std::string_view kPiecesText = R"text(
extern "C" __global__ void __launch_bounds__(256) copy_pieces(const __grid_constant__ PiecesArguments a) {
  int piece = 0;
  i64 begin = 0;
  for (i64 i = (i64)blockIdx.x * 256 + threadIdx.x; i < a.count; i += (i64)gridDim.x * 256) {
    for (; i >= a.ends[piece]; ++piece) begin = a.ends[piece];
    static_cast<{element}*>(a.to[piece])[i - begin] = static_cast<const {element}*>(a.from[piece])[i - begin];
  }
}
)text";

}  // namespace halfstep::cudnn
