#include <algorithm>
#include <cmath>
#include <vector>

#include "formats/image.h"

namespace halfstep {
namespace {

constexpr int kFractionBits = 22;

/// The pixels of an axis, with weights, that form one pixel of the resized axis.
struct Taps {
  std::int64_t first = 0;
  std::vector<std::int32_t> weights;  // in fixed point with kFractionBits, with sum 1
};

Taps taps_of(std::int64_t from, std::int64_t to, std::int64_t at) {
  const double scale = static_cast<double>(from) / static_cast<double>(to), support = std::max(scale, 1.0),
               center = (static_cast<double>(at) + 0.5) * scale;
  const auto first = std::max<std::int64_t>(static_cast<std::int64_t>(center - support + 0.5), 0);
  const auto last = std::min<std::int64_t>(static_cast<std::int64_t>(center + support + 0.5), from);
  std::vector<double> weights;
  double sum = 0;
  for (std::int64_t i = first; i < last; ++i) {
    const double distance = std::fabs((static_cast<double>(i) - center + 0.5) * (1.0 / support));
    weights.push_back(distance < 1 ? 1 - distance : 0);
    sum += weights.back();
  }
  Taps taps{first, {}};
  for (const double weight : weights)
    taps.weights.push_back(static_cast<std::int32_t>(0.5 + weight / sum * (1 << kFractionBits)));
  return taps;
}

std::vector<Taps> all_taps(std::int64_t from, std::int64_t to, std::int64_t begin, std::int64_t count) {
  std::vector<Taps> taps;
  taps.reserve(static_cast<std::size_t>(count));
  for (std::int64_t i = 0; i < count; ++i) taps.push_back(taps_of(from, to, begin + i));
  return taps;
}

/// The weighted sum over taps `step` bytes apart, starting at `at`.
std::uint8_t weighted(const Taps& taps, const std::uint8_t* at, std::int64_t step) {
  std::int32_t sum = 1 << (kFractionBits - 1);
  for (const std::int32_t weight : taps.weights) {
    sum += weight * *at;
    at += step;
  }
  return static_cast<std::uint8_t>(std::clamp(sum >> kFractionBits, 0, 255));
}

void flip_rows(std::uint8_t* pixels, std::int64_t height, std::int64_t width, std::int64_t channels) {
  for (std::int64_t y = 0; y < height; ++y, pixels += width * channels)
    for (std::int64_t left = 0, right = width - 1; left < right; ++left, --right)
      std::swap_ranges(pixels + left * channels, pixels + (left + 1) * channels, pixels + right * channels);
}

}  // namespace

void resize_and_cut(const Image& image, const Cut& cut, std::uint8_t* out) {
  const std::int64_t channels = image.channels, row = cut.width * channels;
  const std::vector<Taps> columns = all_taps(image.width, cut.resized_width, cut.left, cut.width),
                          rows = all_taps(image.height, cut.resized_height, cut.top, cut.height);
  // First horizontally, only for the rows that the part depends on.
  const std::int64_t first = rows.front().first;
  const std::int64_t last = rows.back().first + static_cast<std::int64_t>(rows.back().weights.size());
  std::vector<std::uint8_t> narrow(static_cast<std::size_t>((last - first) * row));
  for (std::int64_t y = first; y < last; ++y)
    for (std::int64_t x = 0; x < cut.width; ++x) {
      const Taps& taps = columns[x];
      const std::uint8_t* from = image.pixels.data() + (y * image.width + taps.first) * channels;
      std::uint8_t* to = narrow.data() + (y - first) * row + x * channels;
      for (std::int64_t c = 0; c < channels; ++c) to[c] = weighted(taps, from + c, channels);
    }
  for (std::int64_t y = 0; y < cut.height; ++y) {
    const Taps& taps = rows[y];
    const std::uint8_t* from = narrow.data() + (taps.first - first) * row;
    for (std::int64_t i = 0; i < row; ++i) out[y * row + i] = weighted(taps, from + i, row);
  }
  if (cut.flipped) flip_rows(out, cut.height, cut.width, channels);
}

}  // namespace halfstep
