#include <cstring>

#include <halfstep/base/error.h>
#include <halfstep/executors/core/device.h>
#include <halfstep/executors/core/reference_call.h>
#include <halfstep/graph/tensor_bytes.h>
#include <halfstep/ops/op_def.h>

namespace halfstep::core {
namespace {

/// Who waits in a device's place, for the program that this thread runs.
struct Waiting {
  const Device* device = nullptr;
  StreamRanks* ranks = nullptr;
};
Waiting& waiting() {
  thread_local Waiting of_thread;
  return of_thread;
}

void require_row_major(const Layout& a, const Layout& b) {
  if (!a.is_row_major() || !b.is_row_major())
    throw_failure("a device that converts the layouts of its kernels", "one without Device::convert", "report it");
}

}  // namespace

std::shared_ptr<void> Device::allocate(std::size_t bytes, Space) {
  auto memory = std::make_shared<Tensor>(DType::u8, Shape{static_cast<std::int64_t>(bytes)});
  void* data = memory->raw();
  return {std::move(memory), data};
}

void Device::move(DType dtype, const Shape& shape, const Stored& from, const Stored& to) {
  require_row_major(from.layout, to.layout);
  std::memcpy(to.data, from.data, bytes_of(dtype, shape));
}

Made Device::convert(const Operand& from, const Operand& to, const TakeScratch&) {
  if (from.layout == to.layout && from.dtype == to.dtype)
    return {"memcpy", {}, [from, to](const Memory& memory) -> Run {
              return [source = memory.at(from), target = memory.at(to), bytes = from.bytes()] {
                std::memcpy(target, source, bytes);
              };
            }};
  require_row_major(from.layout, to.layout);
  auto node = std::make_shared<Node>();
  node->op = "Cast";
  node->attributes.set("to", static_cast<std::int64_t>(to.dtype));
  return {"reference", {}, [node, from, to](const Memory& memory) -> Run {
            ReferenceCall call{node.get(),
                               find_op("Cast")->reference,
                               {Tensor::view(from.dtype, from.shape, memory.at(from))},
                               {Tensor::view(to.dtype, to.shape, memory.at(to))}};
            return [node, call]() mutable { call(); };
          }};
}

void Device::copy(void* to, const void* from, std::size_t bytes) { std::memcpy(to, from, bytes); }

void Device::wait() {
  const Waiting& now = waiting();
  now.ranks&& now.device == this ? now.ranks->synchronize() : do_wait();
}

void Device::waiting_by(StreamRanks* ranks, const std::function<void()>& work) {
  struct Restored {
    Waiting before;
    ~Restored() { waiting() = before; }
  };
  const Restored restored{std::exchange(waiting(), Waiting{this, ranks})};
  work();
}

Run Device::sequence(const std::vector<Run>& steps, const std::vector<bool>&, std::vector<std::string>&) {
  return [&steps] {
    for (const Run& step : steps) step();
  };
}

std::shared_ptr<Device> host_device() {
  static const auto device = std::make_shared<Device>();
  return device;
}

}  // namespace halfstep::core
