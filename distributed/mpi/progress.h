// The thread that calls MPI, and no other does: so the simplest kind of MPI library will do, and an all-reduce goes on
// while the ranks compute, which it does within calls alone.
#pragma once

#include <chrono>
#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <exception>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include <mpi.h>
#include <sys/types.h>

#include "distributed/mpi/heartbeat.h"
#include <halfstep/distributed/communicator.h>
#include <halfstep/distributed/registry.h>

namespace halfstep::mpi {

/// What an operation reads and writes. The same place twice: it is made in place.
struct Places {
  const void* from = nullptr;
  std::size_t from_bytes = 0;
  void* to = nullptr;
  std::size_t to_bytes = 0;
};

/// Something to be done by MPI, again and again.
class Operation {
 public:
  /// Starts it and gives its requests.
  using Begin = std::function<void(const void* from, void* to, std::vector<MPI_Request>& requests)>;
  Operation(Places places, Begin begin) : places_(places), begin_(std::move(begin)) {}
  Operation(Operation&&) = default;
  Operation& operator=(Operation&&) = delete;
  /// Where it is given up, memory of its own is left to MPI.
  ~Operation();

  /// To be asked after `Progress::wait`.
  std::chrono::steady_clock::time_point done_at() const { return done_at_; }

 private:
  friend class Progress;
  /// Has it work in memory of its own.
  void move_in();
  void begin();
  void leave_memory();

  Places places_;
  Begin begin_;
  std::unique_ptr<std::byte[]> own_from_, own_to_;
  std::uint64_t number_ = 0;  // in the order in which this rank, as all, starts them
  std::vector<MPI_Request> requests_;
  bool is_done_ = true;
  std::chrono::steady_clock::time_point done_at_;
  std::exception_ptr failure_;
};

class Progress {
 public:
  /// Starts MPI, unless the program has; `after` runs in its thread then. Throws what went wrong.
  Progress(CommunicatorOptions options, std::function<void(MPI_Comm group)> after);
  ~Progress() { end(); }
  Progress(const Progress&) = delete;
  Progress& operator=(const Progress&) = delete;

  /// All processes, apart from what the program itself does with MPI.
  MPI_Comm group() const { return group_; }

  /// Whether this process is a fork of the one that has made it: it lacks the thread, and is to leave all as it is.
  bool is_fork() const;

  void start(Operation& operation);
  /// Throws SharedError(failure) where it takes longer than the limit, and as soon as a rank is lost or has left.
  void wait(Operation& operation);
  /// To be called where an operation that is under way or has failed, or its memory, goes away: nothing is done by MPI
  /// from then on.
  void lose(const Operation& operation) noexcept;
  /// Ends all ranks, and so this process.
  void abort(int exit_code) noexcept;
  /// Tells the others that this rank leaves, and ends MPI where it was started here and nothing went wrong, once all
  /// have left. Within the handling of an exception the others may be anywhere: it does not wait for them.
  void end() noexcept;

 private:
  void begin();
  void end_mpi();
  void work(const std::function<void(MPI_Comm group)>& after);
  /// Until this rank leaves, or all are to end.
  void advance(std::unique_lock<std::mutex>& lock);
  void leave(std::unique_lock<std::mutex>& lock);
  void stop(std::unique_lock<std::mutex>& lock);
  /// Forgets those that are under way.
  void drop_operations();
  /// Looks whether a rank is lost or has left, which it tells who waits. Returns the code to end all with, where nobody
  /// comes.
  std::optional<int> watch(std::unique_lock<std::mutex>& lock);
  bool is_out_of_reach(const Operation& operation) const {
    return loss_ || (leaver_ && operation.number_ >= leaver_->operations);
  }
  /// Why an operation is out of reach.
  SharedError reason() const;

  const CommunicatorOptions options_;
  const pid_t process_;
  const int exceptions_ = std::uncaught_exceptions();
  MPI_Comm group_ = MPI_COMM_NULL;
  bool starts_mpi_ = false;
  std::mutex mutex_;
  std::condition_variable wanted_, done_;
  std::vector<Operation*> waiting_, active_;
  std::uint64_t started_ = 0, first_dropped_ = UINT64_MAX;  // operations, by number
  bool is_ready_ = false, ends_ = false;
  bool is_lost_ = false, is_stopped_ = false;  // is not to call MPI any more, and does not
  bool is_over_ = false;                       // the thread does nothing more
  bool is_left_ = false;                       // by an exception
  int abort_code_ = -1;
  std::exception_ptr failure_;          // of the start
  std::optional<Heartbeat> heartbeat_;  // the thread's
  std::optional<SharedError> loss_;     // of a rank
  std::optional<Heartbeat::Leaver> leaver_;
  std::chrono::steady_clock::time_point lost_at_;
  std::thread thread_;
};

}  // namespace halfstep::mpi
