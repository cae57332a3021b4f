// What the ranks of a run agree on. Everything here is collective.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include <halfstep/base/error.h>
#include <halfstep/distributed/communicator.h>
#include <halfstep/executors/executor.h>
#include <halfstep/graph/graph.h>
#include <halfstep/training/checkpoint.h>

namespace halfstep {

/// What a rank is asked for before a step by its callbacks and signals, and what all of them then do.
struct StepWishes {
  bool stop = false;                         ///< ends the run once this step is done: a signal
  bool ended = false;                        ///< ends it before this step
  bool end = false;                          ///< ends it with this step
  bool skip = false;                         ///< skips the batch
  std::optional<double> learning_rate = {};  ///< of rank 0, instead of the schedule's
};

/// Before each step: what the rows of all ranks weigh in the loss, and what is wished by any rank. A run by itself
/// agrees with itself.
class StepAgreement {
 public:
  /// `ranks` may be null, and must outlive it.
  StepAgreement(Communicator* ranks, std::size_t terms);

  /// `weights`: of this rank's rows in the mean of each term. `order`: StepProgram::order of what is run next. Throws
  /// SharedError(failure) on every rank where ranks are about to add up different things.
  void exchange(std::span<const double> weights, bool is_spare, std::uint32_t order, const StepWishes& own);

  /// Of the rows of all ranks.
  std::span<const double> weights() const { return std::span(sums_).first(shares_.size() - 1); }
  /// Of each the part that is this rank's; the mean of no label has none. Last 1, or 0 where its rows do not count.
  std::span<const float> shares() const { return shares_; }
  const StepWishes& wishes() const { return wishes_; }

 private:
  int rank_ = 0, size_ = 1;
  std::vector<double> sums_;  // of the weights, and of the wishes
  std::vector<float> shares_;
  StepWishes wishes_;
  std::unique_ptr<AllReduce> reduction_;
};

/// Where ranks have one, that of the first that has, on all. Null ranks: as it is.
std::optional<Error> first_of(Communicator* ranks, const std::optional<Error>& failure);

/// `tensor` becomes what `root` has, of the same type on all.
void broadcast(Communicator& ranks, Tensor& tensor, int root);
/// What rank 0 has, in all ranks of the same type.
Tensor of_first(Communicator& ranks, const Tensor& own);

/// The sum of what all ranks have.
Tensor sum_of(Communicator& ranks, const Tensor& own);
/// This rank's part of a sum that is dealt out evenly. Not collective.
Tensor share_of(const Communicator& ranks, const Tensor& sum);

/// Gives all ranks the running statistics of rank 0.
void share_statistics(Communicator& ranks, const Graph& step, StateStore& store);

/// A check sum of the tensors that the model has: its parameters and constants.
std::string checksum(const Graph& model);

/// The seed of a rank's random numbers: ranks draw other numbers for their rows.
std::int64_t seed_of(std::uint64_t seed, int rank);

/// Throws Error(input) on every rank unless all have read the same checkpoint: each reads a file of its own.
void require_same_checkpoint(Communicator& ranks, const Checkpoint& checkpoint);

/// Of RankOptions, those of rank 0.
std::vector<std::vector<std::string>> agreed_buckets(Communicator& ranks,
                                                     const std::vector<std::vector<std::string>>& buckets);

}  // namespace halfstep
