// By the driver's functions. They are looked up while the program runs: the plug-in loads on machines without a driver.
#include "executors/cudnn/loaded_kernel.h"

#include <string>
#include <vector>

#include <cuda.h>
#include <dlfcn.h>

#include "executors/cudnn/entry_cache.h"
#include "executors/cudnn/kernel_cache.h"
#include "executors/cudnn/planning.h"
#include "executors/cudnn/runtime_compiler.h"
#include "executors/cudnn/status.h"
#include <halfstep/base/error.h>

namespace halfstep::cudnn {
namespace {

struct Driver {
  decltype(&cuModuleLoadData) load = nullptr;
  decltype(&cuModuleGetFunction) function = nullptr;
  decltype(&cuModuleUnload) unload = nullptr;
  decltype(&cuLaunchKernel) launch = nullptr;

  bool is_complete() const { return load && function && unload && launch; }
};

const Driver& driver() {
  static const Driver found = [] {
    Driver d;
    void* library = dlopen("libcuda.so.1", RTLD_NOW | RTLD_LOCAL);
    if (!library) return d;
    const auto find = [&](auto& function, const char* name) {
      function = reinterpret_cast<std::remove_reference_t<decltype(function)>>(dlsym(library, name));
    };
    find(d.load, "cuModuleLoadData");
    find(d.function, "cuModuleGetFunction");
    find(d.unload, "cuModuleUnload");
    find(d.launch, "cuLaunchKernel");
    return d;
  }();
  return found;
}

/// The runtime's errors have the driver's numbers.
void check_driver(CUresult status, const char* call) { check(static_cast<cudaError_t>(status), call); }
static_assert(static_cast<int>(CUDA_ERROR_OUT_OF_MEMORY) == cudaErrorMemoryAllocation &&
              static_cast<int>(CUDA_ERROR_UNSUPPORTED_PTX_VERSION) == cudaErrorUnsupportedPtxVersion &&
              static_cast<int>(CUDA_ERROR_ILLEGAL_ADDRESS) == cudaErrorIllegalAddress);

class DriverKernel final : public LoadedKernel {
 public:
  /// On the thread's present device.
  DriverKernel(const std::vector<char>& image, const std::string& name, int device) : device_(device) {
    check(cudaFree(nullptr), "cudaFree");  // makes the device's context this thread's
    check_driver(driver().load(&module_, image.data()), "cuModuleLoadData");
    const CUresult found = driver().function(&function_, module_, name.c_str());
    if (found != CUDA_SUCCESS) driver().unload(module_);
    check_driver(found, "cuModuleGetFunction");
  }
  DriverKernel(const DriverKernel&) = delete;
  DriverKernel& operator=(const DriverKernel&) = delete;
  ~DriverKernel() override {
    // The driver looks for the module in the context of the thread's device, whichever that is here.
    int before = 0;
    if (cudaGetDevice(&before) != cudaSuccess || cudaSetDevice(device_) != cudaSuccess) return;
    driver().unload(module_);
    cudaSetDevice(before);
  }

  void launch(unsigned blocks, unsigned threads, std::span<const std::byte> argument,
              cudaStream_t stream) const override {
    void* arguments[] = {const_cast<std::byte*>(argument.data())};
    check_driver(driver().launch(function_, blocks, 1, 1, threads, 1, 1, 0, stream, arguments, nullptr),
                 "cuLaunchKernel");
  }

 private:
  int device_;
  CUmodule module_ = nullptr;
  CUfunction function_ = nullptr;
};

/// Of a device that is not there.
class PlannedKernel final : public LoadedKernel {
 public:
  void launch(unsigned, unsigned, std::span<const std::byte>, cudaStream_t) const override {
    throw_failure("a device to run on", "one that is only described", "leave out --describe-device");
  }
};

}  // namespace

std::string generation_refusal() {
  if (is_planning_only()) return {};
  if (!driver().is_complete())
    return "kernels are not generated: the NVIDIA driver's library libcuda.so.1 was not found";
  return runtime_compiler_refusal();
}

std::shared_ptr<const LoadedKernel> load_kernel(const KernelText& kernel, int capability) {
  if (is_planning_only()) return std::make_shared<const PlannedKernel>();
  static KernelCache cache;
  int device = 0;
  check(cudaGetDevice(&device), "cudaGetDevice");
  return cache.get(kernel, capability, device, [&] {
    return std::make_shared<const DriverKernel>(compile(kernel, capability, kernel_cache_folder()), kernel.name,
                                                device);
  });
}

}  // namespace halfstep::cudnn
