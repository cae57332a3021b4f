// The communicator of NCCL: a GPU for each rank.
#pragma once

#include <cstddef>
#include <memory>
#include <string_view>

#include "distributed/nccl/api.h"
#include "distributed/nccl/group.h"
#include "distributed/nccl/line.h"
#include "distributed/nccl/staging.h"
#include <halfstep/distributed/communicator.h>
#include <halfstep/distributed/registry.h>

namespace halfstep::nccl {

class NcclCommunicator final : public Communicator {
 public:
  /// As Group. `api` is copied.
  NcclCommunicator(const Api& api, const ncclUniqueId& id, int rank, int size, const CommunicatorOptions& options,
                   Line line = {}, int device = 0);

  std::string_view name() const override { return "nccl"; }
  int rank() const override { return group_.rank(); }
  int size() const override { return group_.size(); }
  void all_reduce(void* data, std::size_t count, DType dtype, Reduction reduction) override;
  std::unique_ptr<AllReduce> make_all_reduce(void* data, std::size_t count, DType dtype, Reduction reduction) override;
  void reduce_scatter(const void* from, void* to, std::size_t count, DType dtype, Reduction reduction) override;
  void all_gather(const void* from, void* to, std::size_t bytes) override;
  void broadcast(void* data, std::size_t bytes, int root) override;
  void barrier() override;
  std::unique_ptr<StreamRanks> on_stream(const DeviceStream& stream) override;
  void abort(int exit_code) noexcept override;

 private:
  class Made;

  const Api api_;
  Group group_;
  Staging staging_{group_};
};

}  // namespace halfstep::nccl
