#include "distributed/nccl/staging.h"

#include <algorithm>
#include <cstring>
#include <utility>

namespace halfstep::nccl {

Staging::~Staging() {
  const Api& api = group_.api();
  if (is_under_way_) group_.give_up();
  api.set_device(group_.device());  // for what is freed: this may be another thread
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

}  // namespace halfstep::nccl
