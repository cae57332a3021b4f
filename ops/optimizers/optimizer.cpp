#include "ops/optimizers/optimizer.h"

#include <algorithm>
#include <cmath>

#include <fmt/format.h>

#include "ops/families.h"
#include "ops/schemas.h"
#include <halfstep/base/error.h>
#include <halfstep/ops/kernel_util.h>
#include <halfstep/ops/optimizers/optimizer_def.h>

namespace halfstep::ops {

LossScaleSettings::LossScaleSettings(const Attributes& a)
    : growth_factor(a.get_float("growth_factor", 2)),
      backoff_factor(a.get_float("backoff_factor", 0.5f)),
      min(a.get_float("min", 1)),
      max(a.get_float("max", 16777216)),
      growth_interval(a.get_int("growth_interval", 2000)) {}

double single_number(const Tensor& tensor, const char* what) {
  if (tensor.count() != 1)
    throw_input_error(fmt::format("one number for {}", what), tensor.shape().to_string(), "check the training graph");
  return to_doubles(tensor)[0];
}

namespace {

void global_norm_kernel(KernelCall& call) {
  double squares = 0;
  bool finite = true;
  for (const Tensor& gradient : call.in)
    for (double g : to_doubles(gradient)) {
      squares += g * g;
      finite = finite && std::isfinite(g);
    }
  if (call.has_out(0)) store(ensure_out(call, 0, DType::f32, Shape{}), std::vector<double>{std::sqrt(squares)});
  if (call.has_out(1)) *ensure_out(call, 1, DType::boolean, Shape{}).data<bool>() = finite;
}

void loss_scale_update_kernel(KernelCall& call) {
  const LossScaleSettings s(call.node.attributes);
  double scale = single_number(call.in[0], "the loss scale");
  std::int64_t good_steps = single_int(call.in[1], "the number of good steps");
  const bool finite = single_int(call.in[2], "finite") != 0;
  if (!finite) {
    scale *= s.backoff_factor;
    good_steps = 0;
  } else if (++good_steps >= s.growth_interval) {
    scale *= s.growth_factor;
    good_steps = 0;
  }
  scale = std::clamp(scale, s.min, s.max);
  if (call.has_out(0)) store(ensure_out(call, 0, call.in[0].dtype(), call.in[0].shape()), std::vector<double>{scale});
  if (call.has_out(1)) *ensure_out(call, 1, DType::i64, call.in[1].shape()).data<std::int64_t>() = good_steps;
}

// Table ---------------------------------------------------------------------------------------------------------------

const std::vector<OpCase> kGlobalNormCases = {
    {"(float[3,4] a, float[5] b, float c) => (float norm, bool finite) { norm, finite = ai.halfstep.GlobalNorm(a, b, "
     "c) }"},
    {"(float[0] a) => (float norm, bool finite) { norm, finite = ai.halfstep.GlobalNorm(a) }"},
};

const std::vector<OpCase> kLossScaleUpdateCases = {
    {"(float scale) => (float new_scale, int64 new_good) <int64 good = {1998}, bool finite = {1}> "
     "{ new_scale, new_good = ai.halfstep.LossScaleUpdate(scale, good, finite) }",
     1, 8, false},
    {"(float scale) => (float new_scale, int64 new_good) <int64 good = {1999}, bool finite = {1}> "
     "{ new_scale, new_good = ai.halfstep.LossScaleUpdate(scale, good, finite) }",
     1, 8, false},
    {"(float scale) => (float new_scale, int64 new_good) <int64 good = {7}, bool finite = {0}> "
     "{ new_scale, new_good = ai.halfstep.LossScaleUpdate<backoff_factor = 0.25, min = 2.0>(scale, good, finite) }",
     1, 8, false},
};

}  // namespace

std::span<const OpDef> optimizer_ops() {
  static const std::vector<OpDef> rows = [] {
    std::vector<OpDef> all = {{.name = "GlobalNorm",
                               .domain = kOwnDomain,
                               .reference = global_norm_kernel,
                               .cases = kGlobalNormCases,
                               .schema = global_norm_schema},
                              {.name = "LossScaleUpdate",
                               .domain = kOwnDomain,
                               .reference = loss_scale_update_kernel,
                               .cases = kLossScaleUpdateCases,
                               .schema = loss_scale_update_schema}};
    for (const OptimizerDef& row : optimizers())
      all.push_back({.name = row.op,
                     .domain = kOwnDomain,
                     .reference = optimizer_step_kernel,
                     .cases = row.cases,
                     .open_nan = row.open_nan,
                     .schema = optimizer_step_schema,
                     .note = row.source});
    return all;
  }();
  return rows;
}

}  // namespace halfstep::ops
