// Collects the training curve of a run for its plot.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

#include "cli/curve_svg.h"
#include <halfstep/training/trainer.h>

namespace halfstep::cli {

/// Loss of every step, and metrics and validation at the end of every epoch. Memory does not grow with the run: with
/// many points, neighbours are averaged.
class CurveRecorder {
 public:
  explicit CurveRecorder(const std::vector<Metric>& metrics);

  void step(const StepResult& result);
  void epoch(const StepResult& last, const Evaluation* validation);
  void write(const std::filesystem::path& path, const std::string& title) const;

 private:
  Curve loss_, validation_loss_;
  std::vector<Curve> metrics_, validation_metrics_;
  std::int64_t stride_ = 1;  // steps per point
  std::int64_t steps_ = 0;   // steps summed in the current point
  double x_sum_ = 0, loss_sum_ = 0;
};

}  // namespace halfstep::cli
