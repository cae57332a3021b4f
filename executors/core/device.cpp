#include <cstring>

#include <halfstep/base/error.h>
#include <halfstep/executors/core/device.h>
#include <halfstep/executors/core/reference_call.h>
#include <halfstep/ops/op_def.h>

namespace halfstep::core {
namespace {

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
  std::memcpy(to.data, from.data, bytes_of(dtype, static_cast<std::size_t>(shape.count())));
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

Run Device::sequence(const std::vector<Run>& steps, bool, std::vector<std::string>&) {
  return [&steps] {
    for (const Run& step : steps) step();
  };
}

std::shared_ptr<Device> host_device() {
  static const auto device = std::make_shared<Device>();
  return device;
}

}  // namespace halfstep::core
