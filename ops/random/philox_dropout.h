// The random numbers of PhiloxDropout, defined once for all executors.
#pragma once

#include <cstdint>

#include "base/philox.h"

namespace halfstep::ops {

/// The parameters that determine which elements one application of PhiloxDropout keeps.
struct DropoutStream {
  std::uint64_t seed = 0;     ///< of the training run
  std::uint32_t stream = 0;   ///< distinguishes the dropout nodes of a model
  std::uint64_t counter = 0;  ///< number of the step

  /// Four uniform numbers in [0, 1) for elements 4 * block to 4 * block + 3; an element is kept if its number is at
  /// least the dropout ratio. Periodic after 2^34 elements.
  std::array<float, 4> uniforms(std::uint64_t block) const {
    const PhiloxCounter bits = philox4x32_10({static_cast<std::uint32_t>(block), static_cast<std::uint32_t>(counter),
                                              static_cast<std::uint32_t>(counter >> 32), stream},
                                             philox_key(seed));
    return {uniform_float(bits[0]), uniform_float(bits[1]), uniform_float(bits[2]), uniform_float(bits[3])};
  }
};

}  // namespace halfstep::ops
