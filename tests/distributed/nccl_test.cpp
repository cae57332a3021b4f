// The communicator of NCCL, on an emulation of NCCL and CUDA with threads as ranks, and how its ranks find each other.
#include <array>
#include <atomic>
#include <bit>
#include <chrono>
#include <cstddef>
#include <cstring>
#include <exception>
#include <map>
#include <memory>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "distributed/nccl/nccl_communicator.h"
#include "distributed/nccl/rendezvous.h"
#include "tests/distributed/communicator_checks.h"
#include "tests/distributed/nccl_emulation.h"
#include "tests/distributed/nccl_testing.h"
#include "tests/distributed/run_on.h"
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

using NcclCommunicator = test::OnEmulatedNccl;

TEST_F(NcclCommunicator, KeepsWhatCommunicatorsPromise) {
  for (const int size : {1, 2, 3, 4}) {
    const int aborts = emulation::aborts();
    EXPECT_THAT(on_ranks(size,
                         [&](const auto& ranks) {
                           test::require(ranks->size() == size && ranks->name() == "nccl", "the group");
                           test::check_communicator(*ranks);
                         }),
                Each(""))
        << size;
    EXPECT_EQ(emulation::aborts(), aborts) << "each is ended in order";
  }
}

TEST_F(NcclCommunicator, WaitsForCallsThatAreUnderWay) {
  for (const char* call : {"ncclAllReduce", "ncclReduceScatter", "ncclAllGather", "ncclBroadcast"})
    EXPECT_THAT(
        on_ranks_of_nccl(2, {.rank = 1, .slow = call}, [](const auto& ranks) { test::check_communicator(*ranks); }),
        Each(""))
        << call;
}

TEST_F(NcclCommunicator, TrainsAsOtherRanksDo) {
  Job job;
  job.options.optimizer.name = "adam";
  job.options.optimizer.numbers = {};
  job.options.sharded_optimizer = true;
  const Course wanted = run_on(2, job);
  EXPECT_THAT(on_ranks(2,
                       [&](const std::shared_ptr<Communicator>& ranks) {
                         const Course run = run_rank(job, ranks);
                         test::require(same_bits(run.parameters, wanted.parameters), "the same parameters");
                       }),
              Each(""));
}

/// Everything that is called, by each of two ranks: the one that fails says what, the other does not wait for long.
TEST_F(NcclCommunicator, ACallThatFailsIsNamedAndEndsTheGroup) {
  const RankWork all = [](const std::shared_ptr<Communicator>& ranks) {
    std::vector<float> values(8, 1.0f), parts(16);
    ranks->all_reduce(values.data(), values.size(), DType::f32, Reduction::sum);
    const auto made = ranks->make_all_reduce(values.data(), values.size(), DType::f32, Reduction::sum);
    made->start();
    made->wait();
    ranks->all_gather(values.data(), parts.data(), 8 * sizeof(float));
    ranks->reduce_scatter(parts.data(), values.data(), 8, DType::f32, Reduction::sum);
    ranks->broadcast(values.data(), 8, 1);
    ranks->barrier();
  };
  EXPECT_THAT(on_ranks(2, all), Each(""));
  for (const char* call : {"ncclCommInitRankConfig", "ncclAllReduce", "ncclAllGather", "ncclReduceScatter",
                           "ncclBroadcast", "ncclCommGetAsyncError", "cudaSetDevice", "cudaStreamCreateWithFlags",
                           "cudaMalloc", "cudaMallocHost", "cudaMemcpyAsync", "cudaEventRecord", "cudaEventQuery"}) {
    const std::vector<std::string> errors = on_ranks_of_nccl(2, {.rank = 1, .call = call}, all, 300ms);
    EXPECT_THAT(errors[1], AnyOf(HasSubstr(std::string("expected ") + call + " to work, got "),
                                 AllOf(HasSubstr("to work, got unhandled system error"),
                                       ::testing::ResultOf([&](const std::string&) { return std::string(call); },
                                                           "ncclCommGetAsyncError"))))
        << call;
    EXPECT_THAT(errors[0], AnyOf(HasSubstr("all ranks to go on"), HasSubstr("another rank has gone"))) << call;
  }
  // What is left to end has no one to tell.
  EXPECT_THAT(on_ranks_of_nccl(2, {.rank = 1, .call = "ncclCommFinalize"}, all), Each(""));
}

TEST_F(NcclCommunicator, AnErrorThatIsFoundLaterIsOfAnotherRank) {
  for (const char* call : {"ncclAllReduce", "ncclBroadcast"}) {
    const std::vector<std::string> errors = on_ranks_of_nccl(
        3, {.rank = 2, .later = call},
        [](const auto& ranks) {
          float value = 1;
          ranks->broadcast(&value, sizeof value, 0);
          ranks->all_reduce(&value, 1, DType::f32, Reduction::sum);
          ranks->barrier();
        },
        2s);
    EXPECT_THAT(errors[2], AllOf(HasSubstr("remote process exited"), HasSubstr("another rank has gone"))) << call;
  }
}

TEST_F(NcclCommunicator, ARankThatDoesNotComeIsTakenForLost) {
  EXPECT_THAT(error_of([&] { nccl::NcclCommunicator(api, new_id(), 0, 2, {.limit = 50ms}); }),
              HasSubstr("expected all ranks to go on within 0.05 s, got no answer from one of them"));
  const std::vector<std::string> errors = on_ranks(
      2,
      [](const auto& ranks) {
        if (ranks->rank() == 0) ranks->barrier();
        std::this_thread::sleep_for(200ms);
      },
      50ms);
  EXPECT_THAT(errors[0], HasSubstr("no answer from one of them"));
}

/// By the connections that ranks keep: who waits learns it, and who does not has all that the rank took part in.
TEST_F(NcclCommunicator, ARankThatLeavesIsNamedAtOnce) {
  const nccl::MeetingPlace place{.host = {}, .service = fmt::format("halfstep-leaving-{}", getpid())};
  for (const bool all_leave : {true, false}) {
    const auto began = std::chrono::steady_clock::now();
    const std::vector<std::string> errors = on_threads(3, [&](int rank) {
      std::array<std::byte, sizeof(ncclUniqueId)> bytes{};
      if (rank == 0) bytes = std::bit_cast<decltype(bytes)>(new_id());
      nccl::Line line = nccl::broadcast_from_first(place, rank, 3, bytes, 20s);
      nccl::NcclCommunicator ranks(api, std::bit_cast<ncclUniqueId>(bytes), rank, 3, {.limit = 60s}, std::move(line));
      ranks.barrier();
      if (rank == 1) return;
      std::this_thread::sleep_for(50ms);
      if (!all_leave) ranks.barrier();
    });
    EXPECT_EQ(errors[1], "");
    for (const int rank : {0, 2})
      EXPECT_THAT(errors[static_cast<std::size_t>(rank)],
                  all_leave ? ::testing::Matcher<std::string>("")
                            : ::testing::Matcher<std::string>(HasSubstr("all ranks to go on, got rank 1 (")));
    EXPECT_LT(std::chrono::steady_clock::now() - began, 20s);
  }
}

TEST_F(NcclCommunicator, WhatIsGivenUpIsNotGoneOnWith) {
  emulation::forget_exit();
  const std::vector<std::string> errors = on_ranks(2, [](const auto& ranks) {
    std::vector<float> values(4);
    if (ranks->rank() == 1) {
      ranks->make_all_reduce(values.data(), 4, DType::f32, Reduction::sum)->start();  // its memory goes away
      ranks->barrier();
    }
    ranks->abort(3);
    ranks->barrier();
  });
  EXPECT_THAT(errors, Each(HasSubstr("an operation that was given up")));
  EXPECT_EQ(emulation::exit_code(), 3);
}

TEST_F(NcclCommunicator, RefusesElementsThatItCannotAddUp) {
  EXPECT_THAT(on_ranks(1,
                       [](const auto& ranks) {
                         bool value = true;
                         ranks->make_all_reduce(&value, 1, DType::boolean, Reduction::sum);
                       }),
              Each(HasSubstr("elements of f64, f32, bf16, f16, i64 or i32 to reduce")));
}

int free_port() {
  const int socket = ::socket(AF_INET, SOCK_STREAM, 0);
  sockaddr_in address{};
  address.sin_family = AF_INET;
  socklen_t length = sizeof address;
  EXPECT_EQ(bind(socket, reinterpret_cast<sockaddr*>(&address), length), 0);
  getsockname(socket, reinterpret_cast<sockaddr*>(&address), &length);
  close(socket);
  return ntohs(address.sin_port);
}

TEST(Rendezvous, GivesTheBytesOfRankZeroToAll) {
  const nccl::MeetingPlace places[] = {{.host = {}, .service = fmt::format("halfstep-test-{}", getpid())},
                                       {.host = "localhost", .service = fmt::format("{}", free_port())}};
  for (const nccl::MeetingPlace& place : places)
    for (const int size : {1, 2, 4})
      EXPECT_THAT(on_threads(size,
                             [&](int rank) {
                               if (rank == 0) std::this_thread::sleep_for(30ms);  // the others come first
                               std::array<std::byte, 128> bytes{};
                               if (rank == 0) bytes.fill(std::byte{42});
                               nccl::broadcast_from_first(place, rank, size, bytes, 20s);
                               test::require(bytes[0] == std::byte{42} && bytes[127] == std::byte{42}, "the bytes");
                             }),
                  Each(""))
          << place.service << ", " << size;
}

TEST(Rendezvous, IgnoresOthersAndNamesWhoIsMissing) {
  const nccl::MeetingPlace place{.host = "127.0.0.1", .service = fmt::format("{}", free_port())};
  std::array<std::byte, 4> bytes{};
  const std::vector<std::string> errors = on_threads(3, [&](int rank) {
    if (rank == 2) {  // is another program
      sockaddr_in address{};
      address.sin_family = AF_INET;
      address.sin_port = htons(static_cast<std::uint16_t>(std::stoi(place.service)));
      address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
      for (int tries = 0; tries < 100; ++tries) {
        const int socket = ::socket(AF_INET, SOCK_STREAM, 0);
        const bool is_there = connect(socket, reinterpret_cast<sockaddr*>(&address), sizeof address) == 0;
        if (is_there) {
          EXPECT_GT(send(socket, "GET / HTTP/1.1\r\nHost: halfstep\r\n\r\n", 34, MSG_NOSIGNAL), 0);
        }
        close(socket);
        if (is_there) return;
        std::this_thread::sleep_for(5ms);
      }
      return;
    }
    std::array<std::byte, 4> own{};
    nccl::broadcast_from_first(place, rank, 3, own, 500ms);
  });
  EXPECT_THAT(errors[0], AllOf(HasSubstr("127.0.0.1 port"), HasSubstr("2 of 3 ranks")));
  EXPECT_EQ(errors[1], "");
  EXPECT_THAT(error_of([&] { nccl::broadcast_from_first(place, 1, 2, bytes, 50ms); }), HasSubstr("within 0.05 s"));
}

/// A connection to the place, which sends this and stays.
class Stranger {
 public:
  Stranger(const nccl::MeetingPlace& place, const std::string& says) {
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_port = htons(static_cast<std::uint16_t>(std::stoi(place.service)));
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    for (int tries = 0; tries < 2000; ++tries) {
      socket_ = ::socket(AF_INET, SOCK_STREAM, 0);
      if (connect(socket_, reinterpret_cast<sockaddr*>(&address), sizeof address) == 0) break;
      close(std::exchange(socket_, -1));
      std::this_thread::sleep_for(1ms);
    }
    EXPECT_GE(socket_, 0);
    ::send(socket_, says.data(), says.size(), MSG_NOSIGNAL);  // all of it, or as much as is taken
  }
  ~Stranger() { close(socket_); }

 private:
  int socket_ = -1;
};

/// Those who say nothing, half of something or too much hold nobody up, however many they are.
TEST(Rendezvous, StrangersHoldNobodyUp) {
  const nccl::MeetingPlace place{
      .host = "127.0.0.1", .service = fmt::format("{}", free_port()), .secret = "of the job"};
  const auto began = std::chrono::steady_clock::now();
  std::vector<std::unique_ptr<Stranger>> strangers;
  EXPECT_THAT(on_threads(3,
                         [&](int rank) {
                           std::array<std::byte, 128> bytes{};
                           if (rank == 0) bytes.fill(std::byte{42});
                           if (rank == 1)
                             for (int i = 0; i < 100; ++i)
                               for (const std::string& says :
                                    {std::string(), std::string("halfstep-nccl-3"), std::string(100000, '\0')})
                                 strangers.push_back(std::make_unique<Stranger>(place, says));
                           if (rank == 2) std::this_thread::sleep_for(100ms);
                           nccl::broadcast_from_first(place, rank, 3, bytes, 300s);
                           test::require(bytes[0] == std::byte{42} && bytes[127] == std::byte{42}, "the bytes");
                         }),
              Each(""));
  EXPECT_LT(std::chrono::steady_clock::now() - began, 300s) << "the 100 that are silent would take 500 s";
}

TEST(Rendezvous, ARankOfAnotherJobGetsNothing) {
  const nccl::MeetingPlace place{
      .host = "127.0.0.1", .service = fmt::format("{}", free_port()), .secret = "of the job"};
  nccl::MeetingPlace other = place;
  other.secret = "of the jab";
  std::array<std::byte, 4> given{};
  std::vector<std::string> errors;
  // A machine with other work may need longer until the two have met.
  for (auto limit = 500ms; limit < 100s; limit *= 4) {
    errors = on_threads(2, [&](int rank) {
      std::array<std::byte, 4> bytes{std::byte{42}};
      if (rank == 1) bytes = {};
      try {
        nccl::broadcast_from_first(rank == 0 ? place : other, rank, 2, bytes, limit);
      } catch (const Error&) {
        if (rank == 1) given = bytes;
        throw;
      }
    });
    if (errors[0].find("connections of other") != std::string::npos) break;
  }
  EXPECT_THAT(errors[0], AllOf(HasSubstr("1 of 2 ranks"), HasSubstr("connections of other programs, jobs or secrets")));
  EXPECT_THAT(errors[1], HasSubstr("HALFSTEP_SECRET"));
  EXPECT_EQ(given[0], std::byte{0});
}

/// Rank 0's place may be another program's: what that says is not taken for the bytes.
TEST(Rendezvous, AnotherProgramIsNotRankZero) {
  for (const std::string& says :
       {std::string(), std::string("HTTP/1.1 400 Bad Request\r\n\r\n") + std::string(500, 'x'),
        std::string("halfstep-nccl-3\0\xff\xff\xff\xff\xff\xff\xff\x7f", 24) + "more"}) {
    const nccl::MeetingPlace place{.host = "127.0.0.1", .service = fmt::format("{}", free_port())};
    const int listener = ::socket(AF_INET, SOCK_STREAM, 0);
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_port = htons(static_cast<std::uint16_t>(std::stoi(place.service)));
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    ASSERT_EQ(bind(listener, reinterpret_cast<sockaddr*>(&address), sizeof address), 0);
    ASSERT_EQ(listen(listener, 8), 0);
    std::atomic<bool> ends = false;
    std::thread program([&] {
      std::vector<int> sockets;
      while (!ends) {
        pollfd wanted{listener, POLLIN, 0};
        if (poll(&wanted, 1, 10) <= 0) continue;
        sockets.push_back(accept(listener, nullptr, nullptr));
        ::send(sockets.back(), says.data(), says.size(), MSG_NOSIGNAL);
      }
      for (const int socket : sockets) close(socket);
    });
    std::array<std::byte, 4> bytes{};
    EXPECT_THAT(error_of([&] { nccl::broadcast_from_first(place, 1, 2, bytes, 200ms); }),
                HasSubstr("another program, or a rank 0 of another job or secret"));
    ends = true;
    program.join();
    close(listener);
    EXPECT_EQ(bytes[0], std::byte{0});
  }
}

TEST(Rendezvous, IsWhereTheLauncherSays) {
  std::map<std::string, std::string> variables;
  const auto variable = [&](const char* name) {
    const auto at = variables.find(name);
    return at == variables.end() ? nullptr : at->second.c_str();
  };
  const Launch here{.launcher = "mpirun", .rank = 0, .size = 2, .local_rank = 0, .local_size = 2};
  Launch elsewhere = here;
  elsewhere.size = 4;
  EXPECT_EQ(nccl::meeting_place(here, variable).host, "");
  EXPECT_THAT(error_of([&] { nccl::meeting_place(elsewhere, variable); }), HasSubstr("MASTER_ADDR and MASTER_PORT"));
  variables = {{"MASTER_ADDR", "node1"}, {"MASTER_PORT", "29500"}};
  for (const Launch& launch : {here, elsewhere}) {
    EXPECT_EQ(nccl::meeting_place(launch, variable).host, "node1");
    EXPECT_EQ(nccl::meeting_place(launch, variable).service, "29501");
  }
  EXPECT_EQ(nccl::meeting_place(here, variable).secret, "");
  variables["SLURM_JOB_ID"] = "77";
  const std::string of_slurm = nccl::meeting_place(here, variable).secret;
  variables["HALFSTEP_SECRET"] = "77";
  const std::string own = nccl::meeting_place(elsewhere, variable).secret;
  EXPECT_THAT(of_slurm, HasSubstr("77"));
  EXPECT_NE(own, of_slurm);
  // Where a launcher has started a torchrun on each machine its variables may differ between them.
  variables = {{"MASTER_ADDR", "node1"}, {"MASTER_PORT", "29500"}, {"TORCHELASTIC_RUN_ID", "run"}};
  Launch torchrun = elsewhere;
  torchrun.launcher = "torchrun";
  variables["PMIX_NAMESPACE"] = "step.1";
  const std::string on_first = nccl::meeting_place(torchrun, variable).secret;
  EXPECT_THAT(nccl::meeting_place(elsewhere, variable).secret, HasSubstr("step.1"));
  variables["PMIX_NAMESPACE"] = "step.2";
  EXPECT_EQ(nccl::meeting_place(torchrun, variable).secret, on_first);
  EXPECT_THAT(on_first, HasSubstr("run"));
  for (const char* port : {"", "0", "65535", "port", "29500x"}) {
    variables["MASTER_PORT"] = port;
    EXPECT_THAT(error_of([&] { nccl::meeting_place(here, variable); }), HasSubstr("a port from 1 to 65534")) << port;
  }
}

}  // namespace
}  // namespace halfstep
