// The drivers of launch.h as loops on the host: the same functors, and for rows the same order of operations as on the
// device.
#pragma once

#include <algorithm>
#include <array>

#include "executors/cudnn/kernels/reduction.h"

namespace halfstep::cudnn {

template <class F>
void elements_on_host(const F& f, std::int64_t count) {
  for (std::int64_t i = 0; i < count; ++i) f(i);
}

template <class F>
void rows_on_host(const F& f) {
  const int lanes = lanes_of(f.length);
  std::array<typename F::Accumulator, kMaxLanes> gathered;
  for (std::int64_t row = 0; row < f.rows; ++row) {
    std::fill(gathered.begin(), gathered.end(), f.identity());
    for (std::int64_t i = 0; i < f.length; ++i) f.add(gathered[static_cast<std::size_t>(i % lanes)], row, i);
    for (int half = lanes / 2; half > 0; half /= 2)
      for (int lane = 0; lane < half; ++lane)
        f.combine(gathered[static_cast<std::size_t>(lane)], gathered[static_cast<std::size_t>(lane + half)]);
    if constexpr (F::kWrites)
      for (std::int64_t i = 0; i < f.length; ++i) f.write(row, i, gathered[0]);
    f.finish(row, gathered[0]);
  }
}

}  // namespace halfstep::cudnn
