// The CUDA runtime: streams, events and graphs.
#include <memory>
#include <mutex>
#include <thread>
#include <utility>
#include <vector>

#include <cuda_runtime_api.h>

#include "tests/executors/cudnn/emulation/cudart_state.h"
#include "tests/executors/cudnn/emulation/streams.h"

struct CUgraph_st {
  std::vector<Work> work;
};
struct CUgraphExec_st {
  std::vector<Work> work;
};

using namespace emulation;

extern "C" {

cudaError_t cudaStreamCreateWithFlags(cudaStream_t* stream, unsigned flags) {
  const Entered entered;
  *stream = new CUstream_st;
  (*stream)->is_blocking = (flags & cudaStreamNonBlocking) == 0;
  (*stream)->device = this_device();
  add_stream(*stream);
  count_object(1);
  return cudaSuccess;
}
cudaError_t cudaStreamDestroy(cudaStream_t stream) {
  const Entered entered;
  run_until_idle(stream);
  remove_stream(stream);
  delete stream;
  count_object(-1);
  return cudaSuccess;
}
cudaError_t cudaStreamSynchronize(cudaStream_t stream) {
  const Entered entered;
  stream = stream_of(stream);
  if (stream->capturing) {
    refuse("a stream is waited for while it is captured");
    return fail(cudaErrorStreamCaptureUnsupported);
  }
  ++state().calls.waits;
  run_until_idle(stream);
  return cudaSuccess;
}
cudaError_t cudaDeviceSynchronize() {
  const Entered entered;
  if (is_unsafe_in_capture()) return fail(cudaErrorStreamCaptureUnsupported);
  ++state().calls.waits;
  run_all();
  return cudaSuccess;
}

cudaError_t cudaEventCreateWithFlags(cudaEvent_t* event, unsigned) {
  const Entered entered;
  *event = new CUevent_st{.device = this_device()};
  count_object(1);
  return cudaSuccess;
}
cudaError_t cudaEventCreate(cudaEvent_t* event) {
  const cudaError_t status = cudaEventCreateWithFlags(event, cudaEventDefault);
  (*event)->reached = std::make_shared<double>(0);
  return status;
}
cudaError_t cudaEventElapsedTime(float* milliseconds, cudaEvent_t begin, cudaEvent_t end) {
  const Entered entered;
  if (!begin->reached || !end->reached) return fail(cudaErrorInvalidResourceHandle);
  for (const cudaEvent_t event : {begin, end})
    if (!event->recorded.stream || event->recorded.stream->done < event->recorded.done)
      return state().latest = cudaErrorNotReady;
  *milliseconds = static_cast<float>(*end->reached - *begin->reached);
  return cudaSuccess;
}
cudaError_t cudaEventDestroy(cudaEvent_t event) {
  const Entered entered;
  delete event;
  count_object(-1);
  return cudaSuccess;
}
cudaError_t cudaEventRecord(cudaEvent_t event, cudaStream_t stream) {
  const Entered entered;
  stream = stream_of(stream);
  if (stream->capturing) {
    refuse("an event is recorded in a stream that is captured");
    return fail(cudaErrorStreamCaptureUnsupported);
  }
  if (event->device != stream->device) refuse("an event is recorded in a stream of another device");
  if (event->reached) enqueue(stream, [at = event->reached] { *at = state().clock; });
  event->recorded = {stream, stream->given()};
  return cudaSuccess;
}
cudaError_t cudaEventSynchronize(cudaEvent_t event) {
  const Entered entered;
  if (is_unsafe_in_capture()) return fail(cudaErrorStreamCaptureUnsupported);
  ++state().calls.waits;
  if (event->recorded.stream) run_until(event->recorded);
  return cudaSuccess;
}
cudaError_t cudaEventQuery(cudaEvent_t event) {
  const Entered entered;
  if (is_unsafe_in_capture()) return fail(cudaErrorStreamCaptureUnsupported);
  if (!event->recorded.stream || run_towards(event->recorded)) return cudaSuccess;
  return state().latest = cudaErrorNotReady;
}
cudaError_t cudaStreamWaitEvent(cudaStream_t stream, cudaEvent_t event, unsigned) {
  const Entered entered;
  if (stream_of(stream)->capturing) {
    refuse("a stream that is captured waits for what is not");
    return fail(cudaErrorStreamCaptureIsolation);
  }
  const bool is_ignored = (machine().ignored_waits >> (state().stream_waits++ % 2) & 1U) != 0;
  if (event->recorded.stream && !is_ignored) enqueue(stream_of(stream), [] {}, {event->recorded});
  return cudaSuccess;
}

cudaError_t cudaStreamBeginCapture(cudaStream_t stream, cudaStreamCaptureMode) {
  std::unique_lock lock(mutex());
  if (!machine().can_capture) return fail(cudaErrorStreamCaptureUnsupported);
  stream->capturing = true;
  ++captures();
  stream->capturer = std::this_thread::get_id();
  ++state().capturing;
  lock.unlock();
  if (machine().at_capture) machine().at_capture();
  return cudaSuccess;
}
cudaError_t cudaStreamEndCapture(cudaStream_t stream, cudaGraph_t* graph) {
  const Entered entered;
  stream->capturing = false;
  --captures();
  --state().capturing;
  std::vector<Work> work = std::exchange(stream->captured, {});
  *graph = nullptr;
  const bool is_broken = std::exchange(state().is_capture_broken, false);
  if (is_broken || fails("cudaStreamEndCapture")) return fail(cudaErrorStreamCaptureInvalidated);
  *graph = new CUgraph_st{std::move(work)};
  count_object(1);
  return cudaSuccess;
}
cudaError_t cudaGraphInstantiate(cudaGraphExec_t* exec, cudaGraph_t graph, unsigned long long) {
  const Entered entered;
  *exec = new CUgraphExec_st{graph->work};
  count_object(1);
  return cudaSuccess;
}
cudaError_t cudaGraphLaunch(cudaGraphExec_t exec, cudaStream_t stream) {
  const Entered entered;
  ++state().calls.graphs;
  for (const Work& work : exec->work) submit(stream, work);
  return cudaSuccess;
}
cudaError_t cudaGraphDestroy(cudaGraph_t graph) {
  const Entered entered;
  delete graph;
  count_object(-1);
  return cudaSuccess;
}
cudaError_t cudaGraphExecDestroy(cudaGraphExec_t exec) {
  const Entered entered;
  delete exec;
  count_object(-1);
  return cudaSuccess;
}
}
