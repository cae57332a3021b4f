#include "executors/cudnn/device.h"

#include <cstdlib>
#include <cstring>
#include <exception>
#include <string_view>
#include <vector>

#include "executors/cudnn/reorder.h"
#include <halfstep/base/error.h>

namespace halfstep::cudnn {
namespace {

using core::Run;
using core::Space;

cudaMemcpyKind direction(Space from, Space to) {
  if (from == to) return from == Space::host ? cudaMemcpyHostToHost : cudaMemcpyDeviceToDevice;
  return from == Space::host ? cudaMemcpyHostToDevice : cudaMemcpyDeviceToHost;
}

std::string message_of(const std::exception_ptr& thrown) {
  try {
    std::rethrow_exception(thrown);
  } catch (const Error& e) {
    return e.found();
  } catch (const std::exception& e) {
    return e.what();
  } catch (...) {
    return "an exception";
  }
}

/// The steps as one CUDA graph, captured behind the first run.
class CapturedSteps {
 public:
  CapturedSteps(const std::vector<Run>& steps, cudaStream_t stream, std::vector<std::string>& notes)
      : steps_(steps), stream_(stream), notes_(notes) {
    const char* wanted = std::getenv("HALFSTEP_CUDA_GRAPHS");
    if (!wanted || std::string_view(wanted) != "0") return;
    tried_ = true;
    notes_.emplace_back("the step is launched kernel by kernel: HALFSTEP_CUDA_GRAPHS is 0");
  }

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
    std::exception_ptr failed;
    try {
      enqueue();
    } catch (...) {  // whatever it is: the stream must not be left capturing
      failed = std::current_exception();
    }
    cudaGraph_t graph = nullptr;
    status = cudaStreamEndCapture(stream_, &graph);  // ends the capture even when a call in it failed
    const CapturedGraph owned(graph);
    if (failed) return give_up("a call under capture", message_of(failed));
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

bool GpuDevice::knows(const core::Layout& layout, const Shape& shape, DType) const {
  return layout.is_row_major() || (layout.is_permutation() && layout.dims() == shape.dims());
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
  const auto copy = [&](void* target, const void* source, cudaMemcpyKind kind) {
    check(cudaMemcpyAsync(target, source, bytes, kind, libraries_.stream.get()), "cudaMemcpyAsync");
    wait();
  };
  if (from.layout == to.layout) return copy(to.data, from.data, direction(from.space, to.space));
  // Not within a step: by way of the host.
  std::vector<std::byte> before(bytes), after(bytes);
  copy(before.data(), from.data, direction(from.space, Space::host));
  reorder_on_host(dtype, shape, before.data(), from.layout, after.data(), to.layout);
  copy(to.data, after.data(), direction(Space::host, to.space));
}

core::Made GpuDevice::convert(const core::Operand& from, const core::Operand& to, const core::TakeScratch&) {
  if (from.layout != to.layout || from.dtype != to.dtype) return make_reorder(from, to, libraries_);
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

void GpuDevice::note_arithmetic(std::vector<std::string>& notes) const {
  if (libraries_.arithmetic.tf32) notes.emplace_back("products and convolutions of f32 may round operands to TF32");
  if (!libraries_.arithmetic.deterministic) notes.emplace_back("convolutions may give other bits on every run");
}

Run GpuDevice::sequence(const std::vector<Run>& steps, bool on_device, std::vector<std::string>& notes) {
  note_arithmetic(notes);
  if (on_device)
    return [captured = std::make_shared<CapturedSteps>(steps, libraries_.stream.get(), notes)] { (*captured)(); };
  notes.emplace_back("some nodes run in reference kernels on the host: the step is not captured as a CUDA graph");
  return Device::sequence(steps, on_device, notes);
}

}  // namespace halfstep::cudnn
