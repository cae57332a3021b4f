// How tensors lie that the libraries take: row-major, or with the channels beside each other.
#pragma once

#include <cstdint>
#include <vector>

namespace emulation {

/// Steps of the axes from the fastest on are the extents' products, in one of the two orders; axes of one element may
/// have any step.
inline bool is_dense(const std::vector<std::int64_t>& dims, const std::vector<std::int64_t>& strides,
                     bool channels_last) {
  std::int64_t step = 1;
  const auto fits = [&](std::size_t axis) {
    const bool is_right = dims[axis] == 1 || strides[axis] == step;
    step *= dims[axis];
    return is_right;
  };
  bool all = !channels_last || fits(1);
  for (std::size_t axis = dims.size(); axis-- > 0;)
    if (!(channels_last && axis == 1)) all = fits(axis) && all;
  return all;
}
inline bool is_known_order(const std::vector<std::int64_t>& dims, const std::vector<std::int64_t>& strides) {
  return is_dense(dims, strides, false) || is_dense(dims, strides, true);
}

/// Where row-major element i lies.
inline std::int64_t place(const std::vector<std::int64_t>& dims, const std::vector<std::int64_t>& strides,
                          std::int64_t i) {
  std::int64_t at = 0;
  for (std::size_t axis = dims.size(); axis-- > 0;) {
    at += i % dims[axis] * strides[axis];
    i /= dims[axis];
  }
  return at;
}

}  // namespace emulation
