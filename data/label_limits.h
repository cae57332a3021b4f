// Which numbers may be labels and sample weights, in files and in arrays.
#pragma once

namespace halfstep {

/// Sums of losses with such weights stay finite in f32, with a margin.
inline constexpr float kMostSampleWeight = 1e30f;

/// Without branches, for loops over many.
inline bool is_sample_weight(float weight) { return (weight >= 0) & (weight <= kMostSampleWeight); }
template <class T>
bool is_probability(T label) {
  return (label >= T(0)) & (label <= T(1));
}

}  // namespace halfstep
