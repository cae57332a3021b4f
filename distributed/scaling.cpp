#include "distributed/scaling.h"

#include <algorithm>
#include <limits>
#include <numeric>

namespace halfstep {

double ring_all_reduce_seconds(const RingLink& link, int ranks, double bytes) {
  const double messages = 2.0 * (ranks - 1);
  return messages * (link.latency + (link.bandwidth > 0 ? bytes / ranks / link.bandwidth : 0));
}

// Each time is messages * latency + volume / bandwidth: two unknowns, latency and 1 / bandwidth, of which neither is
// negative. Relative errors: divided by the time, so that small sums count as much as large ones.
RingLink fitted_link(std::span<const AllReduceTime> times, int ranks) {
  double aa = 0, ab = 0, bb = 0, a1 = 0, b1 = 0;
  for (const AllReduceTime& time : times) {
    const double messages = 2.0 * (ranks - 1) / time.seconds;
    const double volume = messages * static_cast<double>(time.bytes) / ranks;
    aa += messages * messages;
    ab += messages * volume;
    bb += volume * volume;
    a1 += messages;
    b1 += volume;
  }
  const double determinant = aa * bb - ab * ab;
  double latency = determinant > 0 ? (a1 * bb - b1 * ab) / determinant : 0;
  double inverse = determinant > 0 ? (b1 * aa - a1 * ab) / determinant : 0;
  if (latency < 0 || determinant <= 0) {
    latency = 0;
    inverse = bb > 0 ? b1 / bb : 0;
  } else if (inverse < 0) {
    inverse = 0;
    latency = aa > 0 ? a1 / aa : 0;
  }
  return {latency, inverse > 0 ? 1 / inverse : std::numeric_limits<double>::infinity()};
}

ScaledStep scaled_step(const StepShape& shape, const RingLink& link, int ranks) {
  const double all = static_cast<double>(std::accumulate(shape.buckets.begin(), shape.buckets.end(), std::size_t{0}));
  ScaledStep result{.step = 0, .compute = shape.forward + shape.backward + shape.update, .communication = 0};
  double seen = 0, done = 0;
  for (const std::size_t bytes : shape.buckets) {
    seen += static_cast<double>(bytes);
    const double ready = shape.forward + shape.backward * (all > 0 ? seen / all : 1);
    const double time = ring_all_reduce_seconds(link, ranks, static_cast<double>(bytes));
    result.communication += time;
    done = std::max(done, ready) + time;
  }
  result.step = std::max(shape.forward + shape.backward, done) + shape.update;
  return result;
}

}  // namespace halfstep
