// Elements read from, or written to, places that indices name: GatherElements, GatherND and their opposites.
#pragma once

#include "executors/cudnn/kernels/chain_arguments.h"

namespace halfstep::cudnn {

/// `places` indices, or tuples of them, each of which names `inner` elements of the data that lie together. Of single
/// indices `extents` are those of their tensor and `steps` what each axis steps over in the data; of tuples they are
/// those of the axes that a tuple addresses. Steps count in units of `inner`. `keys` are the updates' places in
/// ascending order, and `order` says which update each is of.
// clang-format off
HALFSTEP_SHARED_TEXT(kPlaceArgumentsText,
struct PlaceArguments {
  static constexpr int kAxes = 8;
  const void* data;
  const void* indices;
  const void* updates;
  void* result;
  int* keys;
  const int* order;
  long long count;
  long long places;
  long long inner;
  long long axis_extent, axis_step;
  long long per_batch, batch_step;
  long long extents[kAxes];
  long long steps[kAxes];
};)
// clang-format on

/// The place that index i names along one axis, at its own coordinates along the others; -1 out of range.
inline constexpr std::string_view kPlaceOfIndexText = R"text(
static __device__ __forceinline__ i64 place_of(const PlaceArguments& a, i64 i) {
  i64 k = static_cast<const {index}*>(a.indices)[i];
  if (k < 0) k += a.axis_extent;
  if (k < 0 || k >= a.axis_extent) return -1;
  i64 place = k * a.axis_step;
  {position} left = ({position})i;
#pragma unroll
  for (int axis = {axes} - 1; axis >= 0; --axis) {
    const {position} extent = ({position})a.extents[axis], quotient = left / extent;
    place += (i64)(left - quotient * extent) * a.steps[axis];
    left = quotient;
  }
  return place;
}
)text";

/// The place that tuple i names.
inline constexpr std::string_view kPlaceOfTupleText = R"text(
static __device__ __forceinline__ i64 place_of(const PlaceArguments& a, i64 i) {
  i64 place = i / a.per_batch * a.batch_step;
#pragma unroll
  for (int t = 0; t < {axes}; ++t) {
    i64 k = static_cast<const {index}*>(a.indices)[i * {axes} + t];
    if (k < 0) k += a.extents[t];
    if (k < 0 || k >= a.extents[t]) return -1;
    place += k * a.steps[t];
  }
  return place;
}
)text";

/// An index out of range, for which no exception can be raised, gives NaN, or -1.
inline constexpr std::string_view kGatherPlacesText = R"text(
extern "C" __global__ void __launch_bounds__(256) gather_places(const __grid_constant__ PlaceArguments a) {
  const i64 step = (i64)gridDim.x * blockDim.x;
  for (i64 i = (i64)blockIdx.x * blockDim.x + threadIdx.x; i < a.count; i += step) {
    const i64 row = i / a.inner, place = place_of(a, row);
    {element} value = ({element})~0ull;
    if (place >= 0) value = static_cast<const {element}*>(a.data)[place * a.inner + (i - row * a.inner)];
    static_cast<{element}*>(a.result)[i] = value;
  }
}
)text";

/// The place of every update; behind all others where it is out of range.
inline constexpr std::string_view kPlaceKeysText = R"text(
extern "C" __global__ void __launch_bounds__(256) place_keys(const __grid_constant__ PlaceArguments a) {
  const i64 step = (i64)gridDim.x * blockDim.x;
  for (i64 i = (i64)blockIdx.x * blockDim.x + threadIdx.x; i < a.places; i += step) {
    const i64 place = place_of(a, i);
    a.keys[i] = (int)(place < 0 ? a.count / a.inner : place);
  }
}
)text";

/// How many of the sorted updates are of a place before that one.
inline constexpr std::string_view kUpdatesBeforeText = R"text(
static __device__ __forceinline__ i64 updates_before(const PlaceArguments& a, i64 place) {
  i64 low = 0, high = a.places;
  while (low < high) {
    const i64 middle = (low + high) / 2;
    if (a.keys[middle] < place)
      low = middle + 1;
    else
      high = middle;
  }
  return low;
}
)text";

/// Every element of the data with the last of its updates, if there is any.
inline constexpr std::string_view kReplacePlacesText = R"text(
extern "C" __global__ void __launch_bounds__(256) replace_places(const __grid_constant__ PlaceArguments a) {
  const i64 step = (i64)gridDim.x * blockDim.x;
  for (i64 i = (i64)blockIdx.x * blockDim.x + threadIdx.x; i < a.count; i += step) {
    const i64 place = i / a.inner;
    const i64 end = updates_before(a, place + 1);
    const i64 last = end > 0 && a.keys[end - 1] == place ? a.order[end - 1] : -1;
    static_cast<{element}*>(a.result)[i] =
        last < 0 ? static_cast<const {element}*>(a.data)[i]
                 : static_cast<const {element}*>(a.updates)[last * a.inner + (i - place * a.inner)];
  }
}
)text";

/// Every element of the data combined with its updates, in their order: so every result has one order of sums.
inline constexpr std::string_view kCombinePlacesText = R"text(
static __device__ __forceinline__ float multiply(float a, float b) { return a * b; }
template <class T> static __device__ __forceinline__ T multiply(T a, T b) { return (T)((u64)a * (u64)b); }
template <class T> static __device__ __forceinline__ T larger(T a, T b) { return a != a || a > b ? a : b; }
template <class T> static __device__ __forceinline__ T smaller(T a, T b) { return a != a || a < b ? a : b; }

extern "C" __global__ void __launch_bounds__(256) combine_places(const __grid_constant__ PlaceArguments a) {
  const i64 step = (i64)gridDim.x * blockDim.x;
  for (i64 i = (i64)blockIdx.x * blockDim.x + threadIdx.x; i < a.count; i += step) {
    const i64 place = i / a.inner;
    auto value = load(static_cast<const {element}*>(a.data)[i]);
    for (i64 k = updates_before(a, place); k < a.places && a.keys[k] == place; ++k)
      value = {combine}(value, load(static_cast<const {element}*>(a.updates)[a.order[k] * a.inner + (i - place * a.inner)]));
    static_cast<{element}*>(a.result)[i] = round_to<{element}>(value);
  }
}
)text";

}  // namespace halfstep::cudnn
