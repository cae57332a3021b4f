#include "distributed/mpi/progress.h"

#include <algorithm>
#include <utility>

#include <fmt/format.h>

#include <halfstep/base/error.h>
#include <halfstep/distributed/communicator.h>

namespace halfstep::mpi {
namespace {

using Clock = std::chrono::steady_clock;
using namespace std::chrono_literals;

/// What the thread does between two looks at what is under way: it gives the core away at first, and sleeps where the
/// others take their time.
void pause(Clock::duration waited) {
  if (waited < 1ms)
    std::this_thread::yield();
  else
    std::this_thread::sleep_for(waited < 100ms ? 50us : 500us);
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

Progress::Progress(std::chrono::milliseconds limit, std::function<void()> after) : limit_(limit) {
  thread_ = std::thread([this, after = std::move(after)] { work(after); });
  std::unique_lock lock(mutex_);
  done_.wait(lock, [&] { return is_ready_; });
  if (!failure_) return;
  lock.unlock();
  thread_.join();
  std::rethrow_exception(failure_);
}

Progress::~Progress() {
  {
    const std::lock_guard lock(mutex_);
    ends_ = true;
    is_left_ = std::uncaught_exceptions() > exceptions_;
  }
  wanted_.notify_one();
  if (thread_.joinable()) thread_.join();
}

void Progress::start(Operation& operation) {
  {
    const std::lock_guard lock(mutex_);
    if (is_lost_) throw SharedError(Error::Kind::failure, "all ranks to go on", "an operation that was given up", "");
    operation.is_done_ = false;
    waiting_.push_back(&operation);
  }
  wanted_.notify_one();
}

void Progress::wait(Operation& operation) {
  std::unique_lock lock(mutex_);
  if (!done_.wait_for(lock, limit_, [&] { return operation.is_done_; })) {
    stop(lock);
    throw SharedError(Error::Kind::failure,
                      fmt::format("all ranks to go on within {:g} s", std::chrono::duration<double>(limit_).count()),
                      "no answer from one of them",
                      "a rank hangs or computes for long: --distributed-timeout is the limit");
  }
  if (operation.failure_) {
    stop(lock);
    std::rethrow_exception(std::exchange(operation.failure_, nullptr));
  }
}

void Progress::lose(const Operation& operation) noexcept {
  std::unique_lock lock(mutex_);
  if (!operation.is_done_) stop(lock);
}

void Progress::stop(std::unique_lock<std::mutex>& lock) {
  is_lost_ = true;
  wanted_.notify_one();
  done_.wait(lock, [&] { return is_stopped_; });
}

void Progress::abort(int exit_code) noexcept {
  {
    const std::lock_guard lock(mutex_);
    abort_code_ = exit_code;
  }
  wanted_.notify_one();
  if (thread_.joinable()) thread_.join();  // the process ends
}

void Progress::work(const std::function<void()>& after) {
  try {
    begin();
    after();
  } catch (...) {
    failure_ = std::current_exception();
  }
  std::unique_lock lock(mutex_);
  is_ready_ = true;
  done_.notify_all();
  if (failure_) return;
  advance(lock);
  // Nobody waits for ranks that are lost.
  if (abort_code_ < 0 && !is_lost_ && !is_left_ && active_.empty()) end();
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
                    "call MPI_Init_thread with MPI_THREAD_MULTIPLE, or leave it to the communicator");
  } else {
    check(MPI_Init_thread(nullptr, nullptr, MPI_THREAD_FUNNELED, &given), "MPI_Init_thread");
    starts_mpi_ = true;
  }
  check(MPI_Comm_dup(MPI_COMM_WORLD, &group_), "MPI_Comm_dup");
  MPI_Comm_set_errhandler(group_, MPI_ERRORS_RETURN);
}

void Progress::end() {
  int is_ended = 0;
  MPI_Finalized(&is_ended);
  if (is_ended) return;  // by the program
  MPI_Comm_free(&group_);
  if (starts_mpi_) MPI_Finalize();
}

void Progress::advance(std::unique_lock<std::mutex>& lock) {
  Clock::time_point since = Clock::now();
  std::vector<Operation*> begun, finished;
  while (true) {
    if (active_.empty()) {
      wanted_.wait(lock, [&] { return !waiting_.empty() || ends_ || is_lost_ || abort_code_ >= 0; });
      since = Clock::now();
    }
    if (is_lost_ && !is_stopped_) {
      is_stopped_ = true;
      done_.notify_all();
    }
    if (is_lost_) wanted_.wait(lock, [&] { return ends_ || abort_code_ >= 0; });
    if (abort_code_ >= 0) {
      lock.unlock();
      MPI_Abort(MPI_COMM_WORLD, abort_code_);
      return;
    }
    if (ends_) return;
    begun.clear();
    begun.swap(waiting_);
    finished.clear();
    lock.unlock();
    for (Operation* operation : begun) {
      since = Clock::now();
      try {
        operation->requests_.clear();
        operation->begin_(operation->requests_);
        active_.push_back(operation);
      } catch (...) {
        operation->failure_ = std::current_exception();
        finished.push_back(operation);
      }
    }
    for (Operation* operation : active_) {
      int flag = 0;
      const int code = MPI_Testall(static_cast<int>(operation->requests_.size()), operation->requests_.data(), &flag,
                                   MPI_STATUSES_IGNORE);
      try {
        check(code, "MPI_Testall");
      } catch (...) {
        operation->failure_ = std::current_exception();
        flag = 1;
      }
      if (flag) finished.push_back(operation);
    }
    if (finished.empty()) {
      pause(Clock::now() - since);
      lock.lock();
      continue;
    }
    since = Clock::now();
    lock.lock();
    for (Operation* operation : finished) {
      std::erase(active_, operation);
      operation->is_done_ = true;
    }
    done_.notify_all();
  }
}

}  // namespace halfstep::mpi
