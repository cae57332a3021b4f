#include "executors/cudnn/device.h"

#include <cstring>

#include <halfstep/base/error.h>

namespace halfstep::cudnn {
namespace {

using core::Run;
using core::Space;

cudaMemcpyKind direction(Space from, Space to) {
  if (from == to) return from == Space::host ? cudaMemcpyHostToHost : cudaMemcpyDeviceToDevice;
  return from == Space::host ? cudaMemcpyHostToDevice : cudaMemcpyDeviceToHost;
}

/// The steps as one CUDA graph, captured behind the first run.
class CapturedSteps {
 public:
  CapturedSteps(const std::vector<Run>& steps, cudaStream_t stream, std::vector<std::string>& notes)
      : steps_(steps), stream_(stream), notes_(notes) {}

  void operator()() {
    if (captured_) return check(cudaGraphLaunch(captured_.get(), stream_), "cudaGraphLaunch");
    enqueue();
    if (tried_) return;
    check(cudaStreamSynchronize(stream_), "cudaStreamSynchronize");
    tried_ = true;
    capture();
  }

 private:
  void enqueue() const {
    for (const Run& step : steps_) step();
  }
  void give_up(const char* call, const std::string& why) {
    cudaGetLastError();  // what went wrong here must not be taken for an error of the next call
    notes_.push_back("the step is launched kernel by kernel: " + std::string(call) + " gave " + why);
  }
  void capture() {
    cudaError_t status = cudaStreamBeginCapture(stream_, cudaStreamCaptureModeThreadLocal);
    if (status != cudaSuccess) return give_up("cudaStreamBeginCapture", text_of(status));
    std::string failed;
    try {
      enqueue();
    } catch (const Error& e) {
      failed = e.found();
    }
    cudaGraph_t graph = nullptr;
    status = cudaStreamEndCapture(stream_, &graph);  // ends the capture even when a call in it failed
    const CapturedGraph owned(graph);
    if (!failed.empty()) return give_up("a call under capture", failed);
    if (status != cudaSuccess) return give_up("cudaStreamEndCapture", text_of(status));
    cudaGraphExec_t exec = nullptr;
    status = cudaGraphInstantiate(&exec, graph, 0);
    if (status != cudaSuccess) return give_up("cudaGraphInstantiate", text_of(status));
    captured_ = GraphExec(exec);
    notes_.emplace_back("the step is one launch of a captured CUDA graph");
  }

  const std::vector<Run>& steps_;
  cudaStream_t stream_;
  std::vector<std::string>& notes_;
  GraphExec captured_;
  bool tried_ = false;
};

}  // namespace

bool GpuDevice::holds(DType t) const {
  return t == DType::f32 || t == DType::f16 || t == DType::bf16 || t == DType::i32 || t == DType::i64 ||
         t == DType::boolean;
}

std::shared_ptr<void> GpuDevice::allocate(std::size_t bytes, Space space) {
  if (space == Space::device) {
    auto memory = std::make_shared<DeviceBuffer>(bytes, libraries_.stream.get());
    void* data = memory->get();
    return {std::move(memory), data};
  }
  auto memory = std::make_shared<PinnedPointer>(make_pinned(bytes));
  void* data = memory->get();
  std::memset(data, 0, bytes);
  return {std::move(memory), data};
}

void GpuDevice::move(DType dtype, const Shape& shape, const core::Stored& from, const core::Stored& to) {
  const std::size_t bytes = bytes_of(dtype, static_cast<std::size_t>(shape.count()));
  if (bytes == 0) return;
  check(cudaMemcpyAsync(to.data, from.data, bytes, direction(from.space, to.space), libraries_.stream.get()),
        "cudaMemcpyAsync");
  wait();
}

core::Made GpuDevice::convert(const core::Operand& from, const core::Operand& to, const core::TakeScratch&) {
  if (from.layout != to.layout || from.dtype != to.dtype)
    throw_failure("kernels that read values as they are", "one that asks for another type or layout", "report it");
  return {"cuda: copy", {}, [=, stream = libraries_.stream.get()](const core::Memory& memory) -> Run {
            return [=, source = memory.at(from), target = memory.at(to), bytes = from.bytes(),
                    kind = direction(from.space, to.space)] {
              check(cudaMemcpyAsync(target, source, bytes, kind, stream), "cudaMemcpyAsync");
            };
          }};
}

void GpuDevice::wait() { check(cudaStreamSynchronize(libraries_.stream.get()), "cudaStreamSynchronize"); }

void GpuDevice::within(const std::function<void()>& work) {
  check(cudaSetDevice(libraries_.device), "cudaSetDevice");
  work();
}

Run GpuDevice::sequence(const std::vector<Run>& steps, bool on_device, std::vector<std::string>& notes) {
  if (on_device)
    return [captured = std::make_shared<CapturedSteps>(steps, libraries_.stream.get(), notes)] { (*captured)(); };
  notes.emplace_back("some nodes run in reference kernels on the host: the step is not captured as a CUDA graph");
  return Device::sequence(steps, on_device, notes);
}

}  // namespace halfstep::cudnn
