#include "cli/ranks.h"

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <exception>
#include <new>
#include <thread>

#include <fcntl.h>
#include <nlohmann/json.hpp>
#include <unistd.h>

#include "cli/common.h"
#include "cli/validators.h"
#include "distributed/shared_errors.h"
#include <halfstep/base/error.h>
#include <halfstep/distributed/launcher.h>
#include <halfstep/distributed/registry.h>

namespace halfstep::cli {
namespace {

constexpr int kFailed = 1, kWrongInput = 2;

constexpr const char* kRankedCommands[] = {"train", "profile", "bench-communication", "devices"};

/// How long a rank leaves it to those before it to tell what they meet as well, and to end all.
std::chrono::milliseconds precedence_of(int rank) {
  return rank == 0 ? std::chrono::milliseconds(0)
                   : std::chrono::milliseconds(1500) + 50 * std::chrono::milliseconds(rank);
}

/// The process's standard output, whatever lies in its place while a rank works: nothing on all but the first.
class Output {
 public:
  void keep() { kept_ = fcntl(STDOUT_FILENO, F_DUPFD_CLOEXEC, 0); }
  void throw_away() const {
    std::fflush(stdout);
    const int nowhere = open("/dev/null", O_WRONLY | O_CLOEXEC);
    if (nowhere < 0) return;
    dup2(nowhere, STDOUT_FILENO);
    close(nowhere);
  }
  void restore() const {
    std::fflush(stdout);
    if (kept_ >= 0) dup2(kept_, STDOUT_FILENO);
  }

 private:
  int kept_ = -1;
} output;

/// What has ended all ranks, once, and as the document that standard output lacks.
void tell(const Error& error, bool json) {
  print_error(error);
  output.restore();
  if (json && !json_was_printed()) print_json({{"error", error_json(error)}});
  std::fflush(stdout);
  std::fflush(stderr);
}

int end_all(Communicator& ranks, bool json, const Error& error) {
  std::this_thread::sleep_for(precedence_of(ranks.rank()));
  const int exit_code = error.kind() == Error::Kind::input ? kWrongInput : kFailed;
  tell(of_rank(ranks.rank(), error), json);
  ranks.abort(exit_code);
  return exit_code;
}

/// For a rank that computes on while another is lost.
int tell_loss(const SharedError& loss, bool json) {
  const std::optional<Launch> launch = find_launch();
  std::this_thread::sleep_for(precedence_of(launch ? launch->rank : 0));
  tell(loss, json);
  return kFailed;
}

}  // namespace

void RankFlags::add_to(CLI::App& command, CLI::Option* training) {
  std::vector<CLI::Option*> options;
  options.push_back(
      command
          .add_option("--distributed", distributed,
                      "communication between the ranks of mpirun or srun: mpi, auto (mpi if there are several ranks), "
                      "nccl (one GPU per rank, also with torchrun), off (each trains by itself); --batch is the number "
                      "of rows of all ranks together")
          ->capture_default_str()
          ->check(one_of({"mpi", "nccl", "auto", "off"})));
  options.push_back(
      command.add_option("--bucket-size", bucket_size, "minimum megabytes of gradients in one all-reduce")
          ->capture_default_str()
          ->check(number_in(0, 1e6)));
  options.push_back(
      command.add_flag("--sync-batchnorm", sync_batchnorm,
                       "BatchNormalization uses the statistics of the rows of all ranks instead of each rank's own"));
  options.push_back(
      command
          .add_option("--distributed-timeout", timeout, "seconds that a rank waits for others that compute or write")
          ->capture_default_str()
          ->check(number_in(kShortestLimit, kLongestLimit)));
  options.push_back(
      command
          .add_option(
              "--heartbeat-timeout", heartbeat,
              "seconds without a heartbeat after which a rank is considered lost, whatever it computes; 0: never")
          ->capture_default_str()
          ->check(number_in(0, kLongestHeartbeat)));
  if (training)
    for (CLI::Option* option : options) option->needs(training);
}

std::shared_ptr<Communicator> RankFlags::open(bool json, const std::string& device) const {
  CommunicatorOptions options = with_limits(timeout, heartbeat);
  options.on_loss = [json](const SharedError& loss) { return tell_loss(loss, json); };
  options.device = device;
  return open_communicator(distributed, options);
}

int on_rank(Communicator& ranks, bool json, const std::function<int()>& work) {
  output.keep();
  if (ranks.rank() > 0) {
    output.throw_away();
    mute_messages();
  }
  try {
    return work();
  } catch (const Error& error) {
    return end_all(ranks, json, error);
  } catch (const std::bad_alloc&) {
    return end_all(ranks, json,
                   Error(Error::Kind::failure, "enough memory", "none left", "a smaller batch needs less"));
  } catch (const std::exception& error) {
    return end_all(ranks, json, Error(Error::Kind::failure, "work without an error of a library", error.what(), ""));
  }
}

void let_first_rank_tell(const std::vector<std::string>& arguments) {
  const auto starts_ranks = [&](const char* command) { return arguments[0] == command; };
  if (arguments.empty() || std::ranges::none_of(kRankedCommands, starts_ranks)) return;
  const std::optional<Launch> launch = find_launch();
  if (launch && launch->rank > 0) std::this_thread::sleep_for(std::chrono::seconds(1) + precedence_of(launch->rank));
}

}  // namespace halfstep::cli
