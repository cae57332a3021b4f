#include "executors/cudnn/device_time.h"

#include <algorithm>
#include <cmath>
#include <string>

#include "executors/cudnn/captured_steps.h"
#include "executors/cudnn/pending_failure.h"
#include "executors/cudnn/resources.h"

namespace halfstep::cudnn {
namespace {

constexpr int kRounds = 3;
constexpr int kMostCalls = 10;     // of a graph, whose launch takes some microseconds
constexpr double kWorth = 500e-6;  // seconds of a graph that are enough
constexpr double kSlower = 1.5;    // than the fastest: not worth another round

Event make_timing_event() {
  cudaEvent_t e = nullptr;
  check(cudaEventCreate(&e), "cudaEventCreate");
  return Event(e);
}

class Clock {
 public:
  explicit Clock(cudaStream_t stream) : stream_(stream), begin_(make_timing_event()), end_(make_timing_event()) {}

  /// Nothing where the work, or anything before it, failed.
  std::optional<double> seconds(const Attempt& work) const {
    const bool is_done = cudaEventRecord(begin_.get(), stream_) == cudaSuccess && work() &&
                         cudaEventRecord(end_.get(), stream_) == cudaSuccess;
    float milliseconds = 0;
    if (cudaStreamSynchronize(stream_) == cudaSuccess && is_done &&
        cudaEventElapsedTime(&milliseconds, begin_.get(), end_.get()) == cudaSuccess)
      return milliseconds * 1e-3;
    forget_failure();
    return std::nullopt;
  }

 private:
  cudaStream_t stream_;
  Event begin_, end_;
};

/// One of those that are timed.
struct Runner {
  const Attempt& once;
  int calls = 1;
  GraphExec graph = {};
  std::optional<double> least = {};

  bool several() const {
    for (int i = 0; i < calls; ++i)
      if (!once()) return false;
    return true;
  }
  /// After a first call, which lets libraries load what they need.
  void prepare(const Clock& clock, cudaStream_t stream) {
    if (!once || !clock.seconds(once)) return;
    least = clock.seconds(once);
    if (!least) return;
    calls = static_cast<int>(std::clamp(std::ceil(kWorth / std::max(*least, 1e-9)), 1.0, double{kMostCalls}));
    bool is_whole = true;
    std::string refusal;
    graph = capture(
        stream, [&] { is_whole = several(); }, refusal);
    if (!is_whole) graph = {};
  }
  void time(const Clock& clock, cudaStream_t stream) {
    const std::optional<double> all =
        clock.seconds([&] { return graph ? cudaGraphLaunch(graph.get(), stream) == cudaSuccess : several(); });
    least = all ? std::optional(std::min(*least, *all / calls)) : std::nullopt;
  }
};

}  // namespace

std::vector<std::optional<double>> seconds_of(const std::vector<Attempt>& attempts, cudaStream_t stream) {
  const Clock clock(stream);
  std::vector<Runner> runners;
  runners.reserve(attempts.size());
  for (const Attempt& attempt : attempts) runners.push_back({attempt});
  for (Runner& runner : runners) runner.prepare(clock, stream);
  for (int round = 0; round < kRounds; ++round) {
    double best = INFINITY;
    for (const Runner& runner : runners) best = std::min(best, runner.least.value_or(best));
    for (Runner& runner : runners)
      if (runner.least && *runner.least <= kSlower * best) runner.time(clock, stream);
  }
  std::vector<std::optional<double>> seconds;
  seconds.reserve(runners.size());
  for (const Runner& runner : runners) seconds.push_back(runner.least);
  return seconds;
}

}  // namespace halfstep::cudnn
