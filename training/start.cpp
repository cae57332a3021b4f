#include "training/start.h"

#include <algorithm>

#include <fmt/format.h>

#include "onnx_io/declared.h"
#include <halfstep/base/error.h>

namespace halfstep {
namespace {

constexpr double kLeastScale = 1e-30, kMostScale = 1e30;

}  // namespace

ParameterSelection knowing_exporter(ParameterSelection selection, const LoadedModel& model) {
  if (model.source) selection.exporter = exporter_of(*model.source);
  return selection;
}

void check_loss_scale(const std::optional<double>& asked) {
  if (asked && *asked != 0 && !(*asked >= kLeastScale && *asked <= kMostScale))
    throw_input_error(
        fmt::format("a loss scale: --loss-scale as 0 (off) or a number from {} to {}", kLeastScale, kMostScale),
        fmt::format("{}", *asked), "give the initial loss scale");
}

void check_gradient_dtype(DType dtype, bool has_loss_scale) {
  if (dtype != DType::f32 && !is_half(dtype))
    throw_input_error("gradients in f32, bf16 or f16", std::string(name_of(dtype)), "");
  if (dtype == DType::f16 && !has_loss_scale)
    throw_input_error("a loss scale, for gradients in fp16", "none, which would skip every update beyond 65504",
                      "--gradient-precision bf16 needs none; --loss-scale 65536 gives one");
}

LossScaleOptions starting(LossScaleOptions scale, const std::optional<double>& asked, DType precision) {
  check_loss_scale(asked);
  scale.enabled = asked ? *asked > 0 : precision == DType::f16;
  if (asked && *asked > 0)
    scale.initial = *asked;
  else  // the usual one, within bounds that were asked for
    scale.initial = std::clamp(scale.initial, scale.lowest(), std::max(scale.lowest(), scale.highest()));
  return scale;
}

}  // namespace halfstep
