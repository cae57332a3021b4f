// By the driver's functions. They are looked up while the program runs: the plug-in loads on machines without a driver.
#include "executors/cudnn/loaded_kernel.h"

#include <string>
#include <vector>

#include <cuda.h>
#include <dlfcn.h>
#include <fmt/format.h>

#include "executors/cudnn/entry_cache.h"
#include "executors/cudnn/kernel_cache.h"
#include "executors/cudnn/planning.h"
#include "executors/cudnn/runtime_compiler.h"
#include "executors/cudnn/status.h"
#include <halfstep/base/error.h>

namespace halfstep::cudnn {
namespace {

struct Driver {
  decltype(&cuGetErrorString) error_string = nullptr;
  decltype(&cuModuleLoadData) load = nullptr;
  decltype(&cuModuleGetFunction) function = nullptr;
  decltype(&cuModuleUnload) unload = nullptr;
  decltype(&cuLaunchKernel) launch = nullptr;

  bool is_complete() const { return error_string && load && function && unload && launch; }
};

const Driver& driver() {
  static const Driver found = [] {
    Driver d;
    void* library = dlopen("libcuda.so.1", RTLD_NOW | RTLD_LOCAL);
    if (!library) return d;
    const auto find = [&](auto& function, const char* name) {
      function = reinterpret_cast<std::remove_reference_t<decltype(function)>>(dlsym(library, name));
    };
    find(d.error_string, "cuGetErrorString");
    find(d.load, "cuModuleLoadData");
    find(d.function, "cuModuleGetFunction");
    find(d.unload, "cuModuleUnload");
    find(d.launch, "cuLaunchKernel");
    return d;
  }();
  return found;
}

void check_driver(CUresult status, const char* call) {
  if (status == CUDA_SUCCESS) return;
  const char* text = nullptr;
  driver().error_string(status, &text);
  throw_failure(fmt::format("{} to succeed on the GPU", call),
                fmt::format("status {} ({})", static_cast<int>(status), text ? text : "unknown"),
                "run with --executor onednn, and report the model and this message");
}

class DriverKernel final : public LoadedKernel {
 public:
  DriverKernel(const std::vector<char>& image, const std::string& name) {
    check(cudaFree(nullptr), "cudaFree");  // makes the device's context this thread's
    check_driver(driver().load(&module_, image.data()), "cuModuleLoadData");
    const CUresult found = driver().function(&function_, module_, name.c_str());
    if (found != CUDA_SUCCESS) driver().unload(module_);
    check_driver(found, "cuModuleGetFunction");
  }
  DriverKernel(const DriverKernel&) = delete;
  DriverKernel& operator=(const DriverKernel&) = delete;
  ~DriverKernel() override { driver().unload(module_); }

  void launch(unsigned blocks, unsigned threads, std::span<const std::byte> argument,
              cudaStream_t stream) const override {
    void* arguments[] = {const_cast<std::byte*>(argument.data())};
    check_driver(driver().launch(function_, blocks, 1, 1, threads, 1, 1, 0, stream, arguments, nullptr),
                 "cuLaunchKernel");
  }

 private:
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
    return std::make_shared<const DriverKernel>(compile(kernel, capability, kernel_cache_folder()), kernel.name);
  });
}

}  // namespace halfstep::cudnn
