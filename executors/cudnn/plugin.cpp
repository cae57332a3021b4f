// The functions by which the halfstep library finds this executor.
#include <algorithm>
#include <iterator>
#include <string>
#include <vector>

#include "executors/cudnn/backend.h"
#include "executors/cudnn/described.h"
#include <halfstep/executors/core/plugin.h>

using namespace halfstep;

constexpr int kCudnnScore = 1000;  // a GPU is faster than any CPU

static int score(std::string& reason) {
  return cudnn::has_device(cudnn::runtime_detection_api(), reason) ? kCudnnScore : 0;
}

static std::optional<core::Backend> open(const ExecutorOptions& options, std::string& reason) {
  return cudnn::open_backend(cudnn::runtime_detection_api(), options, reason);
}

HALFSTEP_PLUGIN(score, open)

void halfstep_devices(std::vector<DeviceStatus>* devices) {
  std::string ignored;
  core::or_reason(ignored, [&] {
    std::ranges::move(cudnn::devices(cudnn::runtime_detection_api()), std::back_inserter(*devices));
    return true;
  });
}

Executor* halfstep_described_executor(const char* description, const ExecutorOptions* options, std::string* reason) {
  return core::or_reason(*reason, [&]() -> Executor* {
    return core::make_executor(cudnn::described_backend(description, *options)).release();
  });
}
