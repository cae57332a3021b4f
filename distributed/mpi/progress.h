// The thread that calls MPI, and no other does: so the simplest kind of MPI library will do, and an all-reduce goes on
// while the ranks compute, which it does within calls alone.
#pragma once

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <exception>
#include <functional>
#include <mutex>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include <mpi.h>

#include "distributed/mpi/check.h"
#include "distributed/mpi/heartbeat.h"
#include <halfstep/distributed/communicator.h>
#include <halfstep/distributed/registry.h>

namespace halfstep::mpi {

/// Something to be done by MPI, again and again.
class Operation {
 public:
  /// `begin` starts it and gives its requests.
  explicit Operation(std::function<void(std::vector<MPI_Request>&)> begin) : begin_(std::move(begin)) {}

  /// To be asked after `Progress::wait`.
  std::chrono::steady_clock::time_point done_at() const { return done_at_; }

 private:
  friend class Progress;
  std::function<void(std::vector<MPI_Request>&)> begin_;
  std::vector<MPI_Request> requests_;
  bool is_done_ = true;
  std::chrono::steady_clock::time_point done_at_;
  std::exception_ptr failure_;
};

class Progress {
 public:
  /// Starts MPI, unless the program has; `after` runs in its thread then. Throws what went wrong.
  Progress(CommunicatorOptions options, std::function<void()> after);
  /// Ends MPI where it was started here and nothing went wrong. Where an exception destroys it, the other ranks may be
  /// anywhere: it does not wait for them, and the launcher ends them when this process ends.
  ~Progress();
  Progress(const Progress&) = delete;
  Progress& operator=(const Progress&) = delete;

  /// All processes, apart from what the program itself does with MPI.
  MPI_Comm group() const { return group_; }

  void start(Operation& operation);
  /// Throws SharedError(failure) where it takes longer than the limit, and as soon as a rank is lost.
  void wait(Operation& operation);
  /// To be called where an operation that is under way, or its memory, goes away: nothing is done by MPI from then on.
  void lose(const Operation& operation) noexcept;
  /// Ends all ranks, and so this process.
  void abort(int exit_code) noexcept;

 private:
  void begin();
  void end();
  void work(const std::function<void()>& after);
  void advance(std::unique_lock<std::mutex>& lock);
  void stop(std::unique_lock<std::mutex>& lock);
  /// Looks whether a rank is lost, which it tells who waits. Returns the code to end all with, where nobody comes.
  std::optional<int> watch(std::unique_lock<std::mutex>& lock);

  const CommunicatorOptions options_;
  const int exceptions_ = std::uncaught_exceptions();
  MPI_Comm group_ = MPI_COMM_NULL;
  bool starts_mpi_ = false;
  std::mutex mutex_;
  std::condition_variable wanted_, done_;
  std::vector<Operation*> waiting_, active_;
  bool is_ready_ = false, ends_ = false;
  bool is_lost_ = false, is_stopped_ = false;  // is not to call MPI any more, and does not
  bool is_left_ = false;                       // by an exception
  int abort_code_ = -1;
  std::exception_ptr failure_;          // of the start
  std::optional<Heartbeat> heartbeat_;  // the thread's
  std::optional<SharedError> loss_;     // of a rank
  std::chrono::steady_clock::time_point lost_at_;
  std::thread thread_;
};

}  // namespace halfstep::mpi
