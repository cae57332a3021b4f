// What the kernels of all normalizations are given.
#pragma once

#include "executors/cudnn/kernels/chain_arguments.h"

namespace halfstep::cudnn {

/// Rows of `length` elements; of a channel they lie in planes, of which one in `rows` is its, and each of one element
/// where channels lie together; they are cut into `groups` of `chunk` pieces. `saved`: the means of all rows, and 1 by
/// their deviations behind them, from the forward pass to the backward pass.
// clang-format off
HALFSTEP_SHARED_TEXT(kNormalizationArgumentsText,
struct NormalizationArguments {
  const void* in[6];
  void* out[3];
  void* scratch;
  float* saved;
  long long rows;
  long long length;
  long long plane;
  long long groups;
  long long chunk;
  float epsilon;
  float momentum;
  float low;
  float high;
  float least;
  int is_training;
};)
// clang-format on

/// Of a row or a channel.
inline constexpr std::string_view kMomentsText = R"text(
struct Moments { float mean, variance; };
)text";

}  // namespace halfstep::cudnn
