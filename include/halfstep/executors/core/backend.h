// The parts of an executor that differ between executors.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include <halfstep/base/api.h>
#include <halfstep/executors/core/device.h>
#include <halfstep/executors/core/kernel_row.h>
#include <halfstep/executors/executor.h>

namespace HALFSTEP_API halfstep {
namespace core {

struct Backend {
  std::string name;
  Capabilities capabilities;
  /// Operators without a row are views or run in reference kernels.
  std::vector<KernelRow> kernels;
  std::shared_ptr<Device> device = host_device();
};

std::unique_ptr<Executor> make_executor(Backend backend);

}  // namespace core
}  // namespace halfstep
