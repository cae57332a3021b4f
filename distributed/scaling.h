// How the time of a training step grows with the number of ranks, by a model of a few numbers.
#pragma once

#include <cstddef>
#include <span>
#include <vector>

#include <halfstep/base/api.h>

namespace HALFSTEP_API halfstep {

/// What an all-reduce took on some ranks.
struct AllReduceTime {
  std::size_t bytes = 0;
  double seconds = 0;
};

/// A link between neighbours in a ring: a message of `bytes` takes latency + bytes / bandwidth.
struct RingLink {
  double latency = 0;    ///< seconds
  double bandwidth = 0;  ///< bytes per second
};

/// A ring all-reduce takes 2 (n - 1) messages of 1/n of the bytes, one after the other; on one rank none.
double ring_all_reduce_seconds(const RingLink& link, int ranks, double bytes);

/// The link that explains the times on so many ranks, at least two: those of the smallest sums give the latency, and
/// the larger ones the bandwidth, by least squares of relative errors.
RingLink fitted_link(std::span<const AllReduceTime> times, int ranks);

/// A step of one rank, of whose gradients some are there before others.
struct StepShape {
  double forward = 0, backward = 0, update = 0;  ///< seconds by itself
  std::vector<std::size_t> buckets = {};         ///< bytes, in the order of the backward pass
};

struct ScaledStep {
  double step = 0, compute = 0, communication = 0;  ///< seconds; the last two by themselves
};

/// With as many rows on each rank. A bucket's gradients are there when its part of all bytes is of the backward pass;
/// it is reduced when those before it are, beside the rest of the pass; the update waits for all.
ScaledStep scaled_step(const StepShape& shape, const RingLink& link, int ranks);

}  // namespace halfstep
