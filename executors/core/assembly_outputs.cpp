// Where a program's outputs go, and how they get there.
#include <halfstep/executors/core/assembly.h>
#include <halfstep/graph/tensor_bytes.h>

namespace halfstep::core {
namespace {

constexpr std::size_t kAlignment = 64;  // as of all memory that kernels write: libraries choose products by it

}  // namespace

void Assembly::make_outputs() {
  struct Place {
    std::size_t output, offset, bytes;
  };
  std::vector<Place> places;
  std::size_t all = 0;
  for (std::size_t i = 0; i < graph_.outputs.size() && !device_.is_host(); ++i) {
    const ValueId id = graph_.outputs[i];
    if (is_dynamic(id) || !device_.holds(graph_[id].dtype)) continue;
    const std::size_t bytes = bytes_of(graph_[id].dtype, graph_[id].shape);
    if (bytes == 0 || bytes > kSmallCopy) continue;
    places.push_back({i, all, bytes});
    all += (bytes + kAlignment - 1) / kAlignment * kAlignment;
  }
  if (places.size() < 2) places.clear();

  packed_.parts.assign(graph_.outputs.size(), kNoBuffer);
  outputs.resize(graph_.outputs.size());
  output_buffers.assign(graph_.outputs.size(), kNoBuffer);
  if (!places.empty()) {
    const std::shared_ptr<void> memory = device_.allocate(all, Space::host);
    packed_.on_host = fixed_buffer(Tensor::view(DType::u8, {static_cast<std::int64_t>(all)}, memory.get(), memory));
    packed_.on_device = arena_buffer(all);
    for (const Place& place : places) {
      const ValueId id = graph_.outputs[place.output];
      outputs[place.output] = Tensor::view(graph_[id].dtype, graph_[id].shape,
                                           static_cast<std::byte*>(memory.get()) + place.offset, memory);
      output_buffers[place.output] = part_of(packed_.on_host, place.offset, place.bytes);
      packed_.parts[place.output] = part_of(packed_.on_device, place.offset, place.bytes);
      if (!preferred_.contains(id)) prefer(id, packed_.parts[place.output]);
    }
  }
  for (std::size_t i = 0; i < outputs.size(); ++i) {
    if (is_dynamic(graph_.outputs[i]) || packed_.parts[i] != kNoBuffer) continue;
    outputs[i] = host_tensor(graph_[graph_.outputs[i]]);
    output_buffers[i] = fixed_buffer(outputs[i]);
  }
}

void Assembly::append_output_copies() {
  std::vector<std::size_t> together;
  const auto append_those = [&] {
    together.size() == 1 ? append_output_copy(together[0]) : append_packed_copy(together);
    together.clear();
  };
  for (std::size_t i = 0; i < outputs.size(); ++i) {
    const ValueId id = graph_.outputs[i];
    if (is_dynamic(id)) continue;
    if (packed_.parts[i] != kNoBuffer && nearest(id, Layout(), host_space()).space == Space::device) {
      together.push_back(i);
      continue;
    }
    if (packed_.parts[i] != kNoBuffer) append_those();  // the host has written where a copy of all would
    append_output_copy(i);
  }
  append_those();
}

void Assembly::append_output_copy(std::size_t output) {
  const ValueId id = graph_.outputs[output];
  const Operand value = nearest(id, Layout(), host_space());
  const Operand target{output_buffers[output], value.dtype, graph_[id].shape, Layout(), host_space()};
  if (value.buffer != target.buffer) convert(graph_[id].name, value, target);
}

void Assembly::append_packed_copy(const std::vector<std::size_t>& outputs_in_order) {
  if (outputs_in_order.empty()) return;
  for (const std::size_t i : outputs_in_order) {
    const ValueId id = graph_.outputs[i];
    const Operand value = nearest(id, Layout(), Space::device);
    const Operand part{packed_.parts[i], value.dtype, graph_[id].shape, Layout(), Space::device};
    if (value.buffer != part.buffer) convert(graph_[id].name, value, part);
  }
  const Buffer last = buffer(packed_.parts[outputs_in_order.back()]);
  const std::size_t offset = buffer(packed_.parts[outputs_in_order.front()]).offset;
  const std::size_t bytes = last.offset + last.bytes - offset;
  const auto run = [&](BufferId whole) {
    return Operand{
        part_of(whole, offset, bytes), DType::u8, {static_cast<std::int64_t>(bytes)}, Layout(), buffer(whole).space};
  };
  const Operand from = run(packed_.on_device);
  convert("outputs", from, run(packed_.on_host));
}

}  // namespace halfstep::core
