// Operators that draw at random, against the distribution that they should draw from.
#pragma once

#include <string>

#include <halfstep/base/api.h>
#include <halfstep/conformance/report.h>
#include <halfstep/executors/executor.h>
#include <halfstep/ops/op_def.h>

namespace HALFSTEP_API halfstep {

/// The element types that draws are checked in.
inline constexpr DType kDrawnTypes[] = {DType::f32, DType::f16, DType::bf16, DType::f64};

/// Whether the operator has results that no case can tell: Dropout in training mode, ai.halfstep.PhiloxDropout, and the
/// operators that draw numbers (distribution_check.h).
bool draws_at_random(const OpDef& op);

/// "Dropout/statistics"
std::string statistics_name(const OpDef& op);

/// What is wrong with elements `x`, none of them 0, of which each should have been dropped with probability `ratio`,
/// independently: `y` must be 0 where `mask` is false and x / (1 - ratio) elsewhere; the share that is dropped, and the
/// share of pairs at distances of 1 to 1024 that both are, within five standard deviations of what it should be. Empty
/// when nothing is.
std::string dropout_fault(const Tensor& x, double ratio, const Tensor& y, const Tensor& mask);
/// The same for two masks of one ratio that should have nothing to do with each other.
std::string mask_dependence(const Tensor& a, const Tensor& b, double ratio);

/// Runs `op`, which draws at random, on 65,535 elements in `dtype`; numbers are held against their distribution, and of
/// dropout, with several ratios: what each draw drops must be as
/// above, the same once more, and have nothing to do with what another seed drops, or another step or stream of
/// PhiloxDropout. The draws are the same in every run. Never throws: an Error on the way is a failed check.
CheckReport check_statistics(const OpDef& op, DType dtype, Executor& executor);

}  // namespace halfstep
