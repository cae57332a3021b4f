#include "executors/cudnn/device.h"

#include <cstring>
#include <utility>
#include <vector>

#include "executors/cudnn/captured_steps.h"
#include "executors/cudnn/fastest.h"
#include "executors/cudnn/input_staging.h"
#include "executors/cudnn/pending_failure.h"
#include "executors/cudnn/reorder.h"
#include <halfstep/base/error.h>
#include <halfstep/executors/core/memory.h>
#include <halfstep/graph/tensor_bytes.h>

namespace halfstep::cudnn {
namespace {

using core::Run;
using core::Space;

cudaMemcpyKind direction(Space from, Space to) {
  if (from == to) return from == Space::host ? cudaMemcpyHostToHost : cudaMemcpyDeviceToDevice;
  return from == Space::host ? cudaMemcpyHostToDevice : cudaMemcpyDeviceToHost;
}

void make_current(int device) noexcept {
  if (cudaSetDevice(device) != cudaSuccess) forget_failure();
}

/// Memory that is freed on its device, in whatever thread.
template <class Memory>
std::shared_ptr<void> shared_on(int device, Memory memory) {
  void* const data = memory.get();
  auto held = std::make_shared<Memory>(std::move(memory));
  return {data, [device, held = std::move(held)](void*) mutable {
            make_current(device);
            held.reset();
          }};
}

std::size_t free_memory() {
  std::size_t free = 0, all = 0;
  if (cudaMemGetInfo(&free, &all) != cudaSuccess) cudaGetLastError();
  return free;
}

}  // namespace

bool GpuDevice::holds(DType t) const {
  return t == DType::f32 || t == DType::f16 || t == DType::bf16 || t == DType::i32 || t == DType::i64 ||
         t == DType::boolean;
}

bool GpuDevice::knows(const core::Layout& layout, const Shape& shape, DType) const {
  return layout.is_row_major() || (layout.is_permutation() && layout.dims() == shape.dims());
}

std::shared_ptr<void> GpuDevice::allocate(std::size_t bytes, Space space) {
  set_device();
  if (space == Space::device) {
    void* data = nullptr;
    const cudaError_t status = bytes > 0 ? cudaMalloc(&data, bytes) : cudaSuccess;
    if (status == cudaErrorMemoryAllocation) {
      cudaGetLastError();  // which the next launch would report
      throw TooLittleMemory(free_memory());
    }
    check(status, "cudaMalloc");
    std::shared_ptr<void> memory = shared_on(libraries_.device, DevicePointer(data));
    if (data) check(cudaMemsetAsync(data, 0, bytes, libraries_.stream.get()), "cudaMemsetAsync");
    return memory;
  }
  std::shared_ptr<void> memory = shared_on(libraries_.device, make_pinned(bytes));
  std::memset(memory.get(), 0, bytes);
  return memory;
}

void GpuDevice::move(DType dtype, const Shape& shape, const core::Stored& from, const core::Stored& to) {
  const std::size_t bytes = bytes_of(dtype, shape);
  if (bytes == 0) return;
  const core::Turns::Turn turn(turns_);
  set_device();
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
  if (from.bytes() == 0) return {"cuda: copy", {}, [](const core::Memory&) -> Run { return [] {}; }};
  return {"cuda: copy", {}, [=, stream = libraries_.stream.get()](const core::Memory& memory) -> Run {
            return [=, source = memory.at(from), target = memory.at(to), bytes = from.bytes(),
                    kind = direction(from.space, to.space)] {
              check(cudaMemcpyAsync(target, source, bytes, kind, stream), "cudaMemcpyAsync");
            };
          }};
}

void GpuDevice::copy(void* to, const void* from, std::size_t bytes) {
  if (bytes == 0) return;
  check(cudaMemcpyAsync(to, from, bytes, cudaMemcpyDeviceToDevice, libraries_.stream.get()), "cudaMemcpyAsync");
}

std::optional<DeviceStream> GpuDevice::stream() const {
  return DeviceStream{libraries_.stream.get(), libraries_.device};
}

void GpuDevice::enter() noexcept {
  if (libraries_.stream) make_current(libraries_.device);
}

void GpuDevice::set_device() const { check(cudaSetDevice(libraries_.device), "cudaSetDevice"); }

void GpuDevice::do_wait() { check(cudaStreamSynchronize(libraries_.stream.get()), "cudaStreamSynchronize"); }

void GpuDevice::within(const std::function<void()>& work) {
  const core::Turns::Turn turn(turns_);
  set_device();
  work();
}

void GpuDevice::note_arithmetic(std::vector<std::string>& notes) const {
  if (libraries_.arithmetic.tf32) notes.emplace_back("products and convolutions of f32 may round operands to TF32");
  if (!libraries_.arithmetic.deterministic) notes.emplace_back("convolutions may give other bits on every run");
}

std::unique_ptr<core::Staging> GpuDevice::make_staging(const std::vector<core::StagedInput>& inputs) {
  return make_input_staging(inputs, *this, libraries_.stream.get());
}

Run GpuDevice::sequence(const std::vector<Run>& steps, const std::vector<bool>& on_device,
                        std::vector<std::string>& notes) {
  note_arithmetic(notes);
  if (std::string note = note_on_choices(libraries_); !note.empty()) notes.push_back(std::move(note));
  std::shared_ptr<bool> failed = std::exchange(libraries_.recurrent_failed, std::make_shared<bool>(false));
  return
      [captured = std::make_shared<CapturedSteps>(
           steps, on_device, libraries_.stream.get(), [this] { wait(); }, std::move(failed), notes)] { (*captured)(); };
}

}  // namespace halfstep::cudnn
