#include "distributed/mpi/progress.h"

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <utility>

#include <fmt/format.h>
#include <unistd.h>

#include "distributed/mpi/check.h"
#include "distributed/shared_errors.h"
#include "distributed/waiting.h"
#include <halfstep/base/error.h>

namespace halfstep::mpi {
namespace {

using Clock = std::chrono::steady_clock;
using namespace std::chrono_literals;

bool are_done(std::vector<MPI_Request>& requests) {
  bool all = true;
  for (MPI_Request& request : requests) {
    int flag = 0;
    check(MPI_Test(&request, &flag, MPI_STATUS_IGNORE), "an operation of MPI");
    all = all && flag;
  }
  return all;
}

}  // namespace

void check(int code, const char* call) {
  if (code == MPI_SUCCESS) return;
  char text[MPI_MAX_ERROR_STRING] = {};
  int length = 0;
  MPI_Error_string(code, text, &length);
  throw_failure(fmt::format("{} to work", call), std::string(text, static_cast<std::size_t>(length)),
                "see what the launcher printed");
}

Operation::~Operation() {
  if (!is_done_) leave_memory();
}

void Operation::leave_memory() {
  own_from_.release();
  own_to_.release();
}

void Operation::move_in() {
  const auto memory = [](std::size_t bytes) { return std::make_unique_for_overwrite<std::byte[]>(bytes); };
  // Else they may share a beginning: MPI is given them apart.
  const bool in_place = places_.from == places_.to && places_.from_bytes == places_.to_bytes;
  if (!own_to_) own_to_ = memory(places_.to_bytes);
  if (!own_from_ && !in_place) own_from_ = memory(places_.from_bytes);
  if (places_.from_bytes > 0) std::memcpy(in_place ? own_to_.get() : own_from_.get(), places_.from, places_.from_bytes);
}

void Operation::begin() {
  requests_.clear();
  void* to = own_to_ ? own_to_.get() : places_.to;
  const void* from = own_from_ ? own_from_.get() : own_to_ ? own_to_.get() : places_.from;
  begin_(from, to, requests_);
}

Progress::Progress(CommunicatorOptions options, std::function<void(MPI_Comm group)> after)
    : options_(std::move(options)), process_(getpid()) {
  thread_ = std::thread([this, after = std::move(after)] { work(after); });
  std::unique_lock lock(mutex_);
  done_.wait(lock, [&] { return is_ready_; });
  if (!failure_) return;
  lock.unlock();
  thread_.join();
  std::rethrow_exception(failure_);
}

void Progress::end() noexcept {
  // MPI itself may end the process from its thread. A fork has none.
  if (is_fork() || !thread_.joinable() || thread_.get_id() == std::this_thread::get_id()) return;
  {
    const std::lock_guard lock(mutex_);
    ends_ = true;
    is_left_ = std::uncaught_exceptions() > exceptions_;
  }
  wanted_.notify_one();
  thread_.join();
}

SharedError Progress::reason() const {
  if (loss_) return *loss_;
  return rank_has_left(leaver_->name + ", which has left");
}

bool Progress::is_fork() const { return getpid() != process_; }

void Progress::start(Operation& operation) {
  if (is_fork()) throw_failure("the process that has opened the communicator", "a fork of it", "");
  // What MPI still does when an operation is given up, as soon as the program calls it, is done to no memory of others.
  if (!starts_mpi_) operation.move_in();
  {
    const std::lock_guard lock(mutex_);
    operation.number_ = started_;
    if (is_out_of_reach(operation)) throw reason();
    if (is_lost_ || ends_) throw operation_given_up();
    ++started_;
    operation.is_done_ = false;
    waiting_.push_back(&operation);
  }
  wanted_.notify_one();
}

void Progress::wait(Operation& operation) {
  std::unique_lock lock(mutex_);
  const bool comes = wait_running(done_, lock, options_.limit,
                                  [&] { return operation.is_done_ || is_out_of_reach(operation) || is_stopped_; });
  const bool is_done = operation.is_done_;
  if (!is_done) stop(lock);
  if (!is_done && is_out_of_reach(operation)) throw reason();
  if (!comes) throw no_answer(options_.limit);
  if (!is_done) throw operation_given_up();
  if (operation.failure_) {
    stop(lock);
    std::rethrow_exception(std::exchange(operation.failure_, nullptr));
  }
  if (operation.own_to_ && operation.places_.to_bytes > 0)
    std::memcpy(operation.places_.to, operation.own_to_.get(), operation.places_.to_bytes);
}

void Progress::lose(const Operation& operation) noexcept {
  if (is_fork()) return;
  std::unique_lock lock(mutex_);
  if (!operation.is_done_ || operation.failure_) stop(lock);
}

void Progress::stop(std::unique_lock<std::mutex>& lock) {
  is_lost_ = true;
  wanted_.notify_one();
  done_.wait(lock, [&] { return is_stopped_; });
}

void Progress::abort(int exit_code) noexcept {
  if (!is_fork()) {
    std::unique_lock lock(mutex_);
    abort_code_ = exit_code;
    wanted_.notify_one();
    done_.wait(lock, [&] { return is_over_; });
  }
  std::_Exit(exit_code);  // where MPI has ended before
}

void Progress::work(const std::function<void(MPI_Comm group)>& after) {
  try {
    begin();
    after(group_);
  } catch (...) {
    failure_ = std::current_exception();
  }
  std::unique_lock lock(mutex_);
  is_ready_ = true;
  done_.notify_all();
  if (failure_) return;
  advance(lock);
  if (abort_code_ < 0) leave(lock);
  int is_ended = 0;
  MPI_Finalized(&is_ended);
  if (abort_code_ >= 0 && !is_ended) {
    lock.unlock();
    MPI_Abort(MPI_COMM_WORLD, abort_code_);
    lock.lock();
  }
  is_lost_ = is_stopped_ = is_over_ = true;
  done_.notify_all();
}

void Progress::leave(std::unique_lock<std::mutex>& lock) {
  int is_ended = 0;
  MPI_Finalized(&is_ended);
  if (is_ended) return;  // by the program
  // MPI would go on with operations that were given up, whose memory is gone: the others hear no more of this rank.
  if (is_lost_ && starts_mpi_) return;
  drop_operations();
  // Nobody waits for ranks that are lost.
  const bool waits = !is_lost_ && !is_left_ && first_dropped_ >= started_;
  const std::uint64_t operations = std::min(first_dropped_, started_);
  const bool was_lost = heartbeat_->loss().has_value();
  const auto stops = [this] {
    const std::lock_guard locked(mutex_);
    return abort_code_ >= 0;
  };
  lock.unlock();
  if (!waits)
    heartbeat_->give_up(operations);
  else if (heartbeat_->end(operations, stops))
    end_mpi();
  // The program is past its last operation, and tells nothing.
  const bool is_told = was_lost || !heartbeat_->loss() || !options_.on_loss;
  const int code = is_told ? -1 : options_.on_loss(*heartbeat_->loss());
  lock.lock();
  if (abort_code_ < 0) abort_code_ = code;
}

void Progress::drop_operations() {
  for (std::vector<Operation*>* operations : {&active_, &waiting_}) {
    for (const Operation* operation : *operations) first_dropped_ = std::min(first_dropped_, operation->number_);
    operations->clear();
  }
}

void Progress::begin() {
  int was_started = 0, was_ended = 0;
  MPI_Finalized(&was_ended);
  if (was_ended)
    throw_failure("MPI to be there", "a process that has ended it", "open one communicator in a process, and keep it");
  MPI_Initialized(&was_started);
  int given = MPI_THREAD_SINGLE;
  if (was_started) {
    check(MPI_Query_thread(&given), "MPI_Query_thread");
    if (given < MPI_THREAD_MULTIPLE)
      throw_failure("MPI that was started with MPI_THREAD_MULTIPLE, or not at all", "less",
                    "call MPI_Init_thread with MPI_THREAD_MULTIPLE, or leave it to the "
                    "communicator");
  } else {
    check(MPI_Init_thread(nullptr, nullptr, MPI_THREAD_FUNNELED, &given), "MPI_Init_thread");
    starts_mpi_ = true;
    MPI_Comm_set_errhandler(MPI_COMM_WORLD, MPI_ERRORS_RETURN);
  }
  check(MPI_Comm_dup(MPI_COMM_WORLD, &group_), "MPI_Comm_dup");
  MPI_Comm_set_errhandler(group_, MPI_ERRORS_RETURN);
  heartbeat_.emplace(group_, options_.heartbeat);
}

void Progress::end_mpi() {
  MPI_Comm_free(&group_);
  if (starts_mpi_) MPI_Finalize();
}

std::optional<int> Progress::watch(std::unique_lock<std::mutex>& lock) {
  if (is_stopped_) return std::nullopt;
  if (heartbeat_->leaver() && (!leaver_ || leaver_->operations > heartbeat_->leaver()->operations)) {
    leaver_ = heartbeat_->leaver();
    done_.notify_all();
  }
  if (!heartbeat_->loss()) return std::nullopt;
  const auto now = Clock::now();
  if (!loss_) {
    loss_ = heartbeat_->loss();
    lost_at_ = now;
    done_.notify_all();
  }
  if (!options_.on_loss || now - lost_at_ < kPatience) return std::nullopt;
  lock.unlock();
  const int code = options_.on_loss(*loss_);
  lock.lock();
  return code;
}

void Progress::advance(std::unique_lock<std::mutex>& lock) {
  Clock::time_point since = Clock::now();
  std::vector<Operation*> begun, finished;
  while (true) {
    if (active_.empty()) {
      wanted_.wait_for(lock, heartbeat_->pause(),
                       [&] { return !waiting_.empty() || ends_ || is_lost_ || abort_code_ >= 0; });
      since = Clock::now();
    }
    if (const std::optional<int> code = watch(lock)) abort_code_ = *code;
    if (is_lost_ && !is_stopped_) {
      drop_operations();
      // Who waits for this rank would wait for one that has left.
      if (leaver_ && !loss_) {
        const std::uint64_t operations = std::min(first_dropped_, started_);
        lock.unlock();
        heartbeat_->give_up(operations);
        lock.lock();
      }
      is_stopped_ = true;  // what they are of may go away now
      done_.notify_all();
    }
    if (is_lost_) wanted_.wait(lock, [&] { return ends_ || abort_code_ >= 0; });
    if (ends_ || abort_code_ >= 0) return;
    begun.clear();
    begun.swap(waiting_);
    finished.clear();
    lock.unlock();
    heartbeat_->beat(Clock::now());
    for (Operation* operation : begun) {
      since = Clock::now();
      try {
        operation->begin();
        active_.push_back(operation);
      } catch (...) {
        operation->failure_ = std::current_exception();
        finished.push_back(operation);
      }
    }
    for (Operation* operation : active_) {
      try {
        if (are_done(operation->requests_)) finished.push_back(operation);
      } catch (...) {
        operation->failure_ = std::current_exception();
        finished.push_back(operation);
      }
    }
    if (finished.empty()) {
      if (!active_.empty()) pause(Clock::now() - since);
      lock.lock();
      continue;
    }
    since = Clock::now();
    lock.lock();
    for (Operation* operation : finished) {
      std::erase(active_, operation);
      if (operation->failure_) {
        operation->leave_memory();
        first_dropped_ = std::min(first_dropped_, operation->number_);
      }
      operation->done_at_ = since;
      operation->is_done_ = true;
    }
    done_.notify_all();
  }
}

}  // namespace halfstep::mpi
