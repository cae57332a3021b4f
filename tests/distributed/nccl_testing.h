// Ranks of NCCL that are threads, on the emulation of NCCL and CUDA.
#pragma once

#include <chrono>
#include <functional>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include <gtest/gtest.h>

#include "distributed/nccl/nccl_communicator.h"
#include "tests/distributed/nccl_emulation.h"
#include <halfstep/base/error.h>

namespace halfstep::test {

/// What each rank, a thread, says against `work`; "" when nothing.
inline std::vector<std::string> on_threads(int size, const std::function<void(int rank)>& work) {
  std::vector<std::string> errors(static_cast<std::size_t>(size));
  std::vector<std::thread> threads;
  for (int rank = 0; rank < size; ++rank)
    threads.emplace_back([&, rank] {
      emulation::be_rank(rank);
      try {
        work(rank);
      } catch (const Error& error) {
        errors[static_cast<std::size_t>(rank)] = error.what();
      }
    });
  for (std::thread& thread : threads) thread.join();
  return errors;
}

using RankWork = std::function<void(const std::shared_ptr<Communicator>&)>;

/// `api` is that of the emulation for these faults, which a test may need itself.
inline std::vector<std::string> on_ranks_with(const nccl::Api& api, int size, const RankWork& work,
                                              std::chrono::milliseconds limit) {
  ncclUniqueId id;
  EXPECT_EQ(api.get_unique_id(&id), ncclSuccess);
  return on_threads(size, [&](int rank) {
    work(std::make_shared<nccl::NcclCommunicator>(api, id, rank, size, CommunicatorOptions{.limit = limit}));
  });
}
inline std::vector<std::string> on_ranks_of_nccl(int size, const emulation::Faults& faults, const RankWork& work,
                                                 std::chrono::milliseconds limit = std::chrono::seconds(60)) {
  return on_ranks_with(emulation::api(faults), size, work, limit);
}

/// An NCCL of which nothing fails. Sees that nothing is left over.
class OnEmulatedNccl : public ::testing::Test {
 protected:
  const emulation::Faults none;
  const nccl::Api api = emulation::api(none);

  ncclUniqueId new_id() const {
    ncclUniqueId id;
    EXPECT_EQ(api.get_unique_id(&id), ncclSuccess);
    return id;
  }
  std::vector<std::string> on_ranks(int size, const RankWork& work,
                                    std::chrono::milliseconds limit = std::chrono::seconds(60)) const {
    return on_ranks_with(api, size, work, limit);
  }
  void TearDown() override {
    EXPECT_EQ(emulation::live_objects(), 0);
    EXPECT_EQ(emulation::refusal(), "");
  }
};

}  // namespace halfstep::test
