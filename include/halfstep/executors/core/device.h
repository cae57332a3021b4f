// The device of an executor: its memory, copies, and how a step is run.
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include <halfstep/base/api.h>
#include <halfstep/distributed/communicator.h>
#include <halfstep/executors/core/kernel.h>
#include <halfstep/executors/core/staging.h>
#include <halfstep/graph/graph.h>

namespace HALFSTEP_API halfstep {
namespace core {

/// Requests memory of the program that only one step uses.
using TakeScratch = std::function<BufferId(std::size_t bytes)>;

/// A tensor's elements outside of any program.
struct Stored {
  void* data = nullptr;
  Layout layout;
  Space space = Space::device;
};

/// The defaults are for a CPU whose kernels use row-major operands.
class Device {
 public:
  virtual ~Device() = default;

  /// Whether kernels compute in host memory. If not, inputs, outputs and reference kernels still use host memory, and
  /// separate steps copy between the two.
  virtual bool is_host() const { return true; }
  /// Whether kernels exist for elements of that type; others are computed by reference kernels.
  virtual bool holds(DType) const { return true; }

  /// Whether a value of that type can be converted to that layout.
  virtual bool knows(const Layout& layout, const Shape&, DType) const { return layout.is_row_major(); }

  /// Zero-filled, 64-byte aligned. In host memory, suitable for copies from and to the device.
  virtual std::shared_ptr<void> allocate(std::size_t bytes, Space space);
  /// Copies a value immediately, to another layout or space. Returns when the copy is complete.
  virtual void move(DType dtype, const Shape& shape, const Stored& from, const Stored& to);

  /// A step that copies a value: within a space to another layout or type, or to the other space in the same layout and
  /// type.
  virtual Made convert(const Operand& from, const Operand& to, const TakeScratch& scratch);

  /// Copies bytes within the kernels' memory, as part of a step.
  virtual void copy(void* to, const void* from, std::size_t bytes);

  /// The stream of all steps, if other libraries may enqueue work on it.
  virtual std::optional<DeviceStream> stream() const { return std::nullopt; }
  /// Waits until all steps so far have been executed.
  void wait();
  /// Calls `work`. Meanwhile, waits of this thread for the device use StreamRanks::synchronize of `ranks`, unless it is
  /// null: steps may depend on ranks that are lost. Other threads may run programs of the device at the same time.
  void waiting_by(StreamRanks* ranks, const std::function<void()>& work);
  /// A function that runs all steps of a program. The steps, and `notes` (of the plan), outlive it. `on_device`, for
  /// each step: the step only enqueues work on the device, the same in each run.
  virtual Run sequence(const std::vector<Run>& steps, const std::vector<bool>& on_device,
                       std::vector<std::string>& notes);
  /// Whether large inputs are copied to the device ahead of a run, by `make_staging`.
  virtual bool stages_inputs() const { return false; }
  virtual std::unique_ptr<Staging> make_staging(const std::vector<StagedInput>&) { return nullptr; }
  /// Calls `work`, which compiles a program, in the environment that the device's libraries need.
  virtual void within(const std::function<void()>& work) { work(); }
  /// Calls `work`, which runs steps of a program.
  virtual void running(const std::function<void()>& work) { within(work); }

  /// Pairs (a, b) of node indices: a should run before b, because the kernel of a may also compute the result of b.
  /// Pairs that contradict other dependencies are ignored.
  virtual std::vector<std::pair<std::size_t, std::size_t>> precedences(const Graph&) { return {}; }

  /// Prepares the calling thread for freeing what the device's libraries have made.
  virtual void enter() noexcept {}

 private:
  virtual void do_wait() {}
};

/// A device with the defaults.
std::shared_ptr<Device> host_device();

}  // namespace core
}  // namespace halfstep
