// What an executor's device does besides running kernels: memory, copies, and how a step is run.
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

  /// Copies bytes within the kernels' memory, as part of a step.
  virtual void copy(void* to, const void* from, std::size_t bytes);

  /// The stream that all steps are given to, where other libraries may give it work, too.
  virtual std::optional<DeviceStream> stream() const { return std::nullopt; }
  /// Waits for the steps that were run.
  void wait();
  /// Calls `work`, in which `ranks`, unless it is null, wait in the device's place where this thread waits: steps of
  /// the device may wait for ranks that do not come. Other threads may run programs of the device meanwhile.
  void waiting_by(StreamRanks* ranks, const std::function<void()>& work);
  /// What runs all steps of a program. They, and `notes` (of the plan), live as long as what is returned. `on_device`,
  /// of each step: it does nothing but give work to the device, the same in each run.
  virtual Run sequence(const std::vector<Run>& steps, const std::vector<bool>& on_device,
                       std::vector<std::string>& notes);
  /// Whether large inputs are copied to the device ahead of a run, by what `make_staging` gives.
  virtual bool stages_inputs() const { return false; }
  virtual std::unique_ptr<Staging> make_staging(const std::vector<StagedInput>&) { return nullptr; }
  /// Calls `work`, which compiles a program, in the surroundings that the device's libraries need.
  virtual void within(const std::function<void()>& work) { work(); }
  /// Calls `work`, which runs steps of a program.
  virtual void running(const std::function<void()>& work) { within(work); }

  /// (a, b): indices of nodes of which a is to run before b, because its kernel may compute b's result along. Pairs
  /// that other nodes make impossible do not count.
  virtual std::vector<std::pair<std::size_t, std::size_t>> precedences(const Graph&) { return {}; }

 private:
  virtual void do_wait() {}
};

/// A device without anything of its own.
std::shared_ptr<Device> host_device();

}  // namespace core
}  // namespace halfstep
