// Batch normalization in training, and its gradient, by plans of cuDNN's graph API.
#include <algorithm>
#include <cmath>
#include <cstring>
#include <memory>
#include <optional>
#include <utility>

#include "executors/cudnn/batch_normalization.h"
#include "executors/cudnn/batch_normalization_graph.h"
#include "executors/cudnn/kernels/batch_normalization_text.h"
#include "executors/cudnn/normalization.h"
#include "executors/cudnn/pending_failure.h"
#include "executors/cudnn/plan_run.h"
#include "ops/epilogue.h"
#include <halfstep/graph/tensor_bytes.h>

namespace halfstep::cudnn {
namespace {

/// The problem of a node whose X is input `x`, or nothing where it is none of cuDNN's. Parameters are inputs from
/// `first` up to `last`.
std::optional<BatchNormalizationProblem> problem_of(KernelContext& context, std::size_t x, std::size_t first,
                                                    std::size_t last) {
  const ops::Epilogue epilogue = ops::epilogue_of(context.node().attributes);
  if (epilogue && epilogue.kind != ops::Epilogue::Kind::relu) return std::nullopt;
  for (std::size_t i = first; i < last; ++i)
    if (context.has_input(i) && context.in(i).dtype != DType::f32) return std::nullopt;
  BatchNormalizationProblem p{context.in(x).dtype, context.in(x).shape};
  p.relu = static_cast<bool>(epilogue);
  return p;
}

using Work = std::function<void(const Launch&)>;

/// The running statistics by what the plan has saved: cuDNN does not say whether its own variance is that of the batch,
/// as ONNX's is, or that of a sample.
Work running_statistics(KernelContext& context, const NormalizationArguments& a) {
  const auto kernel = load_normalization(context, "running_statistics", normalization_types(context, 0, 1, 5),
                                         {kMomentsText, kBatchText, kRunningText});
  return [=](const Launch& l) {
    NormalizationArguments with = with_addresses(a, l);
    with.saved = static_cast<float*>(l.kept[0]);
    kernel->launch(blocks_for(a.rows, kNormalizationThreads), kNormalizationThreads, as_argument(with), l.stream);
  };
}

/// Runs `kernel`, from the first run on that fails `other`.
std::function<std::function<void()>(const Launch&)> or_else(const DeviceKernel& kernel, const DeviceKernel& other) {
  return [first = kernel.bind, then = other.launch](const Launch& l) -> std::function<void()> {
    return [=, run = first(l), failed = false]() mutable {
      if (failed) return then(l);
      try {
        run();
      } catch (const Error&) {
        failed = true;
        then(l);
      }
    };
  };
}

template <class T>
bool is_nan(const std::byte* p) {
  T value;
  std::memcpy(&value, p, sizeof value);
  return std::isnan(static_cast<float>(value));
}

/// Whether a ReLU behind the normalization of NaN gives NaN, as a run that has diverged must: nothing that cuDNN says
/// about its engines tells. X is zero before and after.
bool keeps_nan(const Attempt& attempt, const Launch& l, DType dtype, std::size_t bytes) {
  auto* x = const_cast<void*>(l.in[0]);
  std::byte y[sizeof(float)]{};
  const bool has_run =
      cudaMemsetAsync(x, 0xff, bytes, l.stream) == cudaSuccess && attempt() &&
      cudaMemcpyAsync(y, l.out[0], bytes_of(dtype, 1), cudaMemcpyDeviceToHost, l.stream) == cudaSuccess;
  const bool is_zero =
      cudaMemsetAsync(x, 0, bytes, l.stream) == cudaSuccess && cudaStreamSynchronize(l.stream) == cudaSuccess;
  if (!has_run || !is_zero) {
    forget_failure();
    return false;
  }
  return dtype == DType::f32 ? is_nan<float>(y) : dtype == DType::f16 ? is_nan<f16>(y) : is_nan<bf16>(y);
}

/// The attempt, which fails where NaN is not kept.
Attempt checked(Attempt attempt, const Launch& l, const BatchNormalizationProblem& p) {
  return [=, attempt = std::move(attempt), is_checked = false]() mutable {
    if (!std::exchange(is_checked, true) && !keeps_nan(attempt, l, p.dtype, bytes_of(p.dtype, p.x))) return false;
    return attempt();
  };
}

/// The plan as a candidate behind `own`. `load_after` gives what follows it.
void append(std::vector<Candidate>& candidates, KernelContext& context, const Plans& plans, PlanRun run,
            const OwnNormalization& own, const std::function<Work()>& load_after) {
  const auto after = std::make_shared<Work>();
  if (load_after) run.after = [after](const Launch& l) { (*after)(l); };
  run.in_layouts = own.kernel.in_layouts;
  run.out_layouts = own.kernel.out_layouts;
  for (Candidate& each : plan_candidates(context, plans, std::move(run))) {
    each.kernel.bind = or_else(each.kernel, own.kernel);
    each.kernel.overwrites = own.kernel.overwrites;
    each.complete = [=, complete = each.complete, scratch = own.kernel.scratch_bytes](DeviceKernel& kernel) {
      std::string reason = complete(kernel);
      kernel.scratch_bytes = std::max(kernel.scratch_bytes, scratch);
      if (reason.empty() && load_after) *after = load_after();
      return reason;
    };
    each.kept_bytes = {own.saved_bytes};
    each.keep = own.keep;
    candidates.push_back(std::move(each));
  }
}

/// One: each is compiled, for a second or two, and where it fails own kernels go on.
const Plans& plans_of(KernelContext& context, const BatchNormalizationProblem& p, bool is_gradient) {
  const Libraries& own = libraries(context);
  return own.plans->get(p.key() + (is_gradient ? " gradient" : ""), [&] {
    return (is_gradient ? plan_batch_normalization_grad : plan_batch_normalization)(
        plan_target(own), p, {.deterministic = own.arithmetic.deterministic, .tensor_cores = true}, 1);
  });
}

}  // namespace

void append_planned_batch_normalization(std::vector<Candidate>& candidates, KernelContext& context,
                                        const OwnNormalization& own) {
  std::optional<BatchNormalizationProblem> p = problem_of(context, 0, 1, 5);
  if (!p) return;
  p->addition = context.node().inputs.size() > 5 && context.has_input(5);
  if (!p->refusal(libraries(context).capability).empty()) return;
  using T = BatchNormalizationTensors;
  const auto find = [a = own.arguments, added = p->addition](const Launch& l) {
    auto* saved = static_cast<float*>(l.kept[0]);
    PlanTensors tensors;
    tensors.add(T::kX, l.in[0]);
    tensors.add(T::kScale, l.in[1]);
    tensors.add(T::kBias, l.in[2]);
    tensors.add(T::kEpsilon, &a.epsilon);
    tensors.add(T::kMean, saved);
    tensors.add(T::kInverse, saved + a.rows);
    tensors.add(T::kY, l.out[0]);
    if (added) tensors.add(T::kAdded, l.in[5]);
    return tensors;
  };
  std::function<Work()> load_after;
  if (context.has_output(1) || context.has_output(2))
    load_after = [&context, a = own.arguments] { return running_statistics(context, a); };
  const std::size_t first = candidates.size();
  append(candidates, context, plans_of(context, *p, false), {.what = "batch normalization", .find = find}, own,
         load_after);
  if (!p->relu) return;
  for (std::size_t i = first; i < candidates.size(); ++i)
    candidates[i].attempt = [attempt = candidates[i].attempt, p = *p](const Launch& l) {
      return checked(attempt(l), l, p);
    };
}

void append_planned_batch_normalization_grad(std::vector<Candidate>& candidates, KernelContext& context,
                                             const OwnNormalization& own) {
  const std::optional<BatchNormalizationProblem> p = problem_of(context, 1, 2, 6);
  if (!p || context.node().output(0) == kNoValue || !p->refusal(libraries(context).capability).empty()) return;
  using T = BatchNormalizationGradTensors;
  const auto rows = static_cast<std::size_t>(own.arguments.rows);
  const auto find = [rows, relu = p->relu](const Launch& l) {
    auto* saved = static_cast<float*>(l.kept[0]);
    auto* unread = static_cast<float*>(l.scratch);
    PlanTensors tensors;
    tensors.add(T::kDy, l.in[0]);
    tensors.add(T::kX, l.in[1]);
    tensors.add(T::kScale, l.in[2]);
    tensors.add(T::kMean, saved);
    tensors.add(T::kInverse, saved + rows);
    tensors.add(T::kDx, l.out[0]);
    tensors.add(T::kDscale, l.output<void>(1) ? l.out[1] : unread);
    tensors.add(T::kDbias, l.output<void>(2) ? l.out[2] : unread + rows);
    if (relu) tensors.add(T::kBias, l.in[5]);
    return tensors;
  };
  append(
      candidates, context, plans_of(context, *p, true),
      {.what = "batch normalization gradient", .find = find, .scratch_bytes = padded_bytes(2 * rows * sizeof(float))},
      own, {});
}

}  // namespace halfstep::cudnn
