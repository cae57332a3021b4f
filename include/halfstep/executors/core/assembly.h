// A program under construction: buffers, where each value lies, and the steps so far.
#pragma once

#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include <halfstep/base/api.h>
#include <halfstep/executors/core/device.h>
#include <halfstep/executors/core/kernel.h>
#include <halfstep/executors/core/schedule.h>
#include <halfstep/executors/core/store.h>
#include <halfstep/executors/executor.h>
#include <halfstep/graph/graph.h>

namespace HALFSTEP_API halfstep {
namespace core {

/// Larger copies between the host and a device are made separately: of outputs on request, of inputs during the
/// previous run. A smaller copy costs less than waiting for it.
inline constexpr std::size_t kSmallCopy = 4096;

/// One step of the program.
struct Step {
  PlanEntry entry;
  Bind bind;
  std::vector<BufferId> touches;  ///< buffers it reads or writes
};

/// Data that a forward kernel saves for the gradient kernels of its node.
struct ForwardRecord {
  BufferId workspace = kNoBuffer;     ///< pooling: where each maximum was; recurrent: their own
  Operand mean, variance;             ///< normalization: statistics; of layers the inverse deviation, not the variance
  Layout source, destination;         ///< layouts the forward kernel ran on
  DType computed = DType::undefined;  ///< type it ran in; undefined while no kernel filled this in
};

class Assembly {
 public:
  Assembly(const Graph& graph, Store& store, Device& device);

  const Graph& graph() const { return graph_; }
  const Schedule& schedule() const { return schedule_; }
  Device& device() const { return device_; }
  /// The memory of inputs, outputs and reference kernels.
  Space host_space() const { return device_.is_host() ? Space::device : Space::host; }

  /// The value in its present layout, in its own type; settles the layout of a state.
  Operand read(ValueId id);
  /// The value in this layout, type and space; appends the conversions that this needs, once. A state that no program
  /// holds yet is stored in this layout instead, also if it is read through a lazy cast.
  Operand read(ValueId id, const Layout& layout, DType dtype, Space space = Space::device);
  /// The value's present layout, without settling anything.
  Layout layout_of(ValueId id) const;
  /// Whether the value is a state (or a lazy cast of one) whose layout is not settled.
  bool is_free(ValueId id) const;

  /// The layout of the state that this value updates in place; empty if there is none, or its layout is not settled.
  std::optional<Layout> wanted_layout(ValueId id) const;

  /// The layout of the state with which this value is combined elementwise in the computation of a parameter's next
  /// value; row-major if there is none.
  Layout preferred_layout(ValueId id) const;

  /// Memory for a value that a kernel is about to write; see KernelContext.
  Operand place(ValueId id, const Layout& layout, const std::vector<BufferId>& reads, Space space = Space::device);
  Operand place_over(ValueId id, const Operand& in, std::int32_t position, const std::vector<BufferId>& reads);
  /// Makes a value an alias of existing memory.
  void alias(ValueId id, Operand operand);
  void set_lazy(ValueId id, ValueId source);

  BufferId arena_buffer(std::size_t bytes, std::int32_t last_use = kAtEnd, Space space = Space::device);
  /// A part of an arena buffer, with its own lifetime.
  BufferId part_of(BufferId whole, std::size_t offset, std::size_t bytes, std::int32_t last_use = kAtEnd);
  /// Places a value in `buffer` if it is row-major and in the buffer's space, or else such a copy of it. Only the
  /// reader of the buffer may read it there.
  void prefer(ValueId id, BufferId buffer) { preferred_[id] = buffer; }
  void append(Step step) { steps_.push_back(std::move(step)); }
  /// Appends steps that convert `from` to the layout, type and space of `to`.
  void convert(const std::string& name, const Operand& from, const Operand& to);

  /// Whether a value has its own tensor instead of planned memory: its shape depends on data, or it contains strings.
  bool is_dynamic(ValueId id) const { return !graph_[id].shape.is_static() || graph_[id].dtype == DType::string; }
  /// That tensor; created on first use.
  std::shared_ptr<Tensor> dynamic(ValueId id);

  ForwardRecord& record(NodeId forward) { return records_[forward]; }

  /// Copies to outputs and states at the end of a run.
  void append_final_copies();

  // What becomes the program.
  struct Buffer {
    std::size_t bytes = 0;
    std::shared_ptr<void> fixed;  ///< nullptr: in an arena, or that of a state
    Store::Entry* state = nullptr;
    std::int32_t last_use = kAtEnd;  ///< position of the last node that reads a value in it
    Space space = Space::device;
    BufferId whole = kNoBuffer;  ///< the buffer of which this is a part, from `offset` on
    std::size_t offset = 0;
  };
  std::vector<Step>& steps() { return steps_; }
  const std::vector<Step>& steps() const { return steps_; }
  const std::vector<Buffer>& buffers() const { return buffers_; }
  std::vector<Tensor> inputs, outputs;  ///< host memory; a dynamic output is undefined
  /// Their buffers; kNoBuffer for a dynamic output.
  std::vector<BufferId> input_buffers, output_buffers;

 private:
  /// Small outputs, adjacent in one buffer on the device and in one on the host, so that all of them are copied
  /// together.
  struct Packed {
    BufferId on_device = kNoBuffer, on_host = kNoBuffer;
    std::vector<BufferId> parts = {};  ///< of `on_device`, per output; kNoBuffer: not packed
  };
  struct ValueInfo {
    Operand home;
    std::vector<Operand> copies;
    ValueId lazy_source = kNoValue;
  };
  ValueInfo& info(ValueId id) { return values_[id]; }
  const ValueInfo& info(ValueId id) const { return values_[id]; }
  std::int32_t last_use(ValueId id) const { return schedule_.last_use[id]; }
  Buffer& buffer(BufferId id) { return buffers_[id]; }
  void make_outputs();
  void append_output_copies();
  /// Copies these packed outputs, which are adjacent, from the device.
  void append_packed_copy(const std::vector<std::size_t>& outputs_in_order);
  void append_output_copy(std::size_t output);
  Tensor host_tensor(const Value& value) const;
  BufferId fixed_buffer(Tensor tensor);
  /// See prefer; a new buffer if none fits.
  BufferId buffer_for(ValueId id, const Operand& operand);
  BufferId output_buffer(ValueId id) const;
  Store::Entry* state_entry(ValueId id) const;
  /// The state into which this node result may be written directly; nullptr if there is none.
  Store::Entry* state_to_update(ValueId id, BufferId& buffer) const;
  void settle(ValueId id, const Layout* wanted);
  void make_lazy(ValueId id, const Layout* wanted);
  /// The value in its own type; in this layout and space if such a copy exists.
  Operand nearest(ValueId id, const Layout& layout, Space space);
  Operand constant_copy(ValueId id, Operand copy);

  const Graph& graph_;
  Device& device_;
  Schedule schedule_;
  ValueMap<ValueId> met_states_;  // see preferred_layout
  ValueMap<ValueInfo> values_;
  std::vector<Buffer> buffers_;
  std::vector<Step> steps_;
  std::vector<BufferId> state_buffers_;  // per state
  Packed packed_;
  std::map<NodeId, ForwardRecord> records_;
  std::map<ValueId, std::shared_ptr<Tensor>> dynamic_;
  std::map<ValueId, BufferId> preferred_;
};

}  // namespace core
}  // namespace halfstep
