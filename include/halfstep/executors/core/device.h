// What an executor's device does besides running kernels: memory, copies, and how a step is run.
#pragma once

#include <memory>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include <halfstep/base/api.h>
#include <halfstep/executors/core/kernel.h>
#include <halfstep/graph/graph.h>

namespace HALFSTEP_API halfstep {
namespace core {

/// Memory of a program for one step alone.
using TakeScratch = std::function<BufferId(std::size_t bytes)>;

/// A tensor's elements outside of any program.
struct Stored {
  void* data = nullptr;
  Layout layout;
  Space space = Space::device;
};

/// The defaults are those of a CPU whose kernels take row-major operands.
class Device {
 public:
  virtual ~Device() = default;

  /// Whether kernels compute in the host's memory. Where they do not, inputs, outputs and reference kernels are on the
  /// host, and what crosses is copied by steps of its own.
  virtual bool is_host() const { return true; }
  /// Whether kernels exist for elements of that type; values of others go to reference kernels.
  virtual bool holds(DType) const { return true; }

  /// Whether a value of that type can be converted to that layout.
  virtual bool knows(const Layout& layout, const Shape&, DType) const { return layout.is_row_major(); }

  /// Zero-filled, 64-byte aligned. Host memory is what the device copies to and from.
  virtual std::shared_ptr<void> allocate(std::size_t bytes, Space space);
  /// Copies a value at once, to another layout or space. Returns when it is done.
  virtual void move(DType dtype, const Shape& shape, const Stored& from, const Stored& to);

  /// A step that copies a value: within one space to another layout or type, or from one space to the other, in the
  /// same layout and type.
  virtual Made convert(const Operand& from, const Operand& to, const TakeScratch& scratch);

  /// Waits for the steps that were run.
  virtual void wait() {}
  /// What runs all steps of a program. They, and `notes` (of the plan), live as long as what is returned. `on_device`:
  /// none of the steps is a reference kernel on the host.
  virtual Run sequence(const std::vector<Run>& steps, bool on_device, std::vector<std::string>& notes);
  /// Calls `work`, which compiles a program, in the surroundings that the device's libraries need.
  virtual void within(const std::function<void()>& work) { work(); }
  /// Calls `work`, which runs steps of a program.
  virtual void running(const std::function<void()>& work) { within(work); }

  /// (a, b): indices of nodes of which a is to run before b, because its kernel may compute b's result along. Pairs
  /// that other nodes make impossible do not count.
  virtual std::vector<std::pair<std::size_t, std::size_t>> precedences(const Graph&) { return {}; }
};

/// A device without anything of its own.
std::shared_ptr<Device> host_device();

}  // namespace core
}  // namespace halfstep
