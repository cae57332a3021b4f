// Maximum pooling: a vector holds channels, which do not mix.
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "executors/onednn/simd/max_pool.cpp"
#include "executors/onednn/simd/max_pool.h"

#include <algorithm>

#include <hwy/cache_control.h>
#include <hwy/foreach_target.h>  // must come before the other headers

#include "executors/onednn/simd/math-inl.h"
#include "executors/onednn/simd/parallel.h"
#include "executors/onednn/simd/unrolled-inl.h"

#ifndef HALFSTEP_SIMD_MAX_POOL_ONCE
#define HALFSTEP_SIMD_MAX_POOL_ONCE
namespace halfstep::simd {
namespace {

constexpr std::int64_t kMostShortTaps = 256;  // places of windows of up to so many fit a byte

}  // namespace
}  // namespace halfstep::simd
#endif

HWY_BEFORE_NAMESPACE();
namespace halfstep::simd::HWY_NAMESPACE {
namespace {

using Places = hn::Vec<I32>;
constexpr std::size_t kMostLanes = HWY_MAX_BYTES / sizeof(float);

Places load_places(const std::int32_t* p) { return hn::LoadU(I32(), p); }
Places load_places(const std::uint8_t* p) {
  return hn::PromoteTo(I32(), hn::LoadU(hn::Rebind<std::uint8_t, I32>(), p));
}
void store_places(Places v, std::int32_t* p) { hn::StoreU(v, I32(), p); }
void store_places(Places v, std::uint8_t* p) {
  const hn::Rebind<std::uint8_t, I32> bytes;
  hn::StoreU(hn::DemoteTo(bytes, v), bytes, p);
}
template <class Place>
Places read_places(const Place* p, std::true_type) {
  return load_places(p);
}
template <class Place>
Places read_places(const Place* p, std::int64_t count) {
  Place values[kMostLanes] = {};
  std::memcpy(values, p, static_cast<std::size_t>(count) * sizeof(Place));
  return load_places(values);
}
template <class Place>
void write_places(Places v, Place* p, std::true_type) {
  store_places(v, p);
}
template <class Place>
void write_places(Places v, Place* p, std::int64_t count) {
  Place values[kMostLanes];
  store_places(v, values);
  std::memcpy(p, values, static_cast<std::size_t>(count) * sizeof(Place));
}

struct Range {
  std::int64_t begin, end;
};
constexpr std::int64_t ceil_div(std::int64_t a, std::int64_t b) { return a > 0 ? (a + b - 1) / b : 0; }

/// The taps of output position `out` along an axis that fall into the image.
Range taps_at(const MaxPoolShape& shape, std::size_t axis, std::int64_t out) {
  const std::int64_t first = out * shape.strides[axis] - shape.pads[axis], step = shape.dilations[axis];
  // Most windows lie in the image; two divisions would take longer than all else for them.
  if (first >= 0 && first + (shape.kernel[axis] - 1) * step < shape.in[axis]) return {0, shape.kernel[axis]};
  return {ceil_div(-first, step), std::min(ceil_div(shape.in[axis] - first, step), shape.kernel[axis])};
}

/// Whether the window of output column `out` is whole along the last axis.
bool is_whole_row(const MaxPoolShape& shape, std::int64_t out) {
  const Range taps = taps_at(shape, 2, out);
  return taps.begin == 0 && taps.end == shape.kernel[2];
}

/// The window of one output: f(offset in the plane, counted in positions; tap) for its taps in row-major order. It
/// moves along a row of outputs, on which only the last axis changes.
struct Window {
  const MaxPoolShape& shape;
  std::array<std::int64_t, 3> first{};  // the position of tap 0
  std::array<Range, 3> taps{};

  Window(const MaxPoolShape& s, std::int64_t o0, std::int64_t o1) : shape(s) {
    place(0, o0);
    place(1, o1);
  }
  void move_to(std::int64_t column) { place(2, column); }

  std::int64_t first_tap() const {
    return (taps[0].begin * shape.kernel[1] + taps[1].begin) * shape.kernel[2] + taps[2].begin;
  }
  template <class F>
  HWY_INLINE void walk(const F& f) const {
    for (std::int64_t a = taps[0].begin; a < taps[0].end; ++a) {
      for (std::int64_t b = taps[1].begin; b < taps[1].end; ++b) {
        const std::int64_t row =
            ((first[0] + a * shape.dilations[0]) * shape.in[1] + first[1] + b * shape.dilations[1]) * shape.in[2];
        const std::int64_t tap = (a * shape.kernel[1] + b) * shape.kernel[2];
        for (std::int64_t c = taps[2].begin; c < taps[2].end; ++c) f(row + first[2] + c * shape.dilations[2], tap + c);
      }
    }
  }

 private:
  void place(std::size_t axis, std::int64_t out) {
    first[axis] = out * shape.strides[axis] - shape.pads[axis];
    taps[axis] = taps_at(shape, axis, out);
  }
};

/// kCount neighbouring outputs, whose windows have the same taps in the image. Each waits for its maximum so far from
/// tap to tap; several at once fill that time.
template <class T, class Place, bool kPlaces, int kCount>
HWY_INLINE void forward_columns(const Window& window, const T* from, T* to, Place* places) {
  const std::int64_t together = window.shape.together, step = window.shape.strides[2] * together;
  const std::int64_t ahead = window.shape.strides[1] * window.shape.in[2] * together;
  const Places first = hn::Set(I32(), static_cast<std::int32_t>(window.first_tap()));
  for_vectors(
      together, [&](std::int64_t i, auto count) __attribute__((always_inline)) {
        V best[kCount];
        Places place[kCount];
        unrolled<kCount>([&](auto j) __attribute__((always_inline)) {
          best[j] = constant(-kInfinity);
          place[j] = first;
        });
        window.walk([&](std::int64_t position, std::int64_t tap) __attribute__((always_inline)) {
          unrolled<kCount>([&](auto j) __attribute__((always_inline)) {
            const T* at = from + position * together + j * step + i;
            hwy::Prefetch(at + ahead);
            const V v = read(at, count);
            const auto stays = hn::Or(hn::Le(v, best[j]), hn::IsNaN(best[j]));  // false for the first NaN
            best[j] = hn::IfThenElse(stays, best[j], v);
            if constexpr (kPlaces)
              place[j] = hn::IfThenElse(hn::RebindMask(I32(), stays), place[j],
                                        hn::Set(I32(), static_cast<std::int32_t>(tap)));
          });
        });
        unrolled<kCount>([&](auto j) __attribute__((always_inline)) {
          write(best[j], to + j * together + i, count);
          if constexpr (kPlaces) write_places(place[j], places + j * together + i, count);
        });
      });
}

template <class T, class Place, bool kPlaces>
HWY_INLINE void forward_row(const MaxPoolShape& shape, const T* from, T* to, Place* places, std::int64_t row) {
  constexpr int kAtOnce = 4;
  Window window(shape, row / shape.out[1], row % shape.out[1]);
  for (std::int64_t column = 0; column < shape.out[2];) {
    const std::int64_t last = column + kAtOnce - 1, at = column * shape.together;
    Place* to_places = kPlaces ? places + at : nullptr;
    window.move_to(column);
    if (last < shape.out[2] && is_whole_row(shape, column) && is_whole_row(shape, last)) {
      forward_columns<T, Place, kPlaces, kAtOnce>(window, from, to + at, to_places);
      column += kAtOnce;
    } else {
      forward_columns<T, Place, kPlaces, 1>(window, from, to + at, to_places);
      ++column;
    }
  }
}

template <class T, class Place>
void forward(const MaxPoolShape& shape, const void* x, void* y, void* places, std::int64_t plane, std::int64_t row) {
  const std::int64_t first = (plane * shape.out[0] * shape.out[1] + row) * shape.out[2] * shape.together;
  const T* from = static_cast<const T*>(x) + plane * shape.in_count() * shape.together;
  T* to = static_cast<T*>(y) + first;
  if (places) return forward_row<T, Place, true>(shape, from, to, static_cast<Place*>(places) + first, row);
  forward_row<T, Place, false>(shape, from, to, nullptr, row);
}

template <class T, class Place, bool kOverlaps>
HWY_INLINE void gradient_of(const MaxPoolShape& shape, const T* dy, const Place* places, T* dx, std::int64_t channels) {
  const std::int64_t together = shape.together;
  if (kOverlaps || !shape.covers()) {
    for (std::int64_t k = 0; k < shape.in_count(); ++k)
      for_vectors(channels, [&](std::int64_t i, auto count) { write(constant(0), dx + k * together + i, count); });
  }
  std::int64_t at = 0;
  for (std::int64_t o0 = 0; o0 < shape.out[0]; ++o0) {
    for (std::int64_t o1 = 0; o1 < shape.out[1]; ++o1) {
      Window window(shape, o0, o1);
      for (std::int64_t o2 = 0; o2 < shape.out[2]; ++o2, at += together) {
        window.move_to(o2);
        for_vectors(channels, [&](std::int64_t i, auto count) {
          const V up = read(dy + at + i, count);
          const Places place = read_places(places + at + i, count);
          window.walk([&](std::int64_t position, std::int64_t tap) {
            T* to = dx + position * together + i;
            const auto hit = hn::Eq(place, hn::Set(I32(), static_cast<std::int32_t>(tap)));
            const V share = hn::IfThenElseZero(hn::RebindMask(F32(), hit), up);
            write(kOverlaps ? hn::Add(read(to, count), share) : share, to, count);
          });
        });
      }
    }
  }
}

template <class T, class Place>
void gradient(const MaxPoolShape& shape, const void* dy, const void* places, void* dx, std::int64_t plane,
              std::int64_t first, std::int64_t count) {
  const std::int64_t from = plane * shape.out_count() * shape.together + first;
  const T* up = static_cast<const T*>(dy) + from;
  const Place* place = static_cast<const Place*>(places) + from;
  T* to = static_cast<T*>(dx) + plane * shape.in_count() * shape.together + first;
  if (shape.overlaps()) return gradient_of<T, Place, true>(shape, up, place, to, count);
  gradient_of<T, Place, false>(shape, up, place, to, count);
}

MaxPoolKernel::Functions find(DType dtype, bool short_places) {
  MaxPoolKernel::Functions functions;
  functions.forward = by_type(dtype, [short_places]<class T>() {
    return short_places ? &forward<T, std::uint8_t> : &forward<T, std::int32_t>;
  });
  functions.gradient = by_type(dtype, [short_places]<class T>() {
    return short_places ? &gradient<T, std::uint8_t> : &gradient<T, std::int32_t>;
  });
  return functions;
}

}  // namespace
}  // namespace halfstep::simd::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace halfstep::simd {
HWY_EXPORT(find);

bool MaxPoolShape::overlaps() const {
  for (std::size_t axis = 0; axis < in.size(); ++axis)
    if (kernel[axis] > 1 && (dilations[axis] > 1 || strides[axis] < kernel[axis])) return true;
  return false;
}

bool MaxPoolShape::covers() const {
  for (std::size_t axis = 0; axis < in.size(); ++axis)
    if (strides[axis] > kernel[axis] || dilations[axis] > 1 ||
        (out[axis] - 1) * strides[axis] - pads[axis] + kernel[axis] < in[axis])
      return false;
  return true;
}

std::size_t MaxPoolKernel::places_bytes() const {
  const auto count = static_cast<std::size_t>(shape.planes * shape.out_count() * shape.together);
  return count * (shape.taps() <= kMostShortTaps ? 1 : sizeof(std::int32_t));
}

void MaxPoolKernel::forward(const void* x, void* y, void* places) const {
  const std::int64_t rows = shape.out[0] * shape.out[1];
  const std::int64_t elements = shape.planes * (shape.in_count() + shape.out_count()) * shape.together;
  parallel_for(shape.planes * rows, elements * static_cast<std::int64_t>(element_bytes), [&](std::int64_t i) {
    functions.forward(shape, x, y, places, rows ? i / rows : 0, rows ? i % rows : 0);
  });
}

void MaxPoolKernel::gradient(const void* dy, const void* places, void* dx) const {
  constexpr std::int64_t kWidth = 64;  // channels of a share
  const std::int64_t shares = blocks_of(shape.together, kWidth);
  const std::int64_t elements = shape.planes * (shape.in_count() + shape.out_count()) * shape.together;
  parallel_for(shape.planes * shares, elements * static_cast<std::int64_t>(element_bytes), [&](std::int64_t i) {
    const std::int64_t first = i % shares * kWidth;
    functions.gradient(shape, dy, places, dx, i / shares, first, std::min(kWidth, shape.together - first));
  });
}

MaxPoolKernel find_max_pool(const MaxPoolShape& shape, DType dtype) {
  return {HWY_DYNAMIC_DISPATCH(find)(dtype, shape.taps() <= kMostShortTaps), shape, bytes_of(dtype, 1)};
}

}  // namespace halfstep::simd
#endif
