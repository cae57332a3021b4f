// The context of a kernel maker: its node, the types and layouts of operands, and functions to request memory.
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

/// One attempt to make a kernel for one node. Operands are in device memory, in row-major order or in layouts chosen by
/// other kernels of this executor. A maker first decides only by types, shapes and layouts: if it refuses, it must not
/// have requested operands or memory. It requests operands that it reads before those that it writes.
class KernelContext {
 public:
  KernelContext(Assembly& assembly, std::size_t node_index, std::int32_t position, std::vector<bool>& absorbed)
      : assembly_(assembly), index_(node_index), position_(position), absorbed_(absorbed) {}

  const Graph& graph() const { return assembly_.graph(); }
  const Node& node() const { return graph().nodes[index_]; }
  std::size_t node_index() const { return index_; }

  bool has_input(std::size_t i) const { return node().input(i) != kNoValue; }
  /// Whether input i is absent or has this shape. If not, the maker refuses, and the reference kernel reports the
  /// error.
  bool fits(std::size_t i, const Shape& shape) const { return !has_input(i) || in(i).shape == shape; }
  /// Whether anything reads output i.
  bool has_output(std::size_t i) const;
  const Value& in(std::size_t i) const { return graph()[node().inputs[i]]; }
  const Value& out(std::size_t i) const { return graph()[node().outputs[i]]; }
  /// The elements of input i if they are known.
  std::optional<std::vector<std::int64_t>> constant_ints(std::size_t i) const;
  std::optional<double> constant_scalar(std::size_t i) const;

  /// The present layout of input i.
  Layout layout(std::size_t i) const { return assembly_.layout_of(node().inputs[i]); }
  /// Whether input i can have any layout without a reorder: a state (or its half-precision copy) not yet read.
  bool is_free(std::size_t i) const { return assembly_.is_free(node().inputs[i]); }

  /// The layout of the state that output i updates; empty if it updates none, or its layout is not settled.
  std::optional<Layout> wanted_layout(std::size_t i) const { return assembly_.wanted_layout(node().outputs[i]); }

  /// The best layout for output i: that of a state whose next value is computed from it.
  Layout preferred_layout(std::size_t i) const { return assembly_.preferred_layout(node().outputs[i]); }

  /// Input i in its present layout; in this layout; in this layout and type (conversions are separate steps).
  /// An absent input gives an empty operand.
  Operand read(std::size_t i);
  Operand read(std::size_t i, const Layout& layout);
  Operand read(std::size_t i, const Layout& layout, DType dtype);

  /// Input i in this layout, in its present space: for views, which alias it.
  Operand read_in_place(std::size_t i, const Layout& layout);
  /// Input i in host memory, and host memory for output i; row-major.
  Operand read_on_host(std::size_t i);
  Operand write_on_host(std::size_t i);

  /// Memory for output i. If the type is not the value's, a conversion follows the kernel.
  /// An absent output gives an empty operand.
  Operand write(std::size_t i, const Layout& layout);
  Operand write(std::size_t i, const Layout& layout, DType dtype);
  /// Memory for output i in the layout of `in`: that of `in` itself if the kernel reads it once, and this is its last
  /// use or it is the state that i updates. The kernel must read each element of `in` before or while writing it.
  Operand write_over(std::size_t i, const Operand& in);
  /// The type of the half copy of the state that output i updates: of a Cast of this output that is the copy's next
  /// value. `undefined` if there is none.
  DType copy_type(std::size_t i) const;
  /// Memory for that copy, which this kernel computes in place of the Cast; an empty operand if there is none.
  Operand write_copy(std::size_t i, const Layout& layout);
  /// An output of another node that this kernel also computes (call `absorb` for it).
  Operand write_value(ValueId id, const Layout& layout, DType dtype);
  void absorb(std::size_t node_index) { absorbed_[node_index] = true; }
  /// Whether a node already has a kernel, or is part of another node's.
  bool is_done(std::size_t node_index) const;

  /// Memory that only this kernel uses, while it runs.
  BufferId scratch(std::size_t bytes);
  /// Memory that remains valid until the last kernel that calls `touch`.
  BufferId keep(std::size_t bytes);
  void touch(BufferId buffer);

  /// Data that the kernels of a node and its gradient nodes share: of this node, and of a gradient node's forward node.
  ForwardRecord& own_record() { return assembly_.record(node().id); }
  ForwardRecord* forward_record();
  /// Whether a gradient node will request this node's record.
  bool has_gradient() const;

  /// Makes output 0 an alias of the operand.
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
  const State* copy_of(std::size_t output) const;

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
