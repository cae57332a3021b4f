// The part of a training step that ranks make together: each computes the loss of its rows and their gradients, and
// what is added up are shares of the loss of all rows.
#pragma once

#include <cstddef>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include <halfstep/graph/graph.h>
#include <halfstep/graph/named_tensors.h>
#include <halfstep/passes/pass.h>
#include <halfstep/passes/step/loss_options.h>
#include <halfstep/passes/step/rank_options.h>

namespace halfstep {

/// Multiplies each term of the loss by an input, the share that this rank's rows have in it (StepValues::loss_shares,
/// f32, one for each term, and last 1, or 0 where its rows do not count at all), before anything is differentiated: so
/// the sum over ranks is the loss of all rows.
Pass share_loss(const LossOptions& loss);

/// Adds up the loss, its terms and all gradients over ranks: gradients in buckets, in the order in which the backward
/// pass gives them, each reduction started behind the node that gives its last gradient. What reads the gradients
/// afterwards, the check that they are finite included, is the same on all ranks. Other reductions of the step, of its
/// normalizations, keep their places; all are made in one order. Gradients that travel in a half type leave what it
/// lacks in a state of this rank, StateRole::residual. Throws Error(failure) where `buckets` lack a parameter that has
/// a gradient; others do not matter.
Pass reduce_over_ranks(RankOptions options);

/// Of the names of those states, followed by the parameter's.
inline constexpr std::string_view kResidualPrefix = "gradient_residual.";

/// Of gradients in their order, the numbers of those that are reduced together: a bucket ends where it has at least so
/// many bytes, and where the element type changes.
std::vector<std::vector<std::size_t>> in_buckets(std::span<const TensorInfo> gradients, std::size_t bucket_bytes);

/// The buckets of a step, as RankOptions has them.
std::vector<std::vector<std::string>> buckets_of(const Graph& step);

}  // namespace halfstep
