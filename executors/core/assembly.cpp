#include <algorithm>

#include <fmt/format.h>

#include "executors/core/constants.h"
#include "executors/core/met_states.h"
#include <halfstep/base/error.h>
#include <halfstep/executors/core/assembly.h>
#include <halfstep/graph/tensor_bytes.h>

namespace halfstep::core {
namespace {

bool contains(const std::vector<BufferId>& buffers, BufferId id) {
  return std::find(buffers.begin(), buffers.end(), id) != buffers.end();
}

}  // namespace

Assembly::Assembly(const Graph& graph, Store& store, Device& device)
    : graph_(graph),
      device_(device),
      schedule_(make_schedule(graph, device.precedences(graph))),
      met_states_(find_met_states(graph)),
      values_(graph.values.size()) {
  for (const ValueId id : graph.values.ids()) {
    const Value& value = graph[id];
    if (!value.is_constant()) continue;
    if (is_dynamic(id))
      *dynamic(id) = value.constant;
    else
      info(id).home = {fixed_buffer(value.constant), value.dtype, value.constant.shape(), Layout(), host_space()};
  }
  for (ValueId in : graph.inputs) {
    if (!graph[in].shape.is_static())
      throw_input_error("static shapes at compile",
                        fmt::format("'{}' of shape {}", graph[in].name, graph[in].shape.to_string()),
                        "bind the input shapes first");
    inputs.push_back(host_tensor(graph[in]));
    input_buffers.push_back(is_dynamic(in) ? kNoBuffer : fixed_buffer(inputs.back()));
    if (is_dynamic(in))
      *dynamic(in) = inputs.back();
    else
      info(in).home = {input_buffers.back(), graph[in].dtype, graph[in].shape, Layout(), host_space()};
  }
  for (const State& state : graph.states) {
    if (state.next != kNoValue && is_dynamic(state.next))
      throw_input_error(fmt::format("a next value of '{}' of its shape, {}", graph[state.value].name,
                                    graph[state.value].shape.to_string()),
                        fmt::format("'{}', whose shape depends on data", graph[state.next].name),
                        "remove the metadata of this state from the model");
    Store::Entry& entry = store.bind(graph, state);
    const auto id = static_cast<BufferId>(buffers_.size());
    buffers_.push_back({0, nullptr, &entry, kAtEnd});
    state_buffers_.push_back(id);
    info(state.value).home = {id, entry.dtype, entry.shape, entry.layout, Space::device};
  }
  make_outputs();
}

Tensor Assembly::host_tensor(const Value& value) const {
  if (device_.is_host() || value.dtype == DType::string) return Tensor(value.dtype, value.shape);
  const std::size_t bytes = bytes_of(value.dtype, value.shape);
  std::shared_ptr<void> memory = device_.allocate(bytes, Space::host);
  void* data = memory.get();
  return Tensor::view(value.dtype, value.shape, data, std::move(memory));
}

BufferId Assembly::arena_buffer(std::size_t bytes, std::int32_t last, Space space) {
  buffers_.push_back({bytes, nullptr, nullptr, last, space});
  return static_cast<BufferId>(buffers_.size() - 1);
}

BufferId Assembly::part_of(BufferId whole, std::size_t offset, std::size_t bytes, std::int32_t last_use) {
  Buffer part{bytes, nullptr, nullptr, last_use, buffer(whole).space};
  part.whole = whole;
  part.offset = offset;
  buffers_.push_back(std::move(part));
  return static_cast<BufferId>(buffers_.size() - 1);
}

BufferId Assembly::buffer_for(ValueId id, const Operand& operand) {
  const auto at = preferred_.find(id);
  const bool fits = at != preferred_.end() && operand.layout.is_row_major() && operand.dtype == graph_[id].dtype &&
                    operand.space == buffer(at->second).space;
  return fits ? at->second : arena_buffer(operand.bytes(), last_use(id), operand.space);
}

BufferId Assembly::fixed_buffer(Tensor tensor) {
  // An empty tensor may have no memory; no kernel will touch it, but it needs an address that is not the arena's.
  static std::byte nothing[64];
  void* data = tensor.raw() ? tensor.raw() : nothing;
  const std::size_t bytes = tensor.bytes();
  auto owner = std::make_shared<Tensor>(std::move(tensor));
  buffers_.push_back({bytes, std::shared_ptr<void>(std::move(owner), data), nullptr, kAtEnd, host_space()});
  return static_cast<BufferId>(buffers_.size() - 1);
}

BufferId Assembly::output_buffer(ValueId id) const {
  for (std::size_t i = 0; i < graph_.outputs.size(); ++i)
    if (graph_.outputs[i] == id) return output_buffers[i];
  for (std::size_t i = 0; i < graph_.outputs.size(); ++i) {
    ValueId source = graph_.outputs[i];
    const Node* node = graph_.producer(source);
    for (; node && keeps_order(*node); node = graph_.producer(source)) {
      source = node->inputs[0];
      if (source == id) return output_buffers[i];
    }
  }
  return kNoBuffer;
}

Store::Entry* Assembly::state_entry(ValueId id) const {
  const std::ptrdiff_t s = graph_.state_of(id);
  return s < 0 ? nullptr : buffers_[state_buffers_[s]].state;
}

Store::Entry* Assembly::state_to_update(ValueId id, BufferId& target) const {
  for (std::size_t s = 0; s < graph_.states.size(); ++s) {
    if (graph_.states[s].next != id || !schedule_.in_place[s]) continue;
    target = state_buffers_[s];
    return buffers_[target].state;
  }
  return nullptr;
}

void Assembly::settle(ValueId id, const Layout* wanted) {
  Store::Entry* entry = state_entry(id);
  if (!entry) return;
  Store::Entry& home = entry->home();
  if (!home.is_settled && wanted && device_.knows(*wanted, home.shape, home.dtype))
    Store::adopt(*entry, *wanted, device_);
  home.is_settled = true;
  info(id).home.layout = entry->layout;
}

void Assembly::make_lazy(ValueId id, const Layout* wanted) {
  ValueInfo& value = info(id);
  if (value.home || value.lazy_source == kNoValue) return;
  ValueInfo& source = info(value.lazy_source);
  make_lazy(value.lazy_source, wanted);
  settle(value.lazy_source, wanted);
  const DType dtype = graph_[id].dtype;
  Operand home = source.home;
  home.dtype = dtype;
  home.buffer = arena_buffer(home.bytes(), last_use(id));
  convert(graph_[id].name, source.home, home);
  info(id).home = home;
}

Layout Assembly::layout_of(ValueId id) const {
  const ValueInfo& value = info(id);
  if (!value.home && value.lazy_source != kNoValue) return layout_of(value.lazy_source);
  const Store::Entry* entry = state_entry(id);
  return entry ? entry->layout : value.home.layout;
}

bool Assembly::is_free(ValueId id) const {
  const ValueInfo& value = info(id);
  if (!value.home) return value.lazy_source != kNoValue && is_free(value.lazy_source);
  Store::Entry* entry = state_entry(id);
  return entry && !entry->home().is_settled;
}

Operand Assembly::read(ValueId id) {
  make_lazy(id, nullptr);
  settle(id, nullptr);
  return info(id).home;
}

Operand Assembly::read(ValueId id, const Layout& layout, DType dtype, Space space) {
  make_lazy(id, &layout);
  settle(id, &layout);
  const Operand home = info(id).home;
  auto fits = [&](const Operand& o) { return o.layout == layout && o.dtype == dtype && o.space == space; };
  if (fits(home)) return home;
  for (const Operand& copy : info(id).copies)
    if (fits(copy)) return copy;
  Operand copy{kNoBuffer, dtype, home.shape, layout, space};
  if (graph_[id].is_constant()) {
    copy = constant_copy(id, copy);
  } else {
    copy.buffer = buffer_for(id, copy);
    convert(graph_[id].name, home, copy);
  }
  info(id).copies.push_back(copy);
  return copy;
}

Operand Assembly::constant_copy(ValueId id, Operand copy) {
  const Tensor& constant = graph_[id].constant;
  const auto in_type = [&] {
    return constant.dtype() == copy.dtype ? constant : halfstep::convert(constant, copy.dtype);
  };
  if (copy.layout.is_row_major() && copy.space == host_space()) {
    copy.buffer = fixed_buffer(in_type());
    return copy;
  }
  copy.buffer = arena_buffer(copy.bytes(), kAtEnd, copy.space);
  buffer(copy.buffer).fixed = Constants::of_process().copied(constant, device_, copy, [&] {
    Tensor converted = in_type();
    std::shared_ptr<void> memory = device_.allocate(copy.bytes(), copy.space);
    device_.move(copy.dtype, copy.shape, {converted.raw(), Layout(), host_space()},
                 {memory.get(), copy.layout, copy.space});
    return memory;
  });
  return copy;
}

void Assembly::convert(const std::string& name, const Operand& from, const Operand& to) {
  const bool same_order = from.layout == to.layout, same_type = from.dtype == to.dtype;
  const auto by_way_of = [&](Operand middle, Space space) {
    middle.space = space;
    middle.buffer = arena_buffer(middle.bytes(), kAtEnd, space);
    convert(name, from, middle);
    convert(name, middle, to);
  };
  // The device converts, what crosses is only copied.
  if (from.space != to.space && !(same_order && same_type))
    return by_way_of({kNoBuffer, from.space == Space::device ? to.dtype : from.dtype, from.shape,
                      from.space == Space::device ? to.layout : from.layout},
                     Space::device);
  if (!from.layout.is_row_major() && !to.layout.is_row_major() && from.layout.dims() != to.layout.dims())
    return by_way_of({kNoBuffer, from.dtype, from.shape, Layout()}, from.space);

  const char* what = from.space != to.space ? (to.space == Space::device ? "Upload" : "Download")
                     : !same_order          ? "Reorder"
                     : !same_type           ? "Cast"
                                            : "Copy";
  Step step{{name, what, "", "", 0}, {}, {from.buffer, to.buffer}};
  Made made = device_.convert(from, to, [&](std::size_t bytes) {
    const BufferId scratch = arena_buffer(bytes);
    step.entry.scratch_bytes += bytes;
    step.touches.push_back(scratch);
    return scratch;
  });
  step.entry.kernel = std::move(made.kernel);
  step.bind = std::move(made.bind);
  append(std::move(step));
}

Operand Assembly::place(ValueId id, const Layout& layout, const std::vector<BufferId>& reads, Space space) {
  Operand result{kNoBuffer, graph_[id].dtype, graph_[id].shape, layout, space};
  BufferId target = kNoBuffer;
  Store::Entry* entry = space == Space::device ? state_to_update(id, target) : nullptr;
  if (entry && !contains(reads, target)) {
    if (!entry->home().is_settled) Store::adopt(*entry, layout, device_);
    entry->home().is_settled = true;
    if (entry->layout == layout) result.buffer = target;
  }
  if (!result && layout.is_row_major() && space == host_space()) result.buffer = output_buffer(id);
  if (contains(reads, result.buffer)) result.buffer = kNoBuffer;  // what it is a view of, and a kernel copies
  if (!result) result.buffer = buffer_for(id, result);
  info(id).home = result;
  return result;
}

Operand Assembly::place_over(ValueId id, const Operand& in, std::int32_t position, const std::vector<BufferId>& reads) {
  Operand result{kNoBuffer, graph_[id].dtype, graph_[id].shape, in.layout, in.space};
  BufferId target = kNoBuffer;
  if (Store::Entry* entry = state_to_update(id, target)) {
    if (target != in.buffer || entry->layout != in.layout) return place(id, in.layout, reads);
    result.buffer = target;
  } else {
    Buffer& old = buffer(in.buffer);
    const bool dies = !old.fixed && !old.state && old.last_use <= position;
    // Elsewhere an output is copied to its place, and so would be what it is a view of.
    const bool has_place = in.space == host_space() ? output_buffer(id) != kNoBuffer : graph_.is_output(id);
    if (!dies || result.bytes() != in.bytes() || has_place) return place(id, in.layout, reads);
    old.last_use = last_use(id);
    result.buffer = in.buffer;
  }
  info(id).home = result;
  return result;
}

void Assembly::alias(ValueId id, Operand operand) {
  operand.shape = graph_[id].shape;
  info(id).home = std::move(operand);
}

void Assembly::set_lazy(ValueId id, ValueId source) { info(id).lazy_source = source; }

std::shared_ptr<Tensor> Assembly::dynamic(ValueId id) {
  std::shared_ptr<Tensor>& slot = dynamic_[id];
  if (!slot) slot = std::make_shared<Tensor>();
  return slot;
}

Operand Assembly::nearest(ValueId id, const Layout& layout, Space space) {
  const Operand home = read(id);
  for (const Operand& copy : info(id).copies)
    if (copy.layout == layout && copy.dtype == home.dtype && copy.space == space) return copy;
  return home;
}

void Assembly::append_final_copies() {
  append_output_copies();
  // All that may change under way is copied before any state is moved.
  std::vector<std::pair<Operand, Operand>> moves;
  for (const State& state : graph_.states) {
    if (state.next == kNoValue || state.next == state.value) continue;
    const Operand target = read(state.value);
    Operand source = nearest(state.next, target.layout, Space::device);
    if (source.buffer == target.buffer) continue;
    if (buffer(source.buffer).state) {
      Operand snapshot = source;
      snapshot.buffer = arena_buffer(source.bytes());
      convert(graph_[state.next].name, source, snapshot);
      source = snapshot;
    }
    moves.emplace_back(source, target);
  }
  for (const auto& [source, target] : moves) convert("state", source, target);
}

Layout Assembly::preferred_layout(ValueId id) const {
  const ValueId state = met_states_[id];
  return state == kNoValue ? Layout() : layout_of(state);
}

std::optional<Layout> Assembly::wanted_layout(ValueId id) const {
  BufferId unused = kNoBuffer;
  Store::Entry* entry = state_to_update(id, unused);
  if (!entry || !entry->home().is_settled) return std::nullopt;
  return entry->layout;
}

}  // namespace halfstep::core
