// What a kernel maker sees: its node, the operands' types and layouts, and the means to ask for memory.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include <halfstep/base/api.h>
#include <halfstep/executors/core/assembly.h>
#include <halfstep/executors/core/kernel.h>
#include <halfstep/graph/graph.h>

namespace HALFSTEP_API halfstep {
namespace core {

/// One attempt to make a kernel for one node. Layouts but row-major are those that kernels of this executor gave to
/// what they wrote; operands are in the memory of its device. A maker first decides from types, shapes and layouts
/// alone; one that refuses must not have asked for operands or memory. It asks for what it reads before what it writes.
class KernelContext {
 public:
  KernelContext(Assembly& assembly, std::size_t node_index, std::int32_t position, std::vector<bool>& absorbed)
      : assembly_(assembly), index_(node_index), position_(position), absorbed_(absorbed) {}

  const Graph& graph() const { return assembly_.graph(); }
  const Node& node() const { return graph().nodes[index_]; }
  std::size_t node_index() const { return index_; }

  bool has_input(std::size_t i) const { return node().input(i) != kNoValue; }
  /// Whether input i, if there is one, has this shape. Kernels that ask leave it to the reference kernel to refuse
  /// others.
  bool fits(std::size_t i, const Shape& shape) const { return !has_input(i) || in(i).shape == shape; }
  /// Whether anything reads output i.
  bool has_output(std::size_t i) const;
  const Value& in(std::size_t i) const { return graph()[node().inputs[i]]; }
  const Value& out(std::size_t i) const { return graph()[node().outputs[i]]; }
  /// The elements of input i when they are known.
  std::optional<std::vector<std::int64_t>> constant_ints(std::size_t i) const;
  std::optional<double> constant_scalar(std::size_t i) const;

  /// Layout input i lies in now.
  Layout layout(std::size_t i) const { return assembly_.layout_of(node().inputs[i]); }
  /// Whether input i takes any layout without a reorder: a state (or its half-precision copy) that no kernel has read.
  bool is_free(std::size_t i) const { return assembly_.is_free(node().inputs[i]); }

  /// The layout of the state that output i updates; empty when it updates none, or one that takes any.
  std::optional<Layout> wanted_layout(std::size_t i) const { return assembly_.wanted_layout(node().outputs[i]); }

  /// The layout that output i had best be made in: that of a state whose next value it helps to compute.
  Layout preferred_layout(std::size_t i) const { return assembly_.preferred_layout(node().outputs[i]); }

  /// Input i as it lies; in this layout; in this layout and type (conversions are added as steps of their own).
  /// An absent input gives an empty operand.
  Operand read(std::size_t i);
  Operand read(std::size_t i, const Layout& layout);
  Operand read(std::size_t i, const Layout& layout, DType dtype);

  /// Input i in this layout, in whichever space it lies: what a view may be another name of.
  Operand read_in_place(std::size_t i, const Layout& layout);
  /// Input i in the host's memory, and memory there for output i; row-major.
  Operand read_on_host(std::size_t i);
  Operand write_on_host(std::size_t i);

  /// Memory for output i. With another type than the value's, a conversion follows the kernel.
  /// An absent output gives an empty operand.
  Operand write(std::size_t i, const Layout& layout);
  Operand write(std::size_t i, const Layout& layout, DType dtype);
  /// Memory for output i in `in`'s layout: `in`'s own when the kernel touches it once, and its value dies here or is
  /// the state that i updates. The kernel must read each element of `in` before, or together with, writing it.
  Operand write_over(std::size_t i, const Operand& in);
  /// Output of another node that this kernel computes along (`absorb` it then).
  Operand write_value(ValueId id, const Layout& layout, DType dtype);
  void absorb(std::size_t node_index) { absorbed_[node_index] = true; }
  /// Whether a node has its kernel already, or is part of another's.
  bool is_done(std::size_t node_index) const;

  /// Memory for this kernel alone, while it runs.
  BufferId scratch(std::size_t bytes);
  /// Memory from here to the last kernel that says `touch`.
  BufferId keep(std::size_t bytes);
  void touch(BufferId buffer);

  /// What the kernels of a node and of its gradient nodes share: this node's, and (for a gradient node) the forward's.
  ForwardRecord& own_record() { return assembly_.record(node().id); }
  ForwardRecord* forward_record();
  /// Whether some gradient node will ask for this node's record.
  bool has_gradient() const;

  /// Makes output 0 another name of the operand.
  void alias(const Operand& operand) { assembly_.alias(node().outputs[0], operand); }
  Assembly& assembly() { return assembly_; }
  Device& device() const { return assembly_.device(); }

  bool is_touched() const { return touched_; }
  std::size_t scratch_bytes() const { return scratch_bytes_; }
  const std::vector<BufferId>& touches() const { return touches_; }
  /// Appends the conversions that outputs of another type need.
  void append_conversions();

 private:
  Operand note_read(Operand operand);

  Assembly& assembly_;
  std::size_t index_;
  std::int32_t position_;
  std::vector<bool>& absorbed_;
  std::vector<BufferId> touches_;
  std::vector<std::pair<Operand, Operand>> conversions_;
  std::size_t scratch_bytes_ = 0;
  bool touched_ = false;
};

}  // namespace core
}  // namespace halfstep
