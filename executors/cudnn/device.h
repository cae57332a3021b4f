// A GPU's memory and its stream.
#pragma once

#include "executors/cudnn/resources.h"
#include <halfstep/executors/core/device.h>

namespace halfstep::cudnn {

class GpuDevice : public core::Device {
 public:
  explicit GpuDevice(Libraries libraries) : libraries_(std::move(libraries)) {}
  const Libraries& libraries() const { return libraries_; }

  bool is_host() const override { return false; }
  bool holds(DType dtype) const override;
  /// Row-major, and any other order of a tensor's own axes.
  bool knows(const core::Layout& layout, const Shape& shape, DType dtype) const override;
  /// Memory of the device, or page-locked memory of the host (which copies to the device without waiting).
  std::shared_ptr<void> allocate(std::size_t bytes, core::Space space) override;
  void move(DType dtype, const Shape& shape, const core::Stored& from, const core::Stored& to) override;
  core::Made convert(const core::Operand& from, const core::Operand& to, const core::TakeScratch& scratch) override;
  void wait() override;
  /// When all steps are on the device the first run launches them one by one (which lets the libraries load what they
  /// need) and then captures them into a CUDA graph; later runs are one launch of that. Steps that cannot be captured
  /// go on being launched one by one, and the plan says so.
  core::Run sequence(const std::vector<core::Run>& steps, bool on_device, std::vector<std::string>& notes) override;
  /// Makes the device that of the thread: once for a program's run, not for every kernel.
  void within(const std::function<void()>& work) override;

 protected:
  /// What of the arithmetic is not as it is by default.
  void note_arithmetic(std::vector<std::string>& notes) const;

 private:
  Libraries libraries_;
};

}  // namespace halfstep::cudnn
