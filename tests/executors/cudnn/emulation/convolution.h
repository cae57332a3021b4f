// A convolution as loops, for the calls that compute one.
#pragma once

#include <cstdint>

#include "ops/convolution/window.h"

namespace emulation {

/// One whose operands fit.
struct Convolution {
  halfstep::ops::Window w;
  std::int64_t batch, filters, channels, group_channels, group;
};

/// Calls f(x offset, w offset, y offset) for every product of the convolution.
template <class F>
void for_each_product(const Convolution& c, F&& f) {
  const std::int64_t in = c.w.input_count(), out = c.w.output_count(), taps = c.w.kernel_count(),
                     per_group = c.filters / c.group;
  for (std::int64_t n = 0; n < c.batch; ++n)
    for (std::int64_t m = 0; m < c.filters; ++m)
      for (std::int64_t g = 0; g < c.group_channels; ++g) {
        const std::int64_t channel = m / per_group * c.group_channels + g;
        halfstep::ops::for_each_output(c.w, [&](std::int64_t o, std::int64_t o0, std::int64_t o1, std::int64_t o2) {
          std::int64_t tap = 0;
          for (std::int64_t k0 = 0; k0 < c.w.kernel[0]; ++k0)
            for (std::int64_t k1 = 0; k1 < c.w.kernel[1]; ++k1)
              for (std::int64_t k2 = 0; k2 < c.w.kernel[2]; ++k2, ++tap) {
                const std::int64_t i0 = c.w.position(0, o0, k0), i1 = c.w.position(1, o1, k1),
                                   i2 = c.w.position(2, o2, k2);
                if (i0 < 0 || i0 >= c.w.input[0] || i1 < 0 || i1 >= c.w.input[1] || i2 < 0 || i2 >= c.w.input[2])
                  continue;
                f((n * c.channels + channel) * in + (i0 * c.w.input[1] + i1) * c.w.input[2] + i2,
                  (m * c.group_channels + g) * taps + tap, (n * c.filters + m) * out + o);
              }
        });
      }
}

}  // namespace emulation
