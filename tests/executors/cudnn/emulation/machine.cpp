// The machine: its memory, and what has been asked of it.
#include <algorithm>
#include <cstring>
#include <iterator>
#include <memory>
#include <new>
#include <numeric>
#include <span>
#include <string_view>
#include <thread>
#include <utility>

#include "tests/executors/cudnn/emulation/clock.h"
#include "tests/executors/cudnn/emulation/cudart_state.h"
#include "tests/executors/cudnn/emulation/pending_error.h"
#include "tests/executors/cudnn/emulation/streams.h"

namespace emulation {
namespace {

thread_local int current_device = 0;

constexpr std::size_t kGuard = 256;  // before and behind every allocation
constexpr std::byte kGuardByte{0xa5};

bool is_whole(const std::byte* guard) {
  return std::all_of(guard, guard + kGuard, [](std::byte b) { return b == kGuardByte; });
}
bool is_whole(const Blocks::value_type& block) {
  return is_whole(block.first - kGuard) && is_whole(block.first + block.second.bytes);
}

}  // namespace

State& state() {
  static State s;
  return s;
}
std::recursive_mutex& mutex() {
  static std::recursive_mutex m;
  return m;
}

cudaError_t fail(cudaError_t status) {
  state().latest = status;
  if (is_capturing() && (status == cudaErrorStreamCaptureUnsupported || status == cudaErrorStreamCaptureImplicit ||
                         status == cudaErrorStreamCaptureIsolation))
    state().is_capture_broken = true;
  return status;
}

int& captures() {
  thread_local int count = 0;
  return count;
}
bool is_unsafe_in_capture() {
  if (captures() == 0) return false;
  refuse("a call that is not safe while this thread captures a stream");
  return true;
}

namespace {
/// The last block that begins at p or before; nullptr where there is none.
const Blocks::value_type* block_before(const Blocks& blocks, const void* p) {
  const auto it = blocks.upper_bound(static_cast<const std::byte*>(p));
  return it == blocks.begin() ? nullptr : &*std::prev(it);
}
}  // namespace

const Block* block_of(const Blocks& blocks, const void* p, std::size_t bytes) {
  const auto* at = static_cast<const std::byte*>(p);
  const Blocks::value_type* found = block_before(blocks, p);
  return found && at + bytes <= found->first + found->second.bytes ? &found->second : nullptr;
}

cudaError_t allocate(Blocks& blocks, void** p, std::size_t bytes) {
  if (captures() > 0) {  // by this thread: others may
    refuse("memory is allocated while a stream is captured");
    return fail(cudaErrorStreamCaptureUnsupported);
  }
  struct Free {
    void operator()(std::byte* memory) const { ::operator delete (memory, std::align_val_t{256}); }
  };
  std::unique_ptr<std::byte, Free> whole(
      static_cast<std::byte*>(::operator new (bytes + 2 * kGuard, std::align_val_t{256})));
  std::memset(whole.get(), static_cast<int>(kGuardByte), bytes + 2 * kGuard);
  blocks.emplace(whole.get() + kGuard, Block{bytes, current_device});
  *p = whole.release() + kGuard;
  std::memset(*p, 0xcd, bytes);  // memory is not zero when it is handed out
  ++state().allocations;
  ++state().live;
  return cudaSuccess;
}

cudaError_t release(Blocks& blocks, void* p) {
  if (!p) return cudaSuccess;
  const auto it = blocks.find(static_cast<std::byte*>(p));
  if (it == blocks.end()) {
    refuse("memory is freed that was not allocated");
    return fail(cudaErrorInvalidValue);
  }
  run_all();
  if (!is_whole(*it)) refuse("something was written outside of an allocation");
  blocks.erase(it);
  --state().live;
  ::operator delete (static_cast<std::byte*>(p) - kGuard, std::align_val_t{256});
  return cudaSuccess;
}

Entered::Entered() {
  mutex().lock();
  state().contexts.insert(current_device);
}
Entered::~Entered() { mutex().unlock(); }

int this_device() { return current_device; }
void set_this_device(int device) { current_device = device; }
std::set<int> contexts() { return std::exchange(state().contexts, {}); }

Machine& machine() { return state().machine; }
std::uint32_t draw() {
  State& s = state();
  if (s.seeded != s.machine.seed) s.random.seed(s.seeded = s.machine.seed);
  return static_cast<std::uint32_t>(s.random());
}
bool fails(const char* call) {
  if (std::string_view(machine().failing) != call) return false;
  refuse("the machine was told to fail here");
  return true;
}
void submit(cudaStream_t stream, Work work) {
  const Entered entered;
  stream = stream_of(stream);
  if (stream->capturing && stream->capturer != std::this_thread::get_id())
    refuse("a stream is given work while another thread captures it");
  if (stream != stream_of(nullptr) && stream->device != current_device)
    refuse("a stream is given work by a thread whose device is another");
  if (stream->capturing)
    stream->captured.push_back(std::move(work));
  else
    enqueue(stream, std::move(work));
}
Duration& duration() {
  static Duration said;
  return said;
}
void take_time(std::string_view kind, int number) {
  state().clock += 1e-3 * (duration() ? duration()(kind, number) : 1);
}
bool is_device(const void* p, std::size_t bytes) {
  const Block* block = block_of(state().device, p, bytes);
  return block && block->device == current_device;
}
std::span<const std::byte> allocation_before(const void* p) {
  const Blocks::value_type* found = block_before(state().device, p);
  if (!found) return {};
  return {found->first, found->second.bytes};
}
bool guards_are_whole() {
  const auto whole = [](const Blocks::value_type& block) { return is_whole(block); };
  return std::ranges::all_of(state().device, whole) && std::ranges::all_of(state().pinned, whole);
}
int live_objects() { return state().live; }
void count_object(int change) { state().live += change; }
int allocations() { return state().allocations; }
std::size_t used_memory() {
  const auto add = [](std::size_t sum, const auto& each) { return sum + each.second; };
  return std::accumulate(state().used.begin(), state().used.end(), std::size_t{0}, add);
}
std::size_t most_memory() { return std::exchange(state().most_used, used_memory()); }
int graph_launches() { return state().calls.graphs; }
Calls calls() { return state().calls; }
std::size_t bytes_to_host() { return state().bytes_to_host; }
bool is_capturing() { return state().capturing > 0; }
const char* latest_refusal() { return std::exchange(state().refusal, ""); }
const char* refusal() { return state().refusal; }
void refuse(const char* why) { state().refusal = why; }
void leave_error(cudaError_t error) { state().latest = error; }
void break_capture() { state().is_capture_broken = is_capturing(); }

}  // namespace emulation
