// A GPU's memory and its stream. Threads may compile and run programs of it: they take turns. A thread whose call has
// returned stays at the device that the call was for.
#pragma once

#include "executors/core/turns.h"
#include "executors/cudnn/resources.h"
#include <halfstep/executors/core/device.h>

namespace halfstep::cudnn {

class GpuDevice : public core::Device {
 public:
  explicit GpuDevice(Libraries libraries) : libraries_(std::move(libraries)) {}
  ~GpuDevice() override { GpuDevice::enter(); }
  GpuDevice(const GpuDevice&) = delete;
  GpuDevice& operator=(const GpuDevice&) = delete;
  const Libraries& libraries() const { return libraries_; }

  bool is_host() const override { return false; }
  bool holds(DType dtype) const override;
  /// Row-major, and any other order of a tensor's own axes.
  bool knows(const core::Layout& layout, const Shape& shape, DType dtype) const override;
  /// Memory of the device, or page-locked memory of the host (which copies to the device without waiting).
  std::shared_ptr<void> allocate(std::size_t bytes, core::Space space) override;
  void move(DType dtype, const Shape& shape, const core::Stored& from, const core::Stored& to) override;
  core::Made convert(const core::Operand& from, const core::Operand& to, const core::TakeScratch& scratch) override;
  void copy(void* to, const void* from, std::size_t bytes) override;
  std::optional<DeviceStream> stream() const override;
  /// See CapturedSteps.
  core::Run sequence(const std::vector<core::Run>& steps, const std::vector<bool>& on_device,
                     std::vector<std::string>& notes) override;
  bool stages_inputs() const override { return true; }
  std::unique_ptr<core::Staging> make_staging(const std::vector<core::StagedInput>& inputs) override;
  void enter() noexcept override;
  /// Makes the device that of the thread, once for a program's run and not for every kernel, and has other threads
  /// wait: the stream may be captured, and cuDNN's handle is for one thread at a time.
  void within(const std::function<void()>& work) override;

 protected:
  /// What of the arithmetic is not as it is by default.
  void note_arithmetic(std::vector<std::string>& notes) const;

 private:
  void do_wait() override;
  void set_device() const;

  Libraries libraries_;
  core::Turns turns_;
};

}  // namespace halfstep::cudnn
