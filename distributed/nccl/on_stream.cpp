#include "distributed/nccl/on_stream.h"

#include <cstddef>
#include <functional>
#include <utility>

namespace halfstep::nccl {

StreamOperation::StreamOperation(Group& group, cudaStream_t stream) : group_(group), stream_(stream) {
  group_.enter();
  group_.check(group_.api().create_event(&ready_), "cudaEventCreateWithFlags");
  const cudaError_t second = group_.api().create_event(&done_);
  if (second != cudaSuccess) group_.api().destroy_event(ready_);
  group_.check(second, "cudaEventCreateWithFlags");
}

StreamOperation::~StreamOperation() {
  group_.remove(done_);
  group_.api().destroy_event(ready_);
  group_.api().destroy_event(done_);
}

Group::Crossing StreamOperation::begin() {
  group_.enter();
  group_.await(done_);
  const Api& api = group_.api();
  const Group::Crossing crossing{.ready = ready_, .done = done_, .operation = group_.count()};
  group_.check(api.record(ready_, stream_), "cudaEventRecord");
  group_.check(api.stream_wait(group_.stream(), ready_), "cudaStreamWaitEvent");
  return crossing;
}

void StreamOperation::end(const Group::Crossing& crossing) {
  group_.check(group_.api().record(done_, group_.stream()), "cudaEventRecord");
  group_.add(crossing);
}

void StreamOperation::wait() {
  group_.enter();
  group_.check(group_.api().stream_wait(stream_, done_), "cudaStreamWaitEvent");
}

class OnStream::Made final : public AllReduce {
 public:
  Made(Group& group, cudaStream_t stream, std::function<ncclResult_t()> call)
      : operation_(group, stream), call_(std::move(call)) {}

 private:
  void do_start() override { operation_.start(call_, "ncclAllReduce"); }
  void do_wait() override { operation_.wait(); }

  StreamOperation operation_;
  std::function<ncclResult_t()> call_;
};

OnStream::OnStream(Group& group, cudaStream_t stream) : group_(group), stream_(stream) {
  constexpr int kGatherings = 8;  // under way at once
  for (int i = 0; i < kGatherings; ++i) gatherings_.emplace_back(group, stream);
  group_.check(group_.api().create_event(&end_), "cudaEventCreateWithFlags");
}

OnStream::~OnStream() { group_.api().destroy_event(end_); }

std::unique_ptr<AllReduce> OnStream::make_all_reduce(void* data, std::size_t count, DType dtype, Reduction reduction) {
  return std::make_unique<Made>(
      group_, stream_, [&group = group_, data, count, type = type_of(dtype), operation = operation_of(reduction)] {
        return group.api().all_reduce(data, data, count, type, operation, group.communicator(), group.stream());
      });
}

void OnStream::all_gather(const void* from, void* to, std::size_t bytes) {
  StreamOperation& gathering = gatherings_[next_++ % gatherings_.size()];
  gathering.start(
      [&] { return group_.api().all_gather(from, to, bytes, ncclUint8, group_.communicator(), group_.stream()); },
      "ncclAllGather");
  gathering.wait();
}

void OnStream::synchronize() {
  group_.enter();
  group_.check(group_.api().record(end_, stream_), "cudaEventRecord");
  group_.wait_behind_crossings(end_);
}

}  // namespace halfstep::nccl
