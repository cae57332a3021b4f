#include "distributed/nccl/group.h"

#include <algorithm>
#include <string>
#include <utility>

#include <fmt/format.h>
#include <unistd.h>

#include "distributed/shared_errors.h"
#include "distributed/waiting.h"
#include <halfstep/base/error.h>

namespace halfstep::nccl {
namespace {

using Clock = std::chrono::steady_clock;
using namespace std::chrono_literals;

/// Operations under way for which the host does not wait. A stream has room for about a thousand pieces of work.
constexpr std::size_t kMostCrossings = 32;

}  // namespace

ncclDataType_t type_of(DType dtype) {
  switch (dtype) {
    case DType::f64:
      return ncclFloat64;
    case DType::f32:
      return ncclFloat32;
    case DType::bf16:
      return ncclBfloat16;
    case DType::f16:
      return ncclFloat16;
    case DType::i64:
      return ncclInt64;
    case DType::i32:
      return ncclInt32;
    default:
      throw_failure("elements of f64, f32, bf16, f16, i64 or i32 to reduce", std::string(name_of(dtype)), "");
  }
}

ncclRedOp_t operation_of(Reduction reduction) {
  return reduction == Reduction::sum ? ncclSum : reduction == Reduction::least ? ncclMin : ncclMax;
}

Group::Group(const Api& api, const ncclUniqueId& id, int rank, int size, const CommunicatorOptions& options, Line line,
             int device)
    : api_(api),
      rank_(rank),
      size_(size),
      device_(device),
      limit_(options.limit),
      process_(getpid()),
      watch_(std::make_unique<Watch>(std::move(line), options.heartbeat, options.on_loss, api.exit)) {
  // Calls that return at once, so that a rank that does not come is noticed.
  ncclConfig_t config = NCCL_CONFIG_INITIALIZER;
  config.blocking = 0;
  crossings_.reserve(kMostCrossings);
  try {
    enter();
    check(api_.create_stream(&stream_), "cudaStreamCreateWithFlags");
    check(api_.init_rank(&communicator_, size_, id, rank_, &config), "ncclCommInitRankConfig");
  } catch (...) {
    watch_->leave(0, false);
    if (stream_) api_.destroy_stream(stream_);
    throw;
  }
}

Group::~Group() {
  // A fork lacks the thread, and the connections are not its own to end.
  if (getpid() != process_) {
    static_cast<void>(watch_.release());
    return;
  }
  ends_ = true;
  const bool waits = !is_given_up_ && std::uncaught_exceptions() == exceptions_;
  watch_->leave(is_given_up_ ? 0 : operations_, waits);
  if (waits) {
    try {
      enter();
      check(api_.finalize(communicator_), "ncclCommFinalize");
      api_.destroy(communicator_);
      is_given_up_ = true;
    } catch (const Error&) {  // the others are told by their own
    }
  }
  give_up();
  api_.destroy_stream(stream_);
  watch_->end(waits);
}

void Group::enter() {
  if (is_given_up_) throw operation_given_up();
  if (watch_->has_news()) require_all(std::nullopt);
  check(api_.set_device(device_), "cudaSetDevice");
}

void Group::check(cudaError_t result, const char* call) {
  if (result == cudaSuccess) return;
  give_up();
  throw_failure(fmt::format("{} to work", call), api_.cuda_error_string(result), "see nvidia-smi and dmesg");
}

void Group::check(ncclResult_t result, const char* call) {
  const auto is_through = [&] {
    const ncclResult_t asked = api_.async_error(communicator_, &result);
    if (asked != ncclSuccess) result = asked;
    return result != ncclInProgress;
  };
  const std::uint64_t operation = operations_ > 0 ? operations_ - 1 : 0;
  if (result == ncclInProgress)
    poll(is_through, [&] { return Awaited{.operation = ends_ ? std::nullopt : std::optional(operation)}; });
  if (result == ncclSuccess) return;
  give_up();
  const std::string expected = fmt::format("{} to work", call), found = api_.error_string(result);
  if (result == ncclRemoteError) {
    require_all(operation);
    throw SharedError(Error::Kind::failure, expected, found, "another rank has gone");
  }
  throw_failure(expected, found, "NCCL_DEBUG=WARN has NCCL say more");
}

void Group::require_all(std::optional<std::uint64_t> operation) {
  const std::optional<SharedError> why = watch_->missing(operation);
  if (!why) return;
  give_up();
  throw SharedError(*why);
}

template <class Done, class What>
void Group::poll(const Done& done, const What& what) {
  RunningTime time;
  Clock::duration before{}, waited{}, next_look = 100ms;
  while (!done()) {
    const Clock::duration now = time.passed();
    const Awaited awaited = what();
    if (awaited.counts) waited += now - before;
    before = now;
    if (waited > limit_) {
      give_up();
      throw no_answer(limit_);
    }
    if (now > next_look || watch_->has_news()) {
      next_look = now + 100ms;
      require_all(awaited.operation);
    }
    pause(now);
  }
}

bool Group::has_happened(cudaEvent_t event) {
  const cudaError_t now = api_.query(event);
  if (now != cudaErrorNotReady) check(now, "cudaEventQuery");
  return now == cudaSuccess;
}

bool Group::is_done(cudaEvent_t event) {
  if (has_happened(event)) return true;
  ncclResult_t state = ncclSuccess;
  if (const ncclResult_t asked = api_.async_error(communicator_, &state); asked != ncclSuccess) state = asked;
  if (state != ncclInProgress) check(state, "an operation of all ranks");
  return false;
}

void Group::wait(cudaEvent_t event, std::uint64_t operation) {
  poll([&] { return is_done(event); }, [&] { return Awaited{.operation = operation}; });
}

Group::Awaited Group::first_crossing() {
  while (!crossings_.empty() && has_happened(crossings_.front().done)) crossings_.erase(crossings_.begin());
  if (crossings_.empty()) return {.operation = {}, .counts = false};
  return {.operation = crossings_.front().operation, .counts = has_happened(crossings_.front().ready)};
}

void Group::wait_behind_crossings(cudaEvent_t event) {
  poll([&] { return is_done(event); }, [&] { return first_crossing(); });
}

void Group::await(cudaEvent_t done) {
  const auto is_own = [&](const Crossing& each) { return each.done == done; };
  if (std::ranges::none_of(crossings_, is_own)) return;
  if (!has_happened(done)) wait_behind_crossings(done);
  std::erase_if(crossings_, is_own);
}

void Group::add(const Crossing& crossing) {
  if (crossings_.size() >= kMostCrossings) {
    first_crossing();
    if (crossings_.size() >= kMostCrossings) wait_behind_crossings(crossings_.front().done);
  }
  crossings_.push_back(crossing);
}

void Group::remove(cudaEvent_t done) noexcept {
  if (std::erase_if(crossings_, [&](const Crossing& each) { return each.done == done; }) > 0 &&
      api_.query(done) != cudaSuccess)
    give_up();
}

void Group::give_up() noexcept {
  if (std::exchange(is_given_up_, true) || !communicator_) return;
  api_.abort(communicator_);
}

}  // namespace halfstep::nccl
