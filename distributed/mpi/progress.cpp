#include "distributed/mpi/progress.h"

#include <algorithm>
#include <utility>

#include <fmt/format.h>

#include "distributed/pause.h"
#include <halfstep/base/error.h>
#include <halfstep/distributed/communicator.h>

namespace halfstep::mpi {
namespace {

using Clock = std::chrono::steady_clock;
using namespace std::chrono_literals;

/// How long a program that learns of a lost rank has to call in before the thread tells it for it.
constexpr auto kPatience = 5s;

}  // namespace

void check(int code, const char* call) {
  if (code == MPI_SUCCESS) return;
  char text[MPI_MAX_ERROR_STRING] = {};
  int length = 0;
  MPI_Error_string(code, text, &length);
  throw_failure(fmt::format("{} to work", call), std::string(text, static_cast<std::size_t>(length)),
                "see what the launcher printed");
}

Progress::Progress(CommunicatorOptions options, std::function<void()> after) : options_(std::move(options)) {
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
    if (loss_) throw SharedError(*loss_);
    if (is_lost_) throw SharedError(Error::Kind::failure, "all ranks to go on", "an operation that was given up", "");
    operation.is_done_ = false;
    waiting_.push_back(&operation);
  }
  wanted_.notify_one();
}

void Progress::wait(Operation& operation) {
  std::unique_lock lock(mutex_);
  const bool comes = done_.wait_for(lock, options_.limit, [&] { return operation.is_done_ || loss_; });
  const bool is_done = operation.is_done_;
  if (!is_done) stop(lock);
  if (!is_done && loss_) throw SharedError(*loss_);
  if (!comes) {
    const double limit = std::chrono::duration<double>(options_.limit).count();
    throw SharedError(Error::Kind::failure, fmt::format("all ranks to go on within {:g} s", limit),
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
  heartbeat_.emplace(group_, options_.heartbeat);
}

void Progress::end() {
  int is_ended = 0;
  MPI_Finalized(&is_ended);
  if (is_ended) return;  // by the program
  if (!heartbeat_->end()) return;
  MPI_Comm_free(&group_);
  if (starts_mpi_) MPI_Finalize();
}

std::optional<int> Progress::watch(std::unique_lock<std::mutex>& lock) {
  if (is_stopped_ || !heartbeat_->loss()) return std::nullopt;
  const auto now = Clock::now();
  if (!loss_) {
    const double limit = std::chrono::duration<double>(options_.heartbeat).count();
    loss_.emplace(Error::Kind::failure, fmt::format("a sign of life from every rank within {:g} s", limit),
                  *heartbeat_->loss(),
                  "its process is stopped, or its machine or network is gone: --heartbeat-timeout is the limit");
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
    heartbeat_->beat(Clock::now());
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
      if (!active_.empty()) pause(Clock::now() - since);
      lock.lock();
      continue;
    }
    since = Clock::now();
    lock.lock();
    for (Operation* operation : finished) {
      std::erase(active_, operation);
      operation->done_at_ = since;
      operation->is_done_ = true;
    }
    done_.notify_all();
  }
}

}  // namespace halfstep::mpi
