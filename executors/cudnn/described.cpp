#include "executors/cudnn/described.h"

#include <algorithm>
#include <cstring>
#include <memory>
#include <new>

#include <nlohmann/json.hpp>
#include <sys/mman.h>

#include "executors/cudnn/backend.h"
#include "executors/cudnn/backend_descriptor.h"
#include "executors/cudnn/captured_steps.h"
#include "executors/cudnn/detection.h"
#include "executors/cudnn/device.h"
#include "executors/cudnn/kernel_table.h"
#include "executors/cudnn/plan_cache.h"
#include "executors/cudnn/planning.h"
#include <halfstep/base/error.h>
#include <halfstep/graph/tensor_bytes.h>

namespace halfstep::cudnn {
namespace {

[[noreturn]] void no_device() {
  throw_failure("a device to run on", "one that is only described", "leave out --describe-device");
}

class DescribedDevice final : public GpuDevice {
 public:
  using GpuDevice::GpuDevice;

  /// Pages that nobody touches take no memory: of a device's there may be more than this machine has.
  std::shared_ptr<void> allocate(std::size_t bytes, core::Space) override {
    const std::size_t room = std::max<std::size_t>(bytes, 1);
    constexpr int kFlags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE;
    void* p = ::mmap(nullptr, room, PROT_READ | PROT_WRITE, kFlags, -1, 0);
    if (p == MAP_FAILED) throw std::bad_alloc();
    return {p, [room](void* q) { ::munmap(q, room); }};
  }
  void move(DType dtype, const Shape& shape, const core::Stored& from, const core::Stored& to) override {
    std::memcpy(to.data, from.data, bytes_of(dtype, shape));
  }
  core::Made convert(const core::Operand&, const core::Operand&, const core::TakeScratch&) override {
    return {"cuda: copy", {}, [](const core::Memory&) -> core::Run { return no_device; }};
  }
  void do_wait() override {}
  std::unique_ptr<core::Staging> make_staging(const std::vector<core::StagedInput>&) override { return nullptr; }
  std::optional<DeviceStream> stream() const override { return std::nullopt; }
  core::Run sequence(const std::vector<core::Run>&, const std::vector<bool>& on_device,
                     std::vector<std::string>& notes) override {
    note_arithmetic(notes);
    notes.emplace_back("planned for a device that is described, and cannot run");
    notes.push_back(note_on_parts(parts_of_step(on_device)));
    return no_device;
  }
  void within(const std::function<void()>& work) override {
    const PlanningOnly planning;
    work();
  }
};

Device device_of(const std::string& text) {
  try {
    const nlohmann::json json = nlohmann::json::parse(text);
    const int version = json.at("deviceVer").get<int>();  // 100 * major + 10 * minor
    Device device;
    device.name = json.at("deviceName").get<std::string>();
    device.major = version / 100;
    device.minor = version / 10 % 10;
    device.memory = json.at("totalGlobalMem").get<std::size_t>();
    device.multiprocessors = json.at("multiProcessorCount").get<int>();
    return device;
  } catch (const nlohmann::json::exception& e) {
    throw_input_error("a device's properties as cuDNN writes them, in JSON", e.what(),
                      "take a file of tests/executors/cudnn/devices");
  }
}

}  // namespace

core::Backend described_backend(const std::string& json, const ExecutorOptions& options) {
  const Device device = device_of(json);
  if (device.capability() < HALFSTEP_CUDA_LEAST_CAPABILITY)
    throw_input_error("a device that the kernels are compiled for", device.name + ", whose compute capability is lower",
                      "describe a newer one");
  Libraries libraries;
  libraries.capability = device.capability();
  libraries.arithmetic = arithmetic_of(options, device);
  libraries.plans = std::make_shared<PlanCache>();
  libraries.properties = share(device_properties(json));
  const PlanningOnly planning;  // chains are generated
  return {"cudnn", capabilities_of(device), kernel_table(), std::make_shared<DescribedDevice>(std::move(libraries))};
}

}  // namespace halfstep::cudnn
