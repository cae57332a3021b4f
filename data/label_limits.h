// Which numbers may be labels and sample weights, in files and in arrays.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include <fmt/format.h>

namespace halfstep {

/// Sums of losses with such weights stay finite in f32, with a margin.
inline constexpr float kMostSampleWeight = 1e30f;

/// Without branches, for loops over many.
inline bool is_sample_weight(float weight) { return (weight >= 0) & (weight <= kMostSampleWeight); }
template <class T>
bool is_probability(T label) {
  return (label >= T(0)) & (label <= T(1));
}

// For errors: what numbers have to be.

inline std::string required_weights() { return fmt::format("sample weights from 0 to {:g}", kMostSampleWeight); }
/// `ignored`: the label of elements that are left out.
inline std::string required_probabilities(std::optional<std::int64_t> ignored) {
  return fmt::format("labels from 0 to 1{}", ignored ? fmt::format(", or {} for ignored elements", *ignored) : "");
}

}  // namespace halfstep
