// Run by mpirun: the communicator of MPI against what every communicator promises. With "stall" rank 1 does not come,
// with "throw" an exception ends it, also while a sum is under way with "between", and with "own" the program starts
// MPI itself. With "busy" rank 1 computes for longer than a heartbeat may be missing, with "freeze" it is stopped while
// the others wait, and with "alone" while they compute.
#include <chrono>
#include <csignal>
#include <cstdio>
#include <exception>
#include <string_view>
#include <thread>
#include <vector>

#include <mpi.h>

#include "tests/distributed/communicator_checks.h"
#include <halfstep/distributed/registry.h>

namespace {

using namespace halfstep;

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

int check_heartbeat(std::string_view mode) {
  using namespace std::chrono_literals;
  const auto ranks = open_communicator("mpi", {.limit = 60s, .heartbeat = 2s, .on_loss = [](const SharedError& error) {
                                                 std::printf("told: %s\n", error.without_hint().c_str());
                                                 std::fflush(stdout);
                                                 return 9;
                                               }});
  try {
    ranks->barrier();
    if (ranks->rank() == 1 && mode == "busy") std::this_thread::sleep_for(6s);
    if (ranks->rank() == 1 && mode != "busy") std::raise(SIGSTOP);
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

int main(int argc, char** argv) {
  const std::string_view mode = argc > 1 ? argv[1] : "";
  const bool stalls = mode == "stall";
  try {
    if (mode == "own") return check_in_own_mpi();
    if (mode == "busy" || mode == "freeze" || mode == "alone") return check_heartbeat(mode);
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
