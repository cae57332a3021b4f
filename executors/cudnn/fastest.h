// Which of several ways to compute something is the fastest on the device that is here.
#pragma once

#include <cstddef>
#include <filesystem>
#include <functional>
#include <optional>
#include <string>

#include <cuda_runtime_api.h>

namespace halfstep::cudnn {

/// The number of the way of least time; the first of several, and of none that works. `seconds`: nothing for one that
/// does not work.
std::size_t fastest(std::size_t count, const std::function<std::optional<double>(std::size_t)>& seconds);

/// The same, kept in a file of the folder (core::Choices) by device and what is computed, with all else that times
/// depend on: the next process takes the same way. A process reads the file once, and again where it adds to it. Where
/// the folder keeps nothing, it is the first, as times alone would decide otherwise every time.
std::size_t fastest_known(const std::filesystem::path& folder, const std::string& machine, const std::string& key,
                          std::size_t count, const std::function<std::optional<double>(std::size_t)>& seconds);

/// Of one call of `launch`, which puts work into the stream and says whether it could.
std::optional<double> seconds_of(const std::function<bool()>& launch, cudaStream_t stream);

}  // namespace halfstep::cudnn
