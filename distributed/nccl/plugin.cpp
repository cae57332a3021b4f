// The communicator of NCCL as a plug-in.
#include <atomic>
#include <chrono>
#include <cstdint>
#include <cstdlib>
#include <exception>
#include <optional>
#include <span>
#include <utility>

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

Communicator* open(const CommunicatorOptions& options, std::string& reason) {
  const std::optional<Launch> launch = find_launch();
  if (!launch) {
    reason = "no launcher has started this process";
    return nullptr;
  }
  // Before CUDA is called for the first time, by an executor too.
  if (const auto device = visible_device(*launch, std::getenv("CUDA_VISIBLE_DEVICES")))
    setenv("CUDA_VISIBLE_DEVICES", device->c_str(), 1);
  Api api;
  if (!load(api, reason)) return nullptr;
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
  return new NcclCommunicator(api, word.id, launch->rank, launch->size, agreed, std::move(line));
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
