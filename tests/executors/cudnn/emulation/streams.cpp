#include "tests/executors/cudnn/emulation/streams.h"

#include <algorithm>
#include <utility>

#include "tests/executors/cudnn/emulation/emulation.h"

namespace emulation {
namespace {

struct Streams {
  CUstream_st legacy;
  std::vector<cudaStream_t> all = {&legacy};
};
Streams& streams() {
  static Streams s;
  return s;
}

bool is_done(const Position& p) {
  const auto& all = streams().all;
  return std::ranges::find(all, p.stream) == all.end() ||
         p.stream->done >= p.done;  // a stream that is gone was drained
}

bool is_ready(cudaStream_t stream) {
  if (stream->queue.empty()) return false;
  const CUstream_st::Item& next = stream->queue.front();
  return std::ranges::all_of(next.after, is_done) && (!next.may_run || next.may_run());
}

void run_next(cudaStream_t stream) {
  const Work work = std::move(stream->queue.front().work);
  stream->queue.pop_front();
  ++stream->done;
  work();  // may throw
}

/// One piece of work that brings the position nearer. False where that waits for what is in no stream.
bool advance(const Position& position) {
  cudaStream_t stream = position.stream;
  while (!is_ready(stream)) {
    const auto& after = stream->queue.front().after;
    const auto before = std::ranges::find_if_not(after, is_done);
    if (before == after.end()) return false;
    stream = before->stream;
  }
  run_next(stream);
  return true;
}

/// Whatever is ready, with a chance of one half, again and again.
void run_by_chance() {
  if (machine().seed == 0) return;
  while (draw() % 2) {
    std::vector<cudaStream_t> ready;
    std::ranges::copy_if(streams().all, std::back_inserter(ready), is_ready);
    if (ready.empty()) return;
    run_next(ready[draw() % ready.size()]);
  }
}

}  // namespace

cudaStream_t stream_of(cudaStream_t handle) {
  return handle == nullptr || handle == cudaStreamLegacy ? &streams().legacy : handle;
}

void enqueue(cudaStream_t stream, Work work, std::vector<Position> after, std::function<bool()> may_run) {
  cudaStream_t legacy = &streams().legacy;
  if (stream == legacy) {
    for (cudaStream_t other : streams().all)
      if (other != legacy && other->is_blocking) after.push_back({other, other->given()});
  } else if (stream->is_blocking) {
    after.push_back({legacy, legacy->given()});
  }
  stream->queue.push_back({std::move(work), std::move(after), std::move(may_run)});
  run_by_chance();
}

void run_until(Position position) {
  run_by_chance();
  while (!is_done(position)) {
    if (!advance(position)) return refuse("the host waits for work that waits for another rank");
    run_by_chance();
  }
}

bool run_towards(Position position) {
  run_by_chance();
  if (!is_done(position)) advance(position);
  return is_done(position);
}

void run_all() {
  for (std::size_t i = 0; i < streams().all.size(); ++i) {
    cudaStream_t stream = streams().all[i];
    if (stream->owner == std::this_thread::get_id() || stream == &streams().legacy) run_until_idle(stream);
  }
}

void add_stream(cudaStream_t stream) { streams().all.push_back(stream); }
void remove_stream(cudaStream_t stream) { std::erase(streams().all, stream); }

}  // namespace emulation
