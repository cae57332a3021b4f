#include <algorithm>

#include "executors/core/same_elements.h"
#include <halfstep/executors/core/kernel_context.h>

namespace halfstep::core {

bool KernelContext::has_output(std::size_t i) const {
  const ValueId id = node().output(i);
  return id != kNoValue && assembly_.schedule().last_use[id] >= 0;
}

std::optional<std::vector<std::int64_t>> KernelContext::constant_ints(std::size_t i) const {
  if (!has_input(i) || !in(i).is_constant()) return std::nullopt;
  return to_int64s(in(i).constant);
}

std::optional<double> KernelContext::constant_scalar(std::size_t i) const {
  if (!has_input(i) || !in(i).is_constant() || in(i).constant.count() != 1) return std::nullopt;
  return to_doubles(in(i).constant)[0];
}

bool KernelContext::is_done(std::size_t node_index) const {
  const auto& order = assembly_.schedule().order;
  return absorbed_[node_index] ||
         std::find(order.begin(), order.begin() + position_, node_index) != order.begin() + position_;
}

Operand KernelContext::note_read(Operand operand) {
  touch(operand.buffer);
  return operand;
}

Operand KernelContext::read(std::size_t i) {
  if (!has_input(i)) return {};
  const Operand lies = assembly_.read(node().inputs[i]);
  return lies.space == Space::device ? note_read(lies) : read(i, lies.layout, lies.dtype);
}

Operand KernelContext::read_in_place(std::size_t i, const Layout& layout) {
  if (!has_input(i)) return {};
  const Space space = assembly_.read(node().inputs[i]).space;
  return note_read(assembly_.read(node().inputs[i], layout, in(i).dtype, space));
}

Operand KernelContext::read_on_host(std::size_t i) {
  if (!has_input(i)) return {};
  return note_read(assembly_.read(node().inputs[i], Layout(), in(i).dtype, assembly_.host_space()));
}

Operand KernelContext::write_on_host(std::size_t i) {
  if (node().output(i) == kNoValue) return {};
  return note_read(assembly_.place(node().outputs[i], Layout(), touches_, assembly_.host_space()));
}

Operand KernelContext::read(std::size_t i, const Layout& layout) {
  if (!has_input(i)) return {};
  return read(i, layout, in(i).dtype);
}

Operand KernelContext::read(std::size_t i, const Layout& layout, DType dtype) {
  if (!has_input(i)) return {};
  return note_read(assembly_.read(node().inputs[i], layout, dtype));
}

Operand KernelContext::write(std::size_t i, const Layout& layout) {
  if (node().output(i) == kNoValue) return {};
  return write_value(node().outputs[i], layout, out(i).dtype);
}

Operand KernelContext::write(std::size_t i, const Layout& layout, DType dtype) {
  if (node().output(i) == kNoValue) return {};
  return write_value(node().outputs[i], layout, dtype);
}

Operand KernelContext::write_value(ValueId id, const Layout& layout, DType dtype) {
  const Operand target = assembly_.place(id, layout, touches_);
  if (target.dtype == dtype) return note_read(target);
  Operand computed{kNoBuffer, dtype, target.shape, layout};
  computed.buffer = keep(computed.bytes());
  conversions_.emplace_back(computed, target);
  return computed;
}

Operand KernelContext::write_over(std::size_t i, const Operand& in) {
  if (node().output(i) == kNoValue) return {};
  // One that is read as something else, too, may still be read when it is written.
  if (std::ranges::count(touches_, in.buffer) > 1) return write(i, in.layout);
  return note_read(assembly_.place_over(node().outputs[i], in, position_, touches_));
}

const State* KernelContext::copy_of(std::size_t output) const {
  const ValueId next = node().output(output);
  const auto is_next = [&](const State& copy) {
    if (copy.role != StateRole::copy) return false;
    const Node* cast = graph().producer(copy.next);
    return cast && cast->is("Cast") && cast->inputs[0] == next &&
           graph().states[static_cast<std::size_t>(graph().state_of(copy.source))].next == next;
  };
  const auto copy = std::ranges::find_if(graph().states, is_next);
  return next == kNoValue || copy == graph().states.end() ? nullptr : &*copy;
}

DType KernelContext::copy_type(std::size_t i) const {
  const State* copy = copy_of(i);
  return copy ? graph()[copy->next].dtype : DType::undefined;
}

Operand KernelContext::write_copy(std::size_t i, const Layout& layout) {
  const State* copy = copy_of(i);
  if (!copy) return {};
  absorb(static_cast<std::size_t>(graph().producer_index(copy->next)));
  return write_value(copy->next, layout, graph()[copy->next].dtype);
}

BufferId KernelContext::scratch(std::size_t bytes) {
  scratch_bytes_ += bytes;
  return bytes == 0 ? kNoBuffer : keep(bytes);
}

BufferId KernelContext::keep(std::size_t bytes) {
  const BufferId id = assembly_.arena_buffer(bytes);
  touch(id);
  return id;
}

void KernelContext::touch(BufferId buffer) {
  touched_ = true;
  if (buffer != kNoBuffer) touches_.push_back(buffer);
}

ForwardRecord* KernelContext::forward_record() {
  return node().forward == kNoNode ? nullptr : &assembly_.record(node().forward);
}

bool KernelContext::has_gradient() const {
  const auto& nodes = graph().nodes;
  const auto is_differentiated = [&](const Node& node) {
    return std::ranges::any_of(nodes, [&](const Node& other) { return other.forward == node.id; });
  };
  // A node that computes again what another one did runs as that one does.
  const auto is_repeated_here = [&](const Node& other) {
    return other.is(node().op, node().domain) && node().output(0) != kNoValue &&
           same_elements(graph(), other.output(0), node().output(0)) && is_differentiated(other);
  };
  return is_differentiated(node()) || std::ranges::any_of(nodes, is_repeated_here);
}

void KernelContext::append_conversions() {
  for (const auto& [from, to] : conversions_) assembly_.convert(node().name, from, to);
}

}  // namespace halfstep::core
