// Run by mpirun: the communicator of MPI against what every communicator promises. With "stall" rank 1 does not come,
// with "throw" an exception ends it, also while a sum is under way with "between", and with "own" the program starts
// MPI itself. With "busy" rank 1 computes for longer than a heartbeat may be missing, with "freeze" it is stopped while
// the others wait, with "alone" while they compute, and with "sleep" all are. With "leave" and "exit" rank 1 leaves
// while the others wait, with "after" once it has done its part, and with "leak" all leave by exit. With "broken" MPI
// fails on rank 1 while it computes, and with "held" a sum is given up, which goes on when the program calls MPI. With
// "late" a sum is destroyed when the process has left, and with "fork" a fork destroys the communicator.
#include <algorithm>
#include <atomic>
#include <chrono>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <exception>
#include <memory>
#include <string_view>
#include <thread>
#include <vector>

#include <mpi.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/distributed/communicator_checks.h"
#include <halfstep/distributed/registry.h>

namespace {

using namespace halfstep;
using namespace std::chrono_literals;

std::atomic<bool> irecv_fails = false, test_sees_nothing = false;

int check_in_own_mpi() {
  int given = 0;
  if (MPI_Init_thread(nullptr, nullptr, MPI_THREAD_MULTIPLE, &given) != MPI_SUCCESS || given != MPI_THREAD_MULTIPLE)
    return 1;
  {
    const auto ranks = open_communicator("mpi", {.limit = std::chrono::seconds(60)});
    try {
      open_communicator("mpi");
    } catch (const Error& error) {
      const bool is_refused = std::string_view(error.what()).find("is open already") != std::string_view::npos;
      std::printf("second: %s\n", is_refused ? "none" : error.what());
    }
    // What the program itself sends is no part of it.
    int own = 1, sum = 0;
    MPI_Request request;
    MPI_Iallreduce(&own, &sum, 1, MPI_INT, MPI_SUM, MPI_COMM_WORLD, &request);
    test::check_communicator(*ranks);
    MPI_Wait(&request, MPI_STATUS_IGNORE);
    test::require(sum == ranks->size(), "the program's own sum");
  }
  int is_ended = 0;
  MPI_Finalized(&is_ended);
  test::require(is_ended == 0, "MPI to be left to the program");
  MPI_Finalize();
  std::printf("the program is done\n");
  return 0;
}

/// What a sum that was given up still writes, as soon as the program calls MPI, is not the memory of the sum.
int check_held() {
  int given = 0;
  MPI_Init_thread(nullptr, nullptr, MPI_THREAD_MULTIPLE, &given);
  const auto ranks = open_communicator("mpi", {.limit = 8s, .heartbeat = 0s});
  std::vector<float> values(4 << 20, 1.0f);
  const auto sum = ranks->make_all_reduce(values.data(), values.size(), DType::f32, Reduction::sum);
  sum->start();
  sum->wait();
  ranks->barrier();
  test_sees_nothing = true;
  sum->start();
  try {
    sum->wait();
    std::printf("the sum was not held\n");
  } catch (const SharedError&) {
  }
  std::ranges::fill(values, 42.0f);
  for (int i = 0; i < 100; ++i) {
    MPI_Barrier(MPI_COMM_WORLD);
    std::this_thread::sleep_for(5ms);
  }
  const bool is_own = std::ranges::all_of(values, [](float value) { return value == 42.0f; });
  std::printf("memory is %s\n", is_own ? "untouched" : "written");
  std::fflush(stdout);
  MPI_Barrier(MPI_COMM_WORLD);
  ranks->abort(7);
  return 7;
}

// Made before, and so destroyed after, the process leaves the others at its exit.
std::shared_ptr<Communicator> late_ranks;
std::vector<float> late_values(1 << 20, 1.0f);
std::unique_ptr<AllReduce> late_sum;

int check_late() {
  late_ranks = open_communicator("mpi", {.limit = 60s});
  late_ranks->barrier();
  late_sum = late_ranks->make_all_reduce(late_values.data(), late_values.size(), DType::f32, Reduction::sum);
  if (late_ranks->rank() != 1) late_sum->start();
  std::printf("rank %d is done\n", late_ranks->rank());
  std::fflush(stdout);
  return 0;
}

int check_fork() {
  auto ranks = open_communicator("mpi", {.limit = 60s});
  ranks->barrier();
  const pid_t child = fork();
  if (child == 0) {
    ranks.reset();
    _exit(0);
  }
  int status = -1;
  test::require(waitpid(child, &status, 0) == child && status == 0, "a fork that ends");
  ranks->barrier();
  std::printf("rank %d is done\n", ranks->rank());
  return 0;
}

/// Rank 1 leaves, and the others wait for it.
int check_leaving(std::string_view mode) {
  auto ranks = open_communicator("mpi", {.limit = 100s, .heartbeat = 0s});
  try {
    int value = ranks->rank();
    if (mode == "after") {  // rank 1 has left before the others ask for what it gave
      if (ranks->rank() != 1) std::this_thread::sleep_for(2s);
      ranks->broadcast(&value, sizeof value, 1);
      test::require(value == 1, "what rank 1 gave");
    } else {
      ranks->barrier();
      if (ranks->rank() != 1 && mode != "leak") ranks->barrier();
    }
    std::printf("rank %d is done\n", ranks->rank());
    std::fflush(stdout);
    if (mode == "exit" || mode == "leak") {
      new std::shared_ptr<Communicator>(std::move(ranks));
      std::exit(0);
    }
    return 0;
  } catch (const Error& error) {
    std::printf("rank %d: %s\n", ranks->rank(), error.without_hint().c_str());
    std::fflush(stdout);
    ranks->abort(7);
    return 7;
  }
}

volatile std::sig_atomic_t was_woken = 0;

/// All are stopped for a while, by who has started them, and each in the middle of what it does.
void sleep_with_others(Communicator& ranks) {
  std::signal(SIGCONT, [](int) { was_woken = 1; });
  std::printf("rank %d is there\n", ranks.rank());
  std::fflush(stdout);
  while (ranks.rank() == 1 && !was_woken) std::this_thread::sleep_for(100ms);
  ranks.barrier();
}

int check_heartbeat(std::string_view mode) {
  const auto ranks = open_communicator("mpi", {.limit = mode == "sleep" ? 6s : 60s,
                                               .heartbeat = mode == "sleep" ? 3s : 2s,
                                               .on_loss = [](const SharedError& error) {
                                                 std::printf("told: %s\n", error.without_hint().c_str());
                                                 std::fflush(stdout);
                                                 return 9;
                                               }});
  try {
    ranks->barrier();
    if (ranks->rank() == 1 && mode == "busy") std::this_thread::sleep_for(6s);
    if (mode == "sleep") sleep_with_others(*ranks);
    if (mode == "broken") {
      irecv_fails = ranks->rank() == 1;
      std::this_thread::sleep_for(1s);
    }
    if (ranks->rank() == 1 && (mode == "freeze" || mode == "alone")) std::raise(SIGSTOP);
    if (mode == "alone") std::this_thread::sleep_for(60s);
    ranks->barrier();
    std::printf("rank %d is done\n", ranks->rank());
    return 0;
  } catch (const Error& error) {
    std::printf("rank %d: %s\n", ranks->rank(), error.without_hint().c_str());
    std::fflush(stdout);
    ranks->abort(7);
    return 7;
  }
}

}  // namespace

// In place of the library's own, which halfstep's plug-in calls.
extern "C" int MPI_Irecv(void* to, int count, MPI_Datatype type, int source, int tag, MPI_Comm group,
                         MPI_Request* request) {
  return irecv_fails ? MPI_ERR_OTHER : PMPI_Irecv(to, count, type, source, tag, group, request);
}
extern "C" int MPI_Test(MPI_Request* request, int* flag, MPI_Status* status) {
  if (!test_sees_nothing) return PMPI_Test(request, flag, status);
  *flag = 0;
  return MPI_SUCCESS;
}

int main(int argc, char** argv) {
  const std::string_view mode = argc > 1 ? argv[1] : "";
  const bool stalls = mode == "stall";
  try {
    if (mode == "own") return check_in_own_mpi();
    if (mode == "held") return check_held();
    if (mode == "late") return check_late();
    if (mode == "fork") return check_fork();
    if (mode == "leave" || mode == "exit" || mode == "after" || mode == "leak") return check_leaving(mode);
    if (mode == "busy" || mode == "freeze" || mode == "alone" || mode == "sleep" || mode == "broken")
      return check_heartbeat(mode);
    const auto ranks = open_communicator("mpi", {.limit = std::chrono::milliseconds(stalls ? 500 : 60000)});
    test::require(ranks != nullptr, "a communicator");
    if (mode == "throw") {
      if (ranks->rank() == 1) throw_input_error("good data", "bad data", "");
      ranks->barrier();
    }
    if (mode == "between") {
      std::vector<float> values(1 << 20, 1);
      const auto sum = ranks->make_all_reduce(values.data(), values.size(), DType::f32, Reduction::sum);
      sum->start();
      if (ranks->rank() == 1) throw_input_error("good data", "bad data", "");
      sum->wait();
      ranks->barrier();
    }
    if (!stalls) {
      test::check_communicator(*ranks);
      std::printf("rank %d of %d is done\n", ranks->rank(), ranks->size());
      return 0;
    }
    try {
      if (ranks->rank() == 1) std::this_thread::sleep_for(std::chrono::seconds(30));
      ranks->barrier();
    } catch (const Error& error) {
      std::printf("rank %d: %s\n", ranks->rank(), error.without_hint().c_str());
      std::fflush(stdout);
      ranks->abort(7);
    }
    return 0;
  } catch (const std::exception& error) {
    std::printf("failed: %s\n", error.what());
    return 1;
  }
}
