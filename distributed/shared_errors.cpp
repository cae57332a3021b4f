#include "distributed/shared_errors.h"

#include <fmt/format.h>
#include <unistd.h>

#include "distributed/topology.h"

namespace halfstep {
namespace {

constexpr const char* kAllGoOn = "all ranks to go on";

}  // namespace

std::string name_of_own_process(int rank) { return fmt::format("rank {} ({}, pid {})", rank, host_name(), getpid()); }

std::string seconds_text(std::chrono::milliseconds limit) {
  return fmt::format("{:g} s", std::chrono::duration<double>(limit).count());
}

SharedError of_rank(int rank, const Error& error) {
  if (const auto* shared = dynamic_cast<const SharedError*>(&error)) return *shared;
  return {error.kind(), error.required(), fmt::format("{}, on rank {}", error.found(), rank), error.remedy()};
}

SharedError rank_has_left(const std::string& missing) {
  return {Error::Kind::failure, kAllGoOn, missing,
          "its program has returned or exited, or an error was caught: all ranks leave together"};
}

SharedError operation_given_up() { return {Error::Kind::failure, kAllGoOn, "an operation that was given up", ""}; }

SharedError no_answer(std::chrono::milliseconds limit) {
  return {Error::Kind::failure, fmt::format("{} within {}", kAllGoOn, seconds_text(limit)),
          "no answer from one of them", "a rank hangs or computes for long: --distributed-timeout is the limit"};
}

SharedError no_sign_of_life(const std::string& silent, std::chrono::milliseconds limit) {
  return {Error::Kind::failure, fmt::format("a heartbeat from every rank within {}", seconds_text(limit)),
          fmt::format("nothing from {} for {}", silent, seconds_text(limit)),
          "its process is stopped, or its machine or network is gone: --heartbeat-timeout is the limit"};
}

}  // namespace halfstep
