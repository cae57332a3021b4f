#include "distributed/nccl/nccl_communicator.h"

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <thread>
#include <utility>

#include <fmt/format.h>

#include "distributed/waiting.h"
#include <halfstep/base/error.h>

namespace halfstep::nccl {
namespace {

using Clock = std::chrono::steady_clock;
using namespace std::chrono_literals;

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

}  // namespace

Group::Group(const Api& api, const ncclUniqueId& id, int rank, int size, std::chrono::milliseconds limit, Line line)
    : api_(api), rank_(rank), size_(size), limit_(limit), line_(std::move(line)) {
  // Calls that return at once, so that a rank that does not come is noticed.
  ncclConfig_t config = NCCL_CONFIG_INITIALIZER;
  config.blocking = 0;
  try {
    enter();
    check(api_.create_stream(&stream_), "cudaStreamCreateWithFlags");
    check(api_.init_rank(&communicator_, size_, id, rank_, &config), "ncclCommInitRankConfig");
  } catch (...) {
    line_.leave(0);
    if (stream_) api_.destroy_stream(stream_);
    throw;
  }
}

Group::~Group() {
  ends_ = true;
  line_.leave(is_given_up_ ? 0 : operations_);
  if (!is_given_up_ && std::uncaught_exceptions() == exceptions_) {
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
}

void Group::enter() {
  if (is_given_up_) throw SharedError(Error::Kind::failure, "all ranks to go on", "an operation that was given up", "");
  check(api_.set_device(0), "cudaSetDevice");
}

void Group::check(cudaError_t result, const char* call) {
  if (result == cudaSuccess) return;
  give_up();
  throw_failure(fmt::format("{} to work", call), api_.cuda_error_string(result), "see nvidia-smi and dmesg");
}

void Group::check(ncclResult_t result, const char* call) {
  const auto is_done = [&] {
    const ncclResult_t asked = api_.async_error(communicator_, &result);
    if (asked != ncclSuccess) result = asked;
    return result != ncclInProgress;
  };
  const std::uint64_t operation = operations_ > 0 ? operations_ - 1 : 0;
  if (result == ncclInProgress) poll(is_done, ends_ ? std::nullopt : std::optional(operation));
  if (result == ncclSuccess) return;
  give_up();
  const std::string expected = fmt::format("{} to work", call), found = api_.error_string(result);
  if (result == ncclRemoteError) {
    require_all(operation);
    throw SharedError(Error::Kind::failure, expected, found, "another rank has gone");
  }
  throw_failure(expected, found, "NCCL_DEBUG=WARN has NCCL say more");
}

void Group::require_all(std::uint64_t operation) {
  const std::optional<std::string> missing = line_.missing(operation);
  if (!missing) return;
  give_up();
  throw SharedError(Error::Kind::failure, "all ranks to go on", *missing,
                    "its program has returned or exited, or an error was caught: all ranks leave together");
}

template <class Done>
void Group::poll(const Done& done, std::optional<std::uint64_t> operation) {
  RunningTime time;
  Clock::duration next_look = 100ms;
  while (!done()) {
    const Clock::duration waited = time.passed();
    if (waited > limit_) {
      give_up();
      throw SharedError(Error::Kind::failure,
                        fmt::format("all ranks to go on within {:g} s", std::chrono::duration<double>(limit_).count()),
                        "no answer from one of them",
                        "a rank hangs or computes for long: --distributed-timeout is the limit");
    }
    if (operation && waited > next_look) {
      next_look = waited + 100ms;
      require_all(*operation);
    }
    pause(waited);
  }
}

void Group::wait(cudaEvent_t event, std::uint64_t operation) {
  const auto is_done = [&] {
    const cudaError_t now = api_.query(event);
    if (now == cudaErrorNotReady) {
      ncclResult_t state = ncclSuccess;
      if (const ncclResult_t asked = api_.async_error(communicator_, &state); asked != ncclSuccess) state = asked;
      if (state != ncclInProgress) check(state, "an operation of all ranks");
      return false;
    }
    check(now, "cudaEventQuery");
    return true;
  };
  poll(is_done, operation);
}

void Group::give_up() noexcept {
  if (std::exchange(is_given_up_, true) || !communicator_) return;
  api_.abort(communicator_);
}

Staging::~Staging() {
  const Api& api = group_.api();
  if (is_under_way_) group_.give_up();
  if (done_) api.destroy_event(done_);
  for (const Block& block : {from_, to_})
    if (block.memory) api.free(block.memory);
  if (host_.memory) api.free_pinned(host_.memory);
}

void Staging::reserve(Block& block, std::size_t bytes, Allocate allocate, Free free, const char* call) {
  if (bytes <= block.bytes) return;
  block.bytes = 0;
  if (void* old = std::exchange(block.memory, nullptr)) group_.check(free(old), call);
  group_.check(allocate(&block.memory, bytes), call);
  block.bytes = bytes;
}

void Staging::start(const void* from, std::size_t from_bytes, void* to, std::size_t to_bytes, const Call& call,
                    const char* name) {
  group_.enter();
  operation_ = group_.count();
  const Api& api = group_.api();
  // Calls of no elements have an address, too.
  reserve(host_, std::max<std::size_t>({from_bytes, to_bytes, 1}), api.allocate_pinned, api.free_pinned,
          "cudaMallocHost");
  reserve(from_, std::max<std::size_t>(from_bytes, 1), api.allocate, api.free, "cudaMalloc");
  reserve(to_, std::max<std::size_t>(to_bytes, 1), api.allocate, api.free, "cudaMalloc");
  if (!done_) group_.check(api.create_event(&done_), "cudaEventCreateWithFlags");
  if (from_bytes > 0) {
    std::memcpy(host_.memory, from, from_bytes);
    group_.check(api.copy(from_.memory, host_.memory, from_bytes, cudaMemcpyHostToDevice, group_.stream()),
                 "cudaMemcpyAsync");
  }
  group_.check(call(from_.memory, to_.memory), name);
  if (to_bytes > 0)
    group_.check(api.copy(host_.memory, to_.memory, to_bytes, cudaMemcpyDeviceToHost, group_.stream()),
                 "cudaMemcpyAsync");
  group_.check(api.record(done_, group_.stream()), "cudaEventRecord");
  result_ = to;
  result_bytes_ = to_bytes;
  is_under_way_ = true;
}

void Staging::wait() {
  group_.enter();
  group_.wait(done_, operation_);
  is_under_way_ = false;
  if (result_bytes_ > 0) std::memcpy(result_, host_.memory, result_bytes_);
}

namespace {

/// An all-reduce of `count` elements in the host's memory.
struct Reducing {
  void* data;
  std::size_t count;
  DType dtype;
  Reduction reduction;

  void start(Group& group, Staging& staging) const {
    const std::size_t bytes = bytes_of(dtype, count);
    const auto call = [&](const void* from, void* to) {
      return group.api().all_reduce(from, to, count, type_of(dtype), operation_of(reduction), group.communicator(),
                                    group.stream());
    };
    staging.start(data, bytes, data, bytes, call, "ncclAllReduce");
  }
};

}  // namespace

class NcclCommunicator::Made final : public AllReduce {
 public:
  Made(Group& group, Reducing reducing) : group_(group), reducing_(reducing), staging_(group) {}

 private:
  void do_start() override { reducing_.start(group_, staging_); }
  void do_wait() override { staging_.wait(); }

  Group& group_;
  Reducing reducing_;
  Staging staging_;
};

NcclCommunicator::NcclCommunicator(const Api& api, const ncclUniqueId& id, int rank, int size,
                                   std::chrono::milliseconds limit, Line line)
    : api_(api), group_(api_, id, rank, size, limit, std::move(line)) {}

void NcclCommunicator::all_reduce(void* data, std::size_t count, DType dtype, Reduction reduction) {
  Reducing{data, count, dtype, reduction}.start(group_, staging_);
  staging_.wait();
}

std::unique_ptr<AllReduce> NcclCommunicator::make_all_reduce(void* data, std::size_t count, DType dtype,
                                                             Reduction reduction) {
  type_of(dtype);
  return std::make_unique<Made>(group_, Reducing{data, count, dtype, reduction});
}

void NcclCommunicator::reduce_scatter(const void* from, void* to, std::size_t count, DType dtype, Reduction reduction) {
  const std::size_t bytes = bytes_of(dtype, count);
  const auto call = [&](const void* parts, void* part) {
    return api_.reduce_scatter(parts, part, count, type_of(dtype), operation_of(reduction), group_.communicator(),
                               group_.stream());
  };
  staging_.start(from, bytes * static_cast<std::size_t>(size()), to, bytes, call, "ncclReduceScatter");
  staging_.wait();
}

void NcclCommunicator::all_gather(const void* from, void* to, std::size_t bytes) {
  const auto call = [&](const void* part, void* parts) {
    return api_.all_gather(part, parts, bytes, ncclUint8, group_.communicator(), group_.stream());
  };
  staging_.start(from, bytes, to, bytes * static_cast<std::size_t>(size()), call, "ncclAllGather");
  staging_.wait();
}

void NcclCommunicator::broadcast(void* data, std::size_t bytes, int root) {
  const auto call = [&](const void* given, void* taken) {
    return api_.broadcast(given, taken, bytes, ncclUint8, root, group_.communicator(), group_.stream());
  };
  staging_.start(data, rank() == root ? bytes : 0, data, bytes, call, "ncclBroadcast");
  staging_.wait();
}

void NcclCommunicator::barrier() {
  std::int32_t nothing = 0;
  all_reduce(&nothing, 1, DType::i32, Reduction::sum);
}

void NcclCommunicator::abort(int exit_code) noexcept {
  group_.give_up();
  api_.exit(exit_code);  // the launcher ends the others
}

}  // namespace halfstep::nccl
