#include "distributed/nccl/nccl_communicator.h"

#include <cstdint>
#include <utility>

#include "distributed/nccl/on_stream.h"

namespace halfstep::nccl {
namespace {

/// An all-reduce of `count` elements in the host's memory.
struct Reducing {
  void* data;
  std::size_t count;
  DType dtype;
  Reduction reduction;

  void start(Group& group, Staging& staging) const {
    const std::size_t bytes = bytes_of(dtype, count);
    const auto call = [&](const void* from, void* to) {
      return group.api().all_reduce(from, to, count, type_of(dtype), operation_of(reduction), group.communicator(),
                                    group.stream());
    };
    staging.start(data, bytes, data, bytes, call, "ncclAllReduce");
  }
};

}  // namespace

class NcclCommunicator::Made final : public AllReduce {
 public:
  Made(Group& group, Reducing reducing) : group_(group), reducing_(reducing), staging_(group) {}

 private:
  void do_start() override { reducing_.start(group_, staging_); }
  void do_wait() override { staging_.wait(); }

  Group& group_;
  Reducing reducing_;
  Staging staging_;
};

NcclCommunicator::NcclCommunicator(const Api& api, const ncclUniqueId& id, int rank, int size,
                                   const CommunicatorOptions& options, Line line, int device)
    : api_(api), group_(api_, id, rank, size, options, std::move(line), device) {}

void NcclCommunicator::all_reduce(void* data, std::size_t count, DType dtype, Reduction reduction) {
  Reducing{data, count, dtype, reduction}.start(group_, staging_);
  staging_.wait();
}

std::unique_ptr<AllReduce> NcclCommunicator::make_all_reduce(void* data, std::size_t count, DType dtype,
                                                             Reduction reduction) {
  type_of(dtype);
  return std::make_unique<Made>(group_, Reducing{data, count, dtype, reduction});
}

void NcclCommunicator::reduce_scatter(const void* from, void* to, std::size_t count, DType dtype, Reduction reduction) {
  const std::size_t bytes = bytes_of(dtype, count);
  const auto call = [&](const void* parts, void* part) {
    return api_.reduce_scatter(parts, part, count, type_of(dtype), operation_of(reduction), group_.communicator(),
                               group_.stream());
  };
  staging_.start(from, bytes * static_cast<std::size_t>(size()), to, bytes, call, "ncclReduceScatter");
  staging_.wait();
}

void NcclCommunicator::all_gather(const void* from, void* to, std::size_t bytes) {
  const auto call = [&](const void* part, void* parts) {
    return api_.all_gather(part, parts, bytes, ncclUint8, group_.communicator(), group_.stream());
  };
  staging_.start(from, bytes, to, bytes * static_cast<std::size_t>(size()), call, "ncclAllGather");
  staging_.wait();
}

void NcclCommunicator::broadcast(void* data, std::size_t bytes, int root) {
  const auto call = [&](const void* given, void* taken) {
    return api_.broadcast(given, taken, bytes, ncclUint8, root, group_.communicator(), group_.stream());
  };
  staging_.start(data, rank() == root ? bytes : 0, data, bytes, call, "ncclBroadcast");
  staging_.wait();
}

void NcclCommunicator::barrier() {
  std::int32_t nothing = 0;
  all_reduce(&nothing, 1, DType::i32, Reduction::sum);
}

std::unique_ptr<StreamRanks> NcclCommunicator::on_stream(const DeviceStream& stream) {
  if (stream.device != group_.device()) return nullptr;
  return std::make_unique<OnStream>(group_, static_cast<cudaStream_t>(stream.stream));
}

void NcclCommunicator::abort(int exit_code) noexcept {
  group_.give_up();
  api_.exit(exit_code);  // the launcher ends the others
}

}  // namespace halfstep::nccl
