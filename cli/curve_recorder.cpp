#include "cli/curve_recorder.h"

#include <cmath>

namespace halfstep::cli {
namespace {

constexpr std::size_t kMaxPoints = 1 << 15;

void halve(std::vector<CurvePoint>& points) {
  const std::size_t pairs = points.size() / 2;
  for (std::size_t i = 0; i < pairs; ++i)
    points[i] = {(points[2 * i].x + points[2 * i + 1].x) / 2, (points[2 * i].y + points[2 * i + 1].y) / 2};
  points.resize(pairs);
}

}  // namespace

CurveRecorder::CurveRecorder(const std::vector<Metric>& metrics)
    : loss_{.name = "loss"}, validation_loss_{.name = "val_loss", .style = Curve::Style::validation} {
  loss_.points.reserve(kMaxPoints);
  for (const Metric& metric : metrics) {
    metrics_.push_back({.name = metric.name(), .axis = Curve::Axis::right});
    validation_metrics_.push_back(
        {.name = "val_" + metric.name(), .axis = Curve::Axis::right, .style = Curve::Style::validation});
  }
}

void CurveRecorder::step(const StepResult& result) {
  if (!std::isfinite(result.loss)) return;
  x_sum_ += static_cast<double>(result.step);
  loss_sum_ += result.loss;
  if (++steps_ < stride_) return;
  loss_.points.push_back({x_sum_ / static_cast<double>(steps_), loss_sum_ / static_cast<double>(steps_)});
  x_sum_ = loss_sum_ = 0;
  steps_ = 0;
  if (loss_.points.size() < kMaxPoints) return;
  halve(loss_.points);
  stride_ *= 2;
}

void CurveRecorder::epoch(const StepResult& last, const Evaluation* validation) {
  const double x = static_cast<double>(last.step);
  if (last.metrics)
    for (std::size_t i = 0; i < metrics_.size() && i < last.metrics->size(); ++i)
      metrics_[i].points.push_back({x, last.metrics->value(i)});
  if (!validation) return;
  validation_loss_.points.push_back({x, validation->loss});
  for (std::size_t i = 0; i < validation_metrics_.size() && i < validation->metrics.size(); ++i)
    validation_metrics_[i].points.push_back({x, validation->metrics[i].second});
}

void CurveRecorder::write(const std::filesystem::path& path, const std::string& title) const {
  CurveFigure figure{.title = title};
  const auto add = [&](const Curve& curve) {
    if (!curve.points.empty()) figure.curves.push_back(curve);
  };
  add(loss_);
  add(validation_loss_);
  for (std::size_t i = 0; i < metrics_.size(); ++i) {
    add(metrics_[i]);
    add(validation_metrics_[i]);
    figure.right_label += (i ? ", " : "") + metrics_[i].name;
  }
  write_curve_svg(path, figure);
}

}  // namespace halfstep::cli
