#include "executors/onednn/assembly.h"

#include <algorithm>
#include <cstring>

#include <fmt/format.h>

#include "executors/onednn/simd/elementwise.h"
#include "graph/error.h"

namespace halfstep::onednn {
namespace {

bool contains(const std::vector<BufferId>& buffers, BufferId id) {
  return std::find(buffers.begin(), buffers.end(), id) != buffers.end();
}

Bind bind_copy(BufferId from, BufferId to, std::size_t bytes) {
  return [=](const Memory& memory) -> Run {
    return [source = memory.at(from), target = memory.at(to), bytes] { std::memcpy(target, source, bytes); };
  };
}

}  // namespace

Assembly::Assembly(const Graph& graph, Store& store)
    : graph_(graph), schedule_(make_schedule(graph)), values_(graph.values.size()) {
  for (std::size_t i = 0; i < graph.values.size(); ++i) {
    const Value& value = graph.values[i];
    if (!value.is_constant()) continue;
    const auto id = static_cast<ValueId>(i);
    if (is_dynamic(id))
      *dynamic(id) = value.constant;
    else
      values_[i].home = {fixed_buffer(value.constant), value.dtype, value.constant.shape(), Layout()};
  }
  for (ValueId in : graph.inputs) {
    if (!graph[in].shape.is_static())
      throw_input_error("static shapes at compile",
                        fmt::format("'{}' of shape {}", graph[in].name, graph[in].shape.to_string()),
                        "bind the input shapes first");
    inputs.emplace_back(graph[in].dtype, graph[in].shape);
    if (is_dynamic(in))
      *dynamic(in) = inputs.back();
    else
      info(in).home = {fixed_buffer(inputs.back()), graph[in].dtype, graph[in].shape, Layout()};
  }
  for (const State& state : graph.states) {
    Store::Entry& entry = store.bind(graph[state.value].name, state.initial);
    const auto id = static_cast<BufferId>(buffers_.size());
    buffers_.push_back({0, nullptr, &entry, kAtEnd});
    state_buffers_.push_back(id);
    info(state.value).home = {id, entry.dtype, entry.shape, entry.layout};
  }
  for (ValueId out : graph.outputs) {
    const Value& value = graph[out];
    outputs.push_back(is_dynamic(out) ? Tensor() : Tensor(value.dtype, value.shape));
    output_buffers_.push_back(is_dynamic(out) ? kNoBuffer : fixed_buffer(outputs.back()));
  }
}

BufferId Assembly::arena_buffer(std::size_t bytes, std::int32_t last) {
  buffers_.push_back({bytes, nullptr, nullptr, last});
  return static_cast<BufferId>(buffers_.size() - 1);
}

BufferId Assembly::fixed_buffer(Tensor tensor) {
  // An empty tensor may have no memory; no kernel will touch it, but it needs an address that is not the arena's.
  static std::byte nothing[64];
  void* data = tensor.raw() ? tensor.raw() : nothing;
  buffers_.push_back({tensor.bytes(), data, nullptr, kAtEnd});
  keep.push_back(std::move(tensor));
  return static_cast<BufferId>(buffers_.size() - 1);
}

BufferId Assembly::output_buffer(ValueId id) const {
  for (std::size_t i = 0; i < graph_.outputs.size(); ++i)
    if (graph_.outputs[i] == id) return output_buffers_[i];
  return kNoBuffer;
}

Store::Entry* Assembly::state_entry(ValueId id) const {
  const std::ptrdiff_t s = graph_.state_of(id);
  return s < 0 ? nullptr : buffers_[static_cast<std::size_t>(state_buffers_[static_cast<std::size_t>(s)])].state;
}

Store::Entry* Assembly::state_to_update(ValueId id, BufferId& target) const {
  for (std::size_t s = 0; s < graph_.states.size(); ++s) {
    if (graph_.states[s].next != id || !schedule_.in_place[s]) continue;
    target = state_buffers_[s];
    return buffers_[static_cast<std::size_t>(target)].state;
  }
  return nullptr;
}

void Assembly::settle(ValueId id, const Layout* wanted) {
  Store::Entry* entry = state_entry(id);
  if (!entry) return;
  const bool takes_it = wanted && data_type(entry->dtype) != DataType::undef &&
                        wanted->desc(entry->shape, entry->dtype).get(true) != nullptr;
  if (!entry->is_settled && takes_it) Store::adopt(*entry, *wanted);
  entry->is_settled = true;
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
  const Store::Entry* entry = state_entry(id);
  return entry && !entry->is_settled;
}

Operand Assembly::read(ValueId id) {
  make_lazy(id, nullptr);
  settle(id, nullptr);
  return info(id).home;
}

Operand Assembly::read(ValueId id, const Layout& layout, DType dtype) {
  make_lazy(id, &layout);
  settle(id, &layout);
  const Operand home = info(id).home;
  auto fits = [&](const Operand& o) { return o.layout == layout && o.dtype == dtype; };
  if (fits(home)) return home;
  for (const Operand& copy : info(id).copies)
    if (fits(copy)) return copy;
  Operand copy{kNoBuffer, dtype, home.shape, layout};
  if (graph_[id].is_constant()) {
    copy = constant_copy(id, home, layout, dtype);
  } else {
    copy.buffer = arena_buffer(copy.bytes(), last_use(id));
    convert(graph_[id].name, home, copy);
  }
  info(id).copies.push_back(copy);
  return copy;
}

Operand Assembly::constant_copy(ValueId id, const Operand& home, const Layout& layout, DType dtype) {
  const Tensor converted = home.dtype == dtype ? graph_[id].constant : halfstep::convert(graph_[id].constant, dtype);
  Operand copy{kNoBuffer, dtype, home.shape, layout};
  if (layout.is_row_major()) {
    copy.buffer = fixed_buffer(converted);
    return copy;
  }
  Tensor memory(DType::u8, Shape{static_cast<std::int64_t>(copy.bytes())});
  reorder_now(home.shape, dtype, converted.raw(), Layout(), memory.raw(), layout);
  copy.buffer = fixed_buffer(memory);
  return copy;
}

void Assembly::convert(const std::string& name, const Operand& from, const Operand& to) {
  PlanEntry entry{name, from.layout == to.layout ? (from.dtype == to.dtype ? "Copy" : "Cast") : "Reorder", "simd", "",
                  0};
  if (from.layout == to.layout && from.dtype == to.dtype) {
    append({entry, bind_copy(from.buffer, to.buffer, from.bytes()), {from.buffer, to.buffer}});
  } else if (from.layout == to.layout) {
    const simd::UnaryKernel cast = simd::find_cast(from.dtype, to.dtype);
    const std::int64_t n = from.stored();
    append({entry,
            [=](const Memory& memory) -> Run { return [=, x = memory.at(from), y = memory.at(to)] { cast(x, y, n); }; },
            {from.buffer, to.buffer}});
  } else if (!from.layout.is_row_major() && !to.layout.is_row_major() && from.layout.dims() != to.layout.dims()) {
    Operand middle{kNoBuffer, from.dtype, from.shape, Layout()};
    middle.buffer = arena_buffer(middle.bytes());
    convert(name, from, middle);
    convert(name, middle, to);
  } else {
    const Dims& dims = from.layout.is_row_major() ? to.layout.dims() : from.layout.dims();
    const Desc a = from.desc(dims), b = to.desc(dims);
    dnnl::primitive_attr attr;
    attr.set_scratchpad_mode(dnnl::scratchpad_mode::user);
    const dnnl::reorder::primitive_desc pd(engine(), a, engine(), b, attr);
    entry.kernel = std::string("onednn: ") + pd.impl_info_str();
    const BufferId scratch = arena_buffer(pd.scratchpad_desc().get_size());
    entry.scratch_bytes = pd.scratchpad_desc().get_size();
    append({entry,
            bind_primitive(dnnl::reorder(pd), {{DNNL_ARG_FROM, a, from.buffer},
                                               {DNNL_ARG_TO, b, to.buffer},
                                               {DNNL_ARG_SCRATCHPAD, pd.scratchpad_desc(), scratch}}),
            {from.buffer, to.buffer, scratch}});
  }
}

Operand Assembly::place(ValueId id, const Layout& layout, const std::vector<BufferId>& reads) {
  Operand result{kNoBuffer, graph_[id].dtype, graph_[id].shape, layout};
  BufferId target = kNoBuffer;
  if (Store::Entry* entry = state_to_update(id, target); entry && !contains(reads, target)) {
    if (!entry->is_settled) Store::adopt(*entry, layout);
    entry->is_settled = true;
    if (entry->layout == layout) result.buffer = target;
  }
  if (!result && layout.is_row_major()) result.buffer = output_buffer(id);
  if (!result) result.buffer = arena_buffer(result.bytes(), last_use(id));
  info(id).home = result;
  return result;
}

Operand Assembly::place_over(ValueId id, const Operand& in, std::int32_t position, const std::vector<BufferId>& reads) {
  Operand result{kNoBuffer, graph_[id].dtype, graph_[id].shape, in.layout};
  BufferId target = kNoBuffer;
  if (Store::Entry* entry = state_to_update(id, target)) {
    if (target != in.buffer || entry->layout != in.layout) return place(id, in.layout, reads);
    result.buffer = target;
  } else {
    Buffer& old = buffer(in.buffer);
    const bool dies = !old.fixed && !old.state && old.last_use <= position;
    if (!dies || result.bytes() != in.bytes() || output_buffer(id) != kNoBuffer) return place(id, in.layout, reads);
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

Operand Assembly::nearest(ValueId id, const Layout& layout) {
  const Operand home = read(id);
  for (const Operand& copy : info(id).copies)
    if (copy.layout == layout && copy.dtype == home.dtype) return copy;
  return home;
}

void Assembly::append_final_copies() {
  for (std::size_t i = 0; i < graph_.outputs.size(); ++i) {
    const ValueId id = graph_.outputs[i];
    if (is_dynamic(id)) continue;
    const Operand value = nearest(id, Layout());
    const Operand target{output_buffers_[i], value.dtype, graph_[id].shape, Layout()};
    if (value.buffer != target.buffer) convert(graph_[id].name, value, target);
  }
  // All that may change under way is copied before any state is moved.
  std::vector<std::pair<Operand, Operand>> moves;
  for (const State& state : graph_.states) {
    if (state.next == kNoValue || state.next == state.value) continue;
    const Operand target = read(state.value);
    Operand source = nearest(state.next, target.layout);
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

std::optional<Layout> Assembly::wanted_layout(ValueId id) const {
  BufferId unused = kNoBuffer;
  const Store::Entry* entry = state_to_update(id, unused);
  if (!entry || !entry->is_settled) return std::nullopt;
  return entry->layout;
}

}  // namespace halfstep::onednn
