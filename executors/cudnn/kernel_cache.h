// Kernels that are loaded, each once for as long as somebody holds it.
#pragma once

#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <tuple>

#include "executors/cudnn/loaded_kernel.h"

namespace halfstep::cudnn {

class KernelCache {
 public:
  /// What `make` gives, unless somebody holds what it gave for this kernel, capability and device before. A text may
  /// have several kernels: the name is part of which one it is. A kernel belongs to one device, even among devices of
  /// one kind.
  template <class F>
  std::shared_ptr<const LoadedKernel> get(const KernelText& kernel, int capability, int device, const F& make) {
    const std::lock_guard lock(mutex_);
    std::erase_if(loaded_, [](const auto& entry) { return entry.second.expired(); });
    std::weak_ptr<const LoadedKernel>& known = loaded_[{kernel.name, kernel.text, capability, device}];
    if (auto held = known.lock()) return held;
    std::shared_ptr<const LoadedKernel> made = make();
    known = made;
    return made;
  }

 private:
  std::mutex mutex_;
  std::map<std::tuple<std::string, std::string, int, int>, std::weak_ptr<const LoadedKernel>> loaded_;
};

}  // namespace halfstep::cudnn
