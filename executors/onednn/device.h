// The CPU as oneDNN and the SIMD kernels use it.
#pragma once

#include <memory>

#include "executors/onednn/tuning.h"
#include <halfstep/executors/core/device.h>
#include <halfstep/executors/fp32_math.h>

namespace halfstep::onednn {

class CpuDevice final : public core::Device, public core::KeepsChoices {
 public:
  /// `tuner`: nullptr where fixed rules choose kernels.
  CpuDevice(int threads, Fp32Math fp32_math, std::unique_ptr<Tuner> tuner)
      : threads_(threads), fp32_math_(fp32_math), tuner_(std::move(tuner)) {}

  bool knows(const core::Layout& layout, const Shape& shape, DType dtype) const override;
  void move(DType dtype, const Shape& shape, const core::Stored& from, const core::Stored& to) override;
  core::Made convert(const core::Operand& from, const core::Operand& to, const core::TakeScratch& scratch) override;
  core::Run sequence(const std::vector<core::Run>& steps, const std::vector<bool>& on_device,
                     std::vector<std::string>& notes) override;
  /// With as many threads as primitives are made for.
  void within(const std::function<void()>& work) override;
  /// And with signals postponed.
  void running(const std::function<void()>& work) override;
  std::vector<std::pair<std::size_t, std::size_t>> precedences(const Graph& graph) override;
  core::Choices* choices() override { return tuner_ ? &tuner_->choices() : nullptr; }

 private:
  int threads_;
  Fp32Math fp32_math_;
  std::unique_ptr<Tuner> tuner_;
};

}  // namespace halfstep::onednn
