// What a batch's mean loss weighs in a mean over several batches.
#pragma once

#include <cstddef>
#include <optional>
#include <span>
#include <vector>

#include "training/batch_fit.h"
#include "training/default_loss.h"
#include <halfstep/passes/step/loss_options.h>

namespace halfstep {

class TermWeights {
 public:
  /// `readings` of the terms, none for a function.
  TermWeights(const LossOptions& loss, const LossInputs& inputs, std::span<const TermReading> readings);

  /// For each term of the loss (one for a function): the divisor of its mean over the batch, by labels that count,
  /// class weights and sample weights; 1 for a sum. Good until the next call. Throws Error(input) for a label without a
  /// class weight.
  std::span<const double> of(const FittedBatch& batch);

 private:
  struct Term {
    bool is_sum = false;
    std::optional<std::size_t> labels = {}, sample_weights = {};  ///< places in a batch
    LabelReading reading = {};                                    ///< of the labels
    std::vector<double> class_weights = {};
  };
  static double weight(const Term& term, const FittedBatch& batch, std::int64_t rows);

  std::vector<Term> terms_;
  std::vector<double> weights_;
};

}  // namespace halfstep
