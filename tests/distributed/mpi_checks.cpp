// Run by mpirun: the communicator of MPI against what every communicator promises. With "stall" rank 1 does not come,
// with "throw" an exception ends it, and with "own" the program starts MPI itself.
#include <chrono>
#include <cstdio>
#include <exception>
#include <string_view>
#include <thread>

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

}  // namespace

int main(int argc, char** argv) {
  const std::string_view mode = argc > 1 ? argv[1] : "";
  const bool stalls = mode == "stall";
  try {
    if (mode == "own") return check_in_own_mpi();
    const auto ranks = open_communicator("mpi", {.limit = std::chrono::milliseconds(stalls ? 500 : 60000)});
    test::require(ranks != nullptr, "a communicator");
    if (mode == "throw") {
      if (ranks->rank() == 1) throw_input_error("good data", "bad data", "");
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
