#include "executors/cudnn/detection.h"

#include <cstddef>
#include <optional>
#include <span>

#include <fmt/format.h>

#include "distributed/local_gpu.h"
#include "executors/cudnn/kernel_table.h"
#include "executors/cudnn/pending_failure.h"
#include "executors/cudnn/status.h"

namespace halfstep::cudnn {
namespace {

std::string version_text(int version) { return fmt::format("{}.{}", version / 1000, version % 1000 / 10); }
std::string capability_text(int capability) { return fmt::format("{}.{}", capability / 10, capability % 10); }

NoDevice driver_too_old(int driver, int runtime) {
  return {fmt::format(
      "The NVIDIA driver is too old: it supports CUDA {}, and halfstep was built with CUDA {}; install a newer driver.",
      version_text(driver), version_text(runtime))};
}

cudaError_t answered(cudaError_t status) {
  if (status != cudaSuccess) forget_failure();
  return status;
}

}  // namespace

DetectionApi runtime_detection_api() {
  return {
      [](int* version) { return answered(cudaDriverGetVersion(version)); },
      [](int* version) { return answered(cudaRuntimeGetVersion(version)); },
      [](int* count) { return answered(cudaGetDeviceCount(count)); },
      [](cudaDeviceProp* properties, int device) { return answered(cudaGetDeviceProperties(properties, device)); },
  };
}

namespace {

struct Found {
  Device device;
  std::string refusal = {};  ///< why it cannot be used
};

/// In the order of CUDA's numbers; never none.
std::variant<std::vector<Found>, NoDevice> find_all(const DetectionApi& api, int least_capability) {
  int driver = 0, runtime = 0, count = 0;
  if (api.runtime_version(&runtime) != cudaSuccess) runtime = CUDART_VERSION;
  if (api.driver_version(&driver) != cudaSuccess || driver == 0)
    return NoDevice{"No NVIDIA driver is installed (or it is not visible in this container)."};
  // Any driver of the same major version runs this build (CUDA minor version compatibility).
  if (driver / 1000 < runtime / 1000) return driver_too_old(driver, runtime);

  const cudaError_t counted = api.device_count(&count);
  if (counted == cudaErrorInsufficientDriver) return driver_too_old(driver, runtime);
  if (counted == cudaErrorNoDevice || (counted == cudaSuccess && count == 0))
    return NoDevice{
        "The NVIDIA driver is there, but it shows no GPU; check nvidia-smi, and that CUDA_VISIBLE_DEVICES does not "
        "hide it. Where MIG is on, a GPU is shown only with an instance (nvidia-smi mig -cgi ... -C)."};
  if (counted == cudaErrorSystemNotReady)
    return NoDevice{
        "The GPUs are not ready: those that NVSwitch joins need the service nvidia-fabricmanager, in the driver's "
        "version; start it."};
  if (counted == cudaErrorSystemDriverMismatch)
    return NoDevice{
        "The NVIDIA driver's kernel module and its libraries are of different versions; restart the machine, or take "
        "libcuda.so of the driver into the container."};
  if (counted != cudaSuccess)
    return NoDevice{fmt::format("The NVIDIA driver does not answer: cudaGetDeviceCount returned {}; check nvidia-smi.",
                                text_of(counted))};

  std::vector<Found> all;
  for (int id = 0; id < count; ++id) {
    cudaDeviceProp properties{};
    if (const cudaError_t asked = api.device_properties(&properties, id); asked != cudaSuccess) {
      all.push_back({{.id = id, .name = gpu_id(static_cast<std::size_t>(id))},
                     fmt::format("The GPU {} does not answer: cudaGetDeviceProperties returned {}; check nvidia-smi.",
                                 gpu_id(static_cast<std::size_t>(id)), text_of(asked))});
      continue;
    }
    const ShownGpu shown = shown_gpu(properties.name, std::as_bytes(std::span(properties.uuid.bytes)));
    Found& found = all.emplace_back();
    found.device = {.id = id,
                    .name = shown.name,
                    .uuid = shown.uuid,
                    .major = properties.major,
                    .minor = properties.minor,
                    .memory = properties.totalGlobalMem,
                    .multiprocessors = properties.multiProcessorCount};
    if (found.device.capability() < least_capability)
      found.refusal =
          fmt::format("{} has compute capability {}, and halfstep was built for {} and newer.", found.device.name,
                      capability_text(found.device.capability()), capability_text(least_capability));
  }
  return all;
}

}  // namespace

std::variant<Device, NoDevice> detect(const DetectionApi& api, int least_capability, std::string_view wanted,
                                      int local_rank) {
  const auto found = find_all(api, least_capability);
  if (const auto* none = std::get_if<NoDevice>(&found)) return *none;
  const auto& all = std::get<std::vector<Found>>(found);
  std::vector<ShownGpu> shown;
  for (const Found& each : all) shown.push_back({each.device.name, each.device.uuid});
  NoDevice none;
  const std::optional<int> chosen = choose_gpu(shown, wanted, local_rank, none.reason);
  if (!chosen) return none;
  const Found& taken = all[static_cast<std::size_t>(*chosen)];
  if (!taken.refusal.empty()) return NoDevice{taken.refusal};
  return taken.device;
}

std::vector<DeviceStatus> all_devices(const DetectionApi& api, int least_capability) {
  const auto found = find_all(api, least_capability);
  std::vector<DeviceStatus> result;
  if (const auto* all = std::get_if<std::vector<Found>>(&found))
    for (const auto& [device, refusal] : *all)
      result.push_back({.id = gpu_id(static_cast<std::size_t>(device.id)),
                        .uuid = device.uuid,
                        .name = device.name,
                        .features = capabilities_of(device).features,
                        .memory = device.memory,
                        .reason = refusal});
  return result;
}

Capabilities capabilities_of(const Device& device) {
  Capabilities c;
  c.device = device.name;
  c.memory = device.memory;
  c.features = {fmt::format("compute capability {}.{}", device.major, device.minor),
                fmt::format("{} multiprocessors", device.multiprocessors),
                fmt::format("{:.1f} GiB", static_cast<double>(device.memory) / (1 << 30))};
  constexpr OpClass kClasses[] = {OpClass::matmul,        OpClass::convolution, OpClass::pooling,
                                  OpClass::normalization, OpClass::elementwise, OpClass::reduction};
  const auto add = [&](DType dtype) {
    for (OpClass k : kClasses) c.native.insert({k, dtype});
  };
  add(DType::f32);
  if (device.has_fp16_tensor_cores()) {
    c.features.emplace_back("FP16 tensor cores");
    add(DType::f16);
  }
  if (device.has_bf16_tensor_cores()) {
    c.features.emplace_back("BF16 tensor cores");
    add(DType::bf16);
  }
  c.fusions = fusions();
  c.chains = generated_chains();
  c.updates = core::optimizer_steps(kernel_table());
  c.half_copies = true;
  c.auto_precision = device.has_fp16_tensor_cores() ? DType::f16 : DType::f32;
  c.auto_reason =
      device.has_bf16_tensor_cores()
          ? fmt::format("{} has FP16 tensor cores (BF16 ones too: --precision bf16 takes them)", device.name)
      : device.has_fp16_tensor_cores() ? fmt::format("{} has FP16 tensor cores", device.name)
                                       : fmt::format("{} has no half-precision tensor cores", device.name);
  return c;
}

}  // namespace halfstep::cudnn
