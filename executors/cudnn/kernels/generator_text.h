// OneHot, Range, Trilu, EyeLike and RotaryEmbedding.
#pragma once

#include "executors/cudnn/kernels/chain_arguments.h"

namespace halfstep::cudnn {

/// Element i is `values[1]` where its place along the axis of `depth` is that of its index, else `values[0]`.
// clang-format off
HALFSTEP_SHARED_TEXT(kOneHotArgumentsText,
struct OneHotArguments {
  const void* indices;
  const void* values;
  void* y;
  long long count;
  long long depth;
  long long inner;
};)
HALFSTEP_SHARED_TEXT(kRangeArgumentsText,
struct RangeArguments {
  const void* start;
  const void* delta;
  void* y;
  long long count;
};)
/// Matrices of `rows` and `columns`.
HALFSTEP_SHARED_TEXT(kDiagonalArgumentsText,
struct DiagonalArguments {
  const void* x;
  void* y;
  long long count;
  long long rows;
  long long columns;
  long long diagonal;
};)
/// Heads of `head` elements, of which `pairs` pairs are turned; [batch, steps, heads] of them where packed, else
/// [batch, heads, steps]. `cache`: rows of the caches that positions choose.
HALFSTEP_SHARED_TEXT(kRotaryArgumentsText,
struct RotaryArguments {
  const void* x;
  const void* cosines;
  const void* sines;
  const void* positions;
  void* y;
  long long count;
  long long heads;
  long long steps;
  long long head;
  long long pairs;
  long long cache;
  int is_packed;
  int is_interleaved;
};)
// clang-format on

/// Indices are {index}, positions {position}; values are moved as {word}.
inline constexpr std::string_view kOneHotText = R"text(
extern "C" __global__ void __launch_bounds__(256) one_hot(const __grid_constant__ OneHotArguments a) {
  typedef {position} Position;
  const {word}* values = static_cast<const {word}*>(a.values);
  const Position step = (Position)gridDim.x * blockDim.x;
  for (Position i = (Position)blockIdx.x * blockDim.x + threadIdx.x; i < (Position)a.count; i += step) {
    const Position line = i / (Position)a.inner, outer = line / (Position)a.depth;
    const i64 place = (i64)(line - outer * (Position)a.depth);
    const i64 index = static_cast<const {index}*>(a.indices)[outer * (Position)a.inner + (i - line * (Position)a.inner)];
    static_cast<{word}*>(a.y)[i] = values[place == (index < 0 ? index + a.depth : index) ? 1 : 0];
  }
}
)text";

/// Numbers are {element}, and computed in {wide}.
inline constexpr std::string_view kRangeText = R"text(
extern "C" __global__ void __launch_bounds__(256) range(const __grid_constant__ RangeArguments a) {
  const {wide} start = ({wide})load(*static_cast<const {element}*>(a.start));
  const {wide} delta = ({wide})load(*static_cast<const {element}*>(a.delta));
  for (i64 i = (i64)blockIdx.x * blockDim.x + threadIdx.x; i < a.count; i += (i64)gridDim.x * blockDim.x)
    static_cast<{element}*>(a.y)[i] = round_to<{element}>(({value})(start + ({wide})i * delta));
}
)text";

/// Element i is {value} where `above`, the number of its diagonal, says {keeps}, else {zero}.
inline constexpr std::string_view kDiagonalText = R"text(
extern "C" __global__ void __launch_bounds__(256) diagonal(const __grid_constant__ DiagonalArguments a) {
  typedef {position} Position;
  const {element}* x = static_cast<const {element}*>(a.x);
  const Position step = (Position)gridDim.x * blockDim.x;
  for (Position i = (Position)blockIdx.x * blockDim.x + threadIdx.x; i < (Position)a.count; i += step) {
    const Position line = i / (Position)a.columns, row = line % (Position)a.rows;
    const i64 above = (i64)(i - line * (Position)a.columns) - (i64)row;
    static_cast<{element}*>(a.y)[i] = {keeps} ? {value} : {zero};
  }
}
)text";

/// A position out of range gives NaN.
inline constexpr std::string_view kRotaryText = R"text(
extern "C" __global__ void __launch_bounds__(256) rotary(const __grid_constant__ RotaryArguments a) {
  const {element}* x = static_cast<const {element}*>(a.x);
  {element}* y = static_cast<{element}*>(a.y);
  const i64 step = (i64)gridDim.x * blockDim.x;
  for (i64 i = (i64)blockIdx.x * blockDim.x + threadIdx.x; i < a.count; i += step) {
    const i64 line = i / a.head, at = i - line * a.head;
    if (at >= 2 * a.pairs) {
      y[i] = x[i];
      continue;
    }
    const i64 major = a.is_packed ? line / a.heads : line;
    const i64 t = major % a.steps, n = a.is_packed ? major / a.steps : major / a.steps / a.heads;
    i64 row = n * a.steps + t;
    if (a.positions) {
      row = static_cast<const i64*>(a.positions)[row];
      if (row < 0) row += a.cache;
    }
    const bool is_second = a.is_interleaved ? at % 2 != 0 : at >= a.pairs;
    const i64 pair = a.is_interleaved ? at / 2 : is_second ? at - a.pairs : at;
    const i64 apart = a.is_interleaved ? 1 : a.pairs;
    const bool is_there = !a.positions || (row >= 0 && row < a.cache);
    const i64 angle = row * a.pairs + pair;
    const float nan = bits_to_float(0x7fc00000u);
    const float cosine = is_there ? load(static_cast<const {element}*>(a.cosines)[angle]) : nan;
    const float sine = is_there ? load(static_cast<const {element}*>(a.sines)[angle]) : nan;
    const float own = load(x[i]), other = load(x[is_second ? i - apart : i + apart]);
    y[i] = round_to<{element}>(is_second ? sine * other + cosine * own : cosine * own - sine * other);
  }
}
)text";

}  // namespace halfstep::cudnn
