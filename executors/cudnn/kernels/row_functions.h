// What functions over rows gather, as CUDA C++ for row_text.h.
#pragma once

#include <string_view>

namespace halfstep::cudnn {

/// Maximum and sum of exp(x - maximum), gathered in one pass (Milakov & Gimelshein 2018, "Online normalizer calculation
/// for softmax").
inline constexpr std::string_view kScaledSumText = R"text(
struct Accumulator { float maximum, sum; };
static __device__ __forceinline__ Accumulator identity() { Accumulator none; none.maximum = none.sum = 0; return none; }
static __device__ __forceinline__ Accumulator join(Accumulator a, Accumulator b) {
  if (b.sum == 0) return a;
  if (a.sum == 0) return b;
  if (a.maximum == b.maximum) {  // both may be infinite
    a.sum += b.sum;
    return a;
  }
  const bool is_first = a.maximum > b.maximum;
  const Accumulator more = is_first ? a : b, less = is_first ? b : a;
  Accumulator both;
  both.maximum = more.maximum;
  both.sum = more.sum + less.sum * expf(less.maximum - more.maximum);
  return both;
}
static __device__ __forceinline__ Accumulator with(Accumulator acc, float x, bool is_number) {
  Accumulator one;
  one.maximum = x;
  one.sum = is_number ? 1.0f : bits_to_float(0x7fc00000u);
  return join(acc, one);
}
static __device__ __forceinline__ float log_of(Accumulator acc) { return acc.maximum + logf(acc.sum); }
)text";
/// As a softmax has it: NaN where an element is NaN or infinity, whose difference from itself is NaN.
inline constexpr std::string_view kGatherSoftmax = "acc = with(acc, x0, x0 < bits_to_float(0x7f800000u));";
inline constexpr std::string_view kGatherLogSumExp = "acc = with(acc, x0, x0 == x0);";

/// The best element so far and where it is; {better}: x before y.
inline constexpr std::string_view kExtremumText = R"text(
struct Accumulator { i64 at; {type} value; int unused; };
static __device__ __forceinline__ Accumulator identity() { Accumulator none; none.at = -1; none.value = 0; none.unused = 0; return none; }
static __device__ __forceinline__ Accumulator join(Accumulator a, Accumulator b) {
  if (a.at < 0) return b;
  if (b.at < 0) return a;
  const {type} x = a.value, y = b.value;
  const bool x_is_nan = x != x, y_is_nan = y != y;
  if (x_is_nan != y_is_nan) return x_is_nan ? a : b;
  if (!x_is_nan && x != y) return x {better} y ? a : b;
  return (a.at < b.at) != {last} ? a : b;
}
)text";

/// Labels of softmax cross-entropy: which of the scores, and how much a point counts. One that is out of range, for
/// which no exception can be raised, makes the loss NaN.
inline constexpr std::string_view kLabelText = R"text(
static __device__ __forceinline__ bool is_class(i64 label) { return label >= 0 && label < {classes}; }
static __device__ __forceinline__ bool is_ignored(i64 label) { return {ignores} && label == {ignored}; }
static __device__ __forceinline__ float weight_of(const void* weights, i64 label) {
  if (is_ignored(label)) return 0.0f;
  if (!is_class(label)) return bits_to_float(0x7fc00000u);
  return {weighs} ? load(static_cast<const {element}*>(weights)[label]) : 1.0f;
}
)text";

/// Sums of losses and of weights.
inline constexpr std::string_view kWeightedSumText = R"text(
struct Accumulator { float sum, weight; };
static __device__ __forceinline__ Accumulator identity() { Accumulator none; none.sum = none.weight = 0; return none; }
static __device__ __forceinline__ Accumulator join(Accumulator a, Accumulator b) {
  a.sum += b.sum;
  a.weight += b.weight;
  return a;
}
)text";

}  // namespace halfstep::cudnn
