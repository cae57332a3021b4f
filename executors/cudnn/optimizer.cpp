// Makers of the optimizers, the gradient norm and the loss scale.
#include "executors/cudnn/kernels/optimizer.h"

#include <algorithm>
#include <cmath>

#include "executors/cudnn/indexing.h"
#include "executors/cudnn/kernel_table.h"
#include "executors/cudnn/kernels/launch.h"
#include "ops/optimizers/optimizer.h"
#include <halfstep/ops/optimizers/optimizer_def.h>

namespace halfstep::cudnn {
namespace {

constexpr std::size_t kScalars = StepOperands::kScalars;

/// Tensors [first, last) of a list that takes more than one launch.
struct Batch {
  std::size_t first, last;
};
std::vector<Batch> batches(std::size_t count) {
  std::vector<Batch> result;
  for (std::size_t first = 0; first < count; first += TensorRow::kMax)
    result.push_back({first, std::min(count, first + TensorRow::kMax)});
  return result;
}

TensorRow row_of(const std::vector<std::int64_t>& counts, const Batch& batch) {
  TensorRow row;
  for (std::size_t t = batch.first; t < batch.last; ++t, ++row.count)
    row.starts[row.count + 1] = row.starts[row.count] + counts[t];
  return row;
}

/// Elements of inputs [first, first + count); empty when one of them is not f32.
std::vector<std::int64_t> counts_of(KernelContext& context, std::size_t first, std::size_t count) {
  std::vector<std::int64_t> counts;
  for (std::size_t i = first; i < first + count; ++i) {
    if (context.in(i).dtype != DType::f32) return {};
    counts.push_back(context.in(i).shape.count());
  }
  return counts;
}
constexpr const char* kWantsF32 = "the optimizer's own kernels take f32 parameters and gradients";

StepScalars scalars(const Launch& l) {
  return {l.input<float>(0), l.input<std::int64_t>(1), l.input<bool>(2), l.input<float>(3)};
}

/// Output i of the k-th list may overwrite the parameter, or the state, it is the next value of.
std::vector<int> overwrites(std::size_t tensors, std::initializer_list<std::size_t> lists) {
  std::vector<int> result;
  for (std::size_t list : lists)
    for (std::size_t t = 0; t < tensors; ++t) result.push_back(static_cast<int>(kScalars + list * tensors + t));
  return result;
}

}  // namespace

Made make_adam(KernelContext& context) {
  const std::size_t n = (context.node().inputs.size() - kScalars) / 4;
  const std::vector<std::int64_t> counts = counts_of(context, kScalars, n);
  if (counts_of(context, kScalars, 4 * n).empty()) return refuse(kWantsF32);
  const Hyperparameters h(*optimizer_of(context.node()), context.node().attributes);
  AdamStep proto{};
  proto.beta1 = static_cast<float>(h["beta1"]);
  proto.beta2 = static_cast<float>(h["beta2"]);
  proto.epsilon = static_cast<float>(h["epsilon"]);
  proto.weight_decay = static_cast<float>(h["weight_decay"]);
  proto.decoupled = context.node().op == "AdamWStep";
  proto.log_beta1 = static_cast<float>(std::log(h["beta1"]));
  proto.log_beta2 = static_cast<float>(std::log(h["beta2"]));
  const auto launch = [=](const Launch& l) {
    AdamStep f = proto;
    f.scalars = scalars(l);
    const auto in = [&](std::size_t list, std::size_t t) { return l.input<float>(kScalars + list * n + t); };
    for (const Batch& batch : batches(n)) {
      f.row = row_of(counts, batch);
      for (std::size_t t = batch.first; t < batch.last; ++t)
        f.slots[t - batch.first] = {in(0, t),
                                    in(1, t),
                                    in(2, t),
                                    in(3, t),
                                    l.output<float>(t),
                                    l.output<float>(n + t),
                                    l.output<float>(2 * n + t)};
      launch_elements(f, f.row.elements(), l.stream);
    }
  };
  return on_device(context, {.name = "own: fused Adam", .launch = launch, .overwrites = overwrites(n, {0, 2, 3})});
}

Made make_sgd(KernelContext& context) {
  const Hyperparameters h(*optimizer_of(context.node()), context.node().attributes);
  SgdStep proto{};
  proto.momentum = static_cast<float>(h["momentum"]);
  proto.dampening = static_cast<float>(h["dampening"]);
  proto.weight_decay = static_cast<float>(h["weight_decay"]);
  proto.nesterov = h["nesterov"] != 0;
  const bool has_momentum = h["momentum"] != 0;
  const std::size_t lists = has_momentum ? 3 : 2;
  const std::size_t n = (context.node().inputs.size() - kScalars) / lists;
  const std::vector<std::int64_t> counts = counts_of(context, kScalars, n);
  if (counts_of(context, kScalars, lists * n).empty()) return refuse(kWantsF32);
  const auto launch = [=](const Launch& l) {
    SgdStep f = proto;
    f.scalars = scalars(l);
    const auto in = [&](std::size_t list, std::size_t t) { return l.input<float>(kScalars + list * n + t); };
    for (const Batch& batch : batches(n)) {
      f.row = row_of(counts, batch);
      for (std::size_t t = batch.first; t < batch.last; ++t)
        f.slots[t - batch.first] = {in(0, t), in(1, t), has_momentum ? in(2, t) : nullptr, l.output<float>(t),
                                    has_momentum ? l.output<float>(n + t) : nullptr};
      launch_elements(f, f.row.elements(), l.stream);
    }
  };
  return on_device(context, {.name = "own: fused SGD",
                             .launch = launch,
                             .overwrites = has_momentum ? overwrites(n, {0, 2}) : overwrites(n, {0})});
}

Made make_global_norm(KernelContext& context) {
  const std::size_t n = context.node().inputs.size();
  const std::vector<std::int64_t> counts = counts_of(context, 0, n);
  if (counts.empty()) return refuse(kWantsF32);
  std::vector<std::int64_t> chunks;
  std::int64_t all_chunks = 0;
  for (std::int64_t count : counts) {
    chunks.push_back((count + SquareSums::kChunk - 1) / SquareSums::kChunk);
    all_chunks += chunks.back();
  }
  const bool has_norm = context.has_output(0), has_finite = context.has_output(1);
  const auto launch = [=](const Launch& l) {
    auto* partial = static_cast<SquareSum*>(l.scratch);
    SquareSums f{};
    f.length = SquareSums::kChunk;
    f.partial = partial;
    for (const Batch& batch : batches(n)) {
      f.row = row_of(chunks, batch);
      f.rows = f.row.elements();
      for (std::size_t t = batch.first; t < batch.last; ++t) {
        f.tensors[t - batch.first] = l.input<float>(t);
        f.counts[t - batch.first] = counts[t];
      }
      launch_rows(f, l.stream);
      f.partial += f.rows;
    }
    launch_rows(GlobalNorm{partial, has_norm ? l.output<float>(0) : nullptr, has_finite ? l.output<bool>(1) : nullptr,
                           1, all_chunks},
                l.stream);
  };
  return on_device(context, {.name = "own: global norm",
                             .launch = launch,
                             .scratch_bytes = static_cast<std::size_t>(all_chunks) * sizeof(SquareSum)});
}

Made make_loss_scale_update(KernelContext& context) {
  if (context.in(0).dtype != DType::f32) return refuse("the loss scale is f32");
  const ops::LossScaleSettings settings(context.node().attributes);
  LossScaleUpdate proto{};
  proto.growth_factor = static_cast<float>(settings.growth_factor);
  proto.backoff_factor = static_cast<float>(settings.backoff_factor);
  proto.growth_interval = settings.growth_interval;
  proto.lowest = static_cast<float>(settings.min);
  proto.highest = static_cast<float>(settings.max);
  const auto launch = [=](const Launch& l) {
    LossScaleUpdate f = proto;
    f.scale = l.input<float>(0);
    f.good_steps = l.input<std::int64_t>(1);
    f.finite = l.input<bool>(2);
    f.scale_next = l.output<float>(0);
    f.good_steps_next = l.output<std::int64_t>(1);
    launch_elements(f, 1, l.stream);
  };
  return on_device(context, {.name = "own: loss scale", .launch = launch, .overwrites = {0, 1}});
}

}  // namespace halfstep::cudnn
