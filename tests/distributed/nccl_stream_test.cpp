// NCCL's operations on the device's memory, in the order of a stream: CUDA and NCCL are emulated, streams are threads.
#include <chrono>
#include <cstddef>
#include <cstring>
#include <memory>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "distributed/recorded.h"
#include "tests/allocations.h"
#include "tests/distributed/communicator_checks.h"
#include "tests/distributed/nccl_emulation.h"
#include "tests/distributed/nccl_testing.h"
#include "tests/support/error_of.h"

namespace halfstep {
namespace {

using namespace test;

using emulation::Faults;
using ::testing::AllOf;
using ::testing::AnyOf;
using ::testing::Each;
using ::testing::HasSubstr;
using namespace std::chrono_literals;
using Clock = std::chrono::steady_clock;

using NcclOnStream = OnEmulatedNccl;

/// A stream of a rank, and floats in the device's memory.
class Program {
 public:
  Program(const nccl::Api& api, Communicator& ranks, std::size_t count) : api_(api), bytes_(count * sizeof(float)) {
    api_.create_stream(&stream_);
    api_.allocate(&device_, bytes_);
    api_.allocate_pinned(&host_, bytes_);
    try {
      ranks_ = ranks.on_stream({.stream = stream_, .device = 0});
    } catch (...) {
      end();
      throw;
    }
  }
  ~Program() {
    sum_.reset();
    ranks_.reset();
    end();
  }

  cudaStream_t stream() const { return stream_; }
  StreamRanks& ranks() const { return *ranks_; }
  float* memory() const { return static_cast<float*>(device_); }
  std::size_t count() const { return bytes_ / sizeof(float); }
  AllReduce& sum() {
    if (!sum_) sum_ = ranks_->make_all_reduce(device_, count(), DType::f32, Reduction::sum);
    return *sum_;
  }

  void fill(float first) {
    for (std::size_t i = 0; i < count(); ++i) static_cast<float*>(host_)[i] = first + static_cast<float>(i);
    api_.copy(device_, host_, bytes_, cudaMemcpyHostToDevice, stream_);
  }
  /// Without waiting for it.
  void fetch() { api_.copy(host_, device_, bytes_, cudaMemcpyDeviceToHost, stream_); }
  const float* fetched() const { return static_cast<const float*>(host_); }

 private:
  void end() {
    api_.destroy_stream(stream_);
    api_.free(device_);
    api_.free_pinned(host_);
  }

  const nccl::Api& api_;
  std::size_t bytes_;
  cudaStream_t stream_ = nullptr;
  void *device_ = nullptr, *host_ = nullptr;
  std::unique_ptr<StreamRanks> ranks_;
  std::unique_ptr<AllReduce> sum_;
};

TEST_F(NcclOnStream, IsInTheOrderOfTheStream) {
  for (const int size : {1, 2, 3})
    EXPECT_THAT(on_ranks(size,
                         [&](const auto& ranks) {
                           Program one(api, *ranks, 1000), other(api, *ranks, 7),
                               all(api, *ranks, 7 * static_cast<std::size_t>(size));
                           for (int round = 0; round < 5; ++round) {
                             const auto own = static_cast<float>(ranks->rank() + round);
                             emulation::compute(one.stream(), std::chrono::milliseconds(ranks->rank()));
                             one.fill(own);
                             one.sum().start();
                             other.fill(10 * own);
                             other.sum().start();
                             // What goes by the host's memory is in one order with it.
                             float value = own;
                             ranks->all_reduce(&value, 1, DType::f32, Reduction::sum);
                             other.sum().wait();
                             one.sum().wait();
                             other.fetch();
                             one.fetch();
                             one.ranks().synchronize();
                             other.ranks().synchronize();
                             const float sum = static_cast<float>(size * (size - 1) / 2 + size * round);
                             require(value == sum, "the sum of the host");
                             for (std::size_t i = 0; i < one.count(); ++i)
                               require(one.fetched()[i] == sum + static_cast<float>(size) * static_cast<float>(i),
                                       "the sum of one");
                             require(other.fetched()[1] == 10 * sum + static_cast<float>(size), "the sum of the other");
                             other.fill(100 * own);
                             other.ranks().all_gather(other.memory(), all.memory(), 7 * sizeof(float));
                             api.copy(const_cast<float*>(all.fetched()), all.memory(), all.count() * sizeof(float),
                                      cudaMemcpyDeviceToHost, other.stream());
                             other.ranks().synchronize();
                             for (int rank = 0; rank < size; ++rank)
                               require(all.fetched()[7 * rank + 2] == 100 * static_cast<float>(rank + round) + 2,
                                       "what each gave");
                           }
                         }),
                Each(""))
        << size;
}

TEST_F(NcclOnStream, TakesTheMemoryOfItsOwnDeviceAlone) {
  EXPECT_THAT(on_ranks(1,
                       [](const auto& ranks) {
                         require(!ranks->on_stream({.stream = nullptr, .device = 1}), "no memory of another");
                         const auto records = std::make_shared<RecordedReductions>();
                         require(!recorded(ranks, records)->on_stream({.stream = nullptr, .device = 1}),
                                 "no memory of another, recorded");
                       }),
              Each(""));
}

TEST_F(NcclOnStream, ACallThatFailsIsNamedAndEndsTheGroup) {
  const auto run = [](const Faults& faults, std::chrono::milliseconds limit) {
    const nccl::Api api = emulation::api(faults);
    return on_ranks_with(
        api, 2,
        [&](const auto& ranks) {
          Program program(api, *ranks, 8);
          Program parts(api, *ranks, 16);
          program.sum().start();
          program.sum().wait();
          program.ranks().all_gather(program.memory(), parts.memory(), 8 * sizeof(float));
          program.ranks().synchronize();
        },
        limit);
  };
  EXPECT_THAT(run({}, 60s), Each(""));
  for (const char* call : {"cudaSetDevice", "cudaEventCreateWithFlags", "cudaEventRecord", "cudaStreamWaitEvent",
                           "ncclAllReduce", "ncclAllGather", "cudaEventQuery"}) {
    const std::vector<std::string> errors = run({.rank = 1, .call = call}, 300ms);
    EXPECT_THAT(errors[1], HasSubstr(std::string("expected ") + call + " to work, got ")) << call;
    EXPECT_THAT(errors[0], AnyOf(HasSubstr("all ranks to go on"), HasSubstr("another rank has gone"))) << call;
  }
  EXPECT_THAT(run({.rank = 1, .slow = "ncclAllReduce"}, 60s), Each(""));
  for (const char* call : {"ncclAllReduce", "ncclAllGather"}) {
    const std::vector<std::string> errors = run({.rank = 1, .later = call}, 60s);
    EXPECT_THAT(errors[1], AllOf(HasSubstr("remote process exited"), HasSubstr("another rank has gone"))) << call;
    EXPECT_THAT(errors[0], HasSubstr("another rank has gone")) << call;
  }
}

TEST_F(NcclOnStream, ARankThatDoesNotComeIsNoticedWhereTheHostWaits) {
  const std::vector<std::string> errors = on_ranks(
      2,
      [&](const auto& ranks) {
        if (ranks->rank() == 1) return std::this_thread::sleep_for(1s);
        Program program(api, *ranks, 8);
        program.fill(1);
        program.sum().start();
        program.sum().wait();
        program.fetch();
        program.ranks().synchronize();
      },
      100ms);
  EXPECT_THAT(errors[0], HasSubstr("expected all ranks to go on within 0.1 s, got no answer from one of them"));
}

/// The limit is for waiting: what a rank takes for its own work does not count.
TEST_F(NcclOnStream, TimeInWhichTheDeviceComputesDoesNotCount) {
  EXPECT_THAT(on_ranks(
                  2,
                  [&](const auto& ranks) {
                    Program program(api, *ranks, 8);
                    emulation::compute(program.stream(), 1500ms);
                    program.sum().start();
                    program.sum().wait();
                    emulation::compute(program.stream(), 1500ms);
                    program.ranks().synchronize();
                  },
                  1s),
              Each(""));
}

TEST_F(NcclOnStream, TheHostDoesNotRunFarAhead) {
  for (const bool all_come : {true, false}) {
    std::size_t started = 0;
    const std::vector<std::string> errors = on_ranks(
        2,
        [&](const auto& ranks) {
          if (ranks->rank() == 1 && !all_come) return std::this_thread::sleep_for(1s);
          std::vector<std::unique_ptr<Program>> programs;
          for (int i = 0; i < 100; ++i) {
            programs.push_back(std::make_unique<Program>(api, *ranks, 2));
            programs.back()->sum().start();
            programs.back()->sum().wait();
            if (ranks->rank() == 0) ++started;
          }
          for (const auto& program : programs) program->ranks().synchronize();
        },
        all_come ? 60s : 100ms);
    EXPECT_EQ(started == 100, all_come);
    if (all_come) {
      EXPECT_THAT(errors, Each(""));
    } else {
      EXPECT_GT(started, 1u);
      EXPECT_THAT(errors[0], HasSubstr("no answer from one of them"));
    }
  }
}

/// A step gathers window by window, which may be hundreds.
TEST_F(NcclOnStream, TheHostDoesNotRunFarAheadOfGatherings) {
  for (const bool all_come : {true, false}) {
    std::size_t started = 0;
    const std::vector<std::string> errors = on_ranks(
        2,
        [&](const auto& ranks) {
          if (ranks->rank() == 1 && !all_come) return std::this_thread::sleep_for(1s);
          Program part(api, *ranks, 8), parts(api, *ranks, 16);
          for (int i = 0; i < 100; ++i) {
            part.ranks().all_gather(part.memory(), parts.memory(), 8 * sizeof(float));
            if (ranks->rank() == 0) ++started;
          }
          part.ranks().synchronize();
        },
        all_come ? 60s : 100ms);
    EXPECT_EQ(started == 100, all_come);
    if (all_come) {
      EXPECT_THAT(errors, Each(""));
    } else {
      EXPECT_GT(started, 1u);
      EXPECT_THAT(errors[0], HasSubstr("no answer from one of them"));
    }
  }
}

/// Of all that a step does again and again.
TEST_F(NcclOnStream, ExchangesAllocateNothing) {
  nccl::Api counted = api;  // what the emulation does of these allocates
  counted.record = [](cudaEvent_t, cudaStream_t) { return cudaSuccess; };
  counted.stream_wait = [](cudaStream_t, cudaEvent_t) { return cudaSuccess; };
  counted.query = [](cudaEvent_t) { return cudaSuccess; };
  counted.all_gather = [](const void*, void*, std::size_t, ncclDataType_t, ncclComm_t, cudaStream_t) {
    return ncclSuccess;
  };
  counted.all_reduce = [](const void*, void*, std::size_t, ncclDataType_t, ncclRedOp_t, ncclComm_t, cudaStream_t) {
    return ncclSuccess;
  };
  EXPECT_THAT(on_ranks_with(
                  counted, 1,
                  [&](const auto& ranks) {
                    Program part(counted, *ranks, 8), parts(counted, *ranks, 8);
                    part.sum();
                    const testing::AllocationCounter allocations;
                    for (int step = 0; step < 10; ++step) {
                      part.sum().start();
                      for (int window = 0; window < 100; ++window)
                        part.ranks().all_gather(part.memory(), parts.memory(), 8 * sizeof(float));
                      part.sum().wait();
                      part.ranks().synchronize();
                    }
                    require(allocations.count() == 0, "no allocation");
                  },
                  60s),
              Each(""));
}

TEST_F(NcclOnStream, MemoryThatGoesAwayEndsTheGroup) {
  const int aborts = emulation::aborts();
  EXPECT_THAT(on_ranks(
                  2,
                  [&](const auto& ranks) {
                    if (ranks->rank() == 0) {
                      Program program(api, *ranks, 8);
                      program.sum().start();
                    } else {
                      std::this_thread::sleep_for(100ms);
                    }
                    ranks->barrier();
                  },
                  300ms)[0],
              HasSubstr("an operation that was given up"));
  EXPECT_GT(emulation::aborts(), aborts);
}

TEST_F(NcclOnStream, AReductionIsStartedOnceAtATime) {
  EXPECT_THAT(on_ranks(1,
                       [&](const auto& ranks) {
                         Program program(api, *ranks, 8);
                         require(!error_of([&] { program.sum().wait(); }).empty(), "no wait without a start");
                         program.sum().start();
                         require(!error_of([&] { program.sum().start(); }).empty(), "no second start");
                         program.sum().wait();
                         program.ranks().synchronize();
                       }),
              Each(""));
}

TEST_F(NcclOnStream, ARecordedReductionEndsWhenTheSumIsThere) {
  EXPECT_THAT(on_ranks(2,
                       [&](const auto& ranks) {
                         const auto records = std::make_shared<RecordedReductions>();
                         const std::shared_ptr<Communicator> watched = recorded(ranks, records);
                         Program program(api, *watched, 8);
                         if (ranks->rank() == 1) std::this_thread::sleep_for(50ms);
                         program.sum().start();
                         program.sum().wait();
                         require(records->size() == 1 && (*records)[0].bytes == 32, "one of so many bytes");
                         require(ranks->rank() == 1 || (*records)[0].seconds() > 0.02, "the time until the other came");
                       }),
              Each(""));
}

}  // namespace
}  // namespace halfstep
