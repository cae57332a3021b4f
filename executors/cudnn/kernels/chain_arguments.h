// What a generated elementwise kernel is called with: one definition for the host's code and for the kernel's text.
#pragma once

#include <string_view>

/// Declares what is given, and `name` as its text.
#define HALFSTEP_SHARED_TEXT(name, ...) \
  __VA_ARGS__                           \
  inline constexpr std::string_view name = #__VA_ARGS__;

namespace halfstep::cudnn {

/// Result element i, in row-major order, lies along the axes of `extents`; operand k of those that are broadcast steps
/// over `steps[k]` elements along each. Division by extent d is (umulhi(i, multiplier) + i) >> shift where 32 bits
/// suffice.
// clang-format off
HALFSTEP_SHARED_TEXT(kChainArgumentsText,
struct ChainArguments {
  static constexpr int kInputs = 16, kOutputs = 24, kConstants = 72, kSpread = 6, kAxes = 8;
  const void* in[kInputs];
  void* out[kOutputs];
  unsigned long long constants[kConstants];
  long long count;
  long long vectors;
  long long extents[kAxes];
  unsigned int multipliers[kAxes];
  unsigned int shifts[kAxes];
  long long steps[kSpread][kAxes];
};)
// clang-format on

}  // namespace halfstep::cudnn
