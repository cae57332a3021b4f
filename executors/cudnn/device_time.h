// How long work takes on the device.
#pragma once

#include <functional>
#include <optional>
#include <vector>

#include <cuda_runtime_api.h>

namespace halfstep::cudnn {

/// Puts work into a stream, the same every time, and says whether it could.
using Attempt = std::function<bool()>;

/// The least seconds of one call of each by the device's clock, nothing for one that fails. Each is called some times
/// in a captured graph, as in a step, and all of them in turns, so that what else the device does meets them alike; one
/// that is clearly slower than another only once. An empty one fails.
std::vector<std::optional<double>> seconds_of(const std::vector<Attempt>& attempts, cudaStream_t stream);

}  // namespace halfstep::cudnn
