// The communicator of NCCL as a plug-in.
#include <atomic>
#include <chrono>
#include <cstdint>
#include <cstdlib>
#include <exception>
#include <optional>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include <fmt/format.h>

#include "distributed/local_gpu.h"
#include "distributed/nccl/api.h"
#include "distributed/nccl/nccl_communicator.h"
#include "distributed/nccl/rendezvous.h"
#include <halfstep/base/error.h>
#include <halfstep/distributed/launcher.h>
#include <halfstep/distributed/plugin.h>

namespace halfstep::nccl {
namespace {

/// Whether the process has one, or has had it.
std::atomic<bool> is_open = false;

/// What rank 0 tells the others, a failure too: they would wait for it.
struct FirstWord {
  std::int64_t heartbeat = 0;  ///< milliseconds; that of rank 0 is that of all
  ncclUniqueId id = {};
  ncclResult_t result = ncclSuccess;
};

/// CUDA's number of this rank's GPU; nothing, with a sentence in `reason`, if there is none.
std::optional<int> device_of(const Api& api, const std::string& wanted, int local_rank, std::string& reason) {
  int count = 0;
  cudaError_t status = api.device_count(&count);
  std::vector<ShownGpu> shown;
  for (int device = 0; status == cudaSuccess && device < count; ++device) {
    cudaDeviceProp properties{};
    status = api.device_properties(&properties, device);
    shown.push_back(shown_gpu(properties.name, std::as_bytes(std::span(properties.uuid.bytes))));
  }
  if (status == cudaSuccess && count > 0) return choose_gpu(shown, wanted, local_rank, reason);
  reason = fmt::format("CUDA shows no GPU ({}): check nvidia-smi and CUDA_VISIBLE_DEVICES",
                       api.cuda_error_string(status == cudaSuccess ? cudaErrorNoDevice : status));
  return std::nullopt;
}

Communicator* open(const CommunicatorOptions& options, std::string& reason) {
  const std::optional<Launch> launch = find_launch();
  if (!launch) {
    reason = "no launcher has started this process";
    return nullptr;
  }
  Api api;
  if (!load(api, reason)) return nullptr;
  const std::optional<int> device = device_of(api, options.device, launch->local_rank, reason);
  if (!device) return nullptr;
  FirstWord word{.heartbeat = options.heartbeat.count()};
  if (launch->rank == 0) word.result = api.get_unique_id(&word.id);
  const auto variable = [](const char* name) -> const char* { return std::getenv(name); };
  Line line = broadcast_from_first(meeting_place(*launch, variable), launch->rank, launch->size,
                                   std::as_writable_bytes(std::span(&word, 1)), options.limit);
  if (word.result != ncclSuccess)
    throw_failure("ncclGetUniqueId to work on rank 0", api.error_string(word.result),
                  "NCCL_DEBUG=WARN has NCCL say more");
  CommunicatorOptions agreed = options;
  agreed.heartbeat = std::chrono::milliseconds(word.heartbeat);
  return new NcclCommunicator(api, word.id, launch->rank, launch->size, agreed, std::move(line), *device);
}

}  // namespace
}  // namespace halfstep::nccl

extern "C" {

int halfstep_communicator_abi() { return halfstep::kCommunicatorAbi; }

halfstep::Communicator* halfstep_communicator(const halfstep::CommunicatorOptions* options, std::string* reason) {
  if (halfstep::nccl::is_open.exchange(true)) {
    *reason = "the communicator of this process is open already: share it";
    return nullptr;
  }
  try {
    halfstep::Communicator* made = halfstep::nccl::open(*options, *reason);
    if (!made) halfstep::nccl::is_open = false;
    return made;
  } catch (const halfstep::Error& error) {
    *reason = error.without_hint();
  } catch (const std::exception& error) {
    *reason = error.what();
  }
  halfstep::nccl::is_open = false;
  return nullptr;
}

}  // extern "C"
