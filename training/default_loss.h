// The loss of a model where nobody has said what it is, from a batch.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include <halfstep/graph/graph.h>
#include <halfstep/graph/named_tensors.h>
#include <halfstep/passes/prepared_model.h>
#include <halfstep/passes/step/loss_options.h>
#include <halfstep/training/label_reading.h>

namespace halfstep {

/// How the labels of a term are read.
struct TermReading {
  const LossDef* row = nullptr;
  LabelReading reading;
  std::int64_t classes = 1;  ///< of the output
};

struct DefaultLoss {
  LossOptions loss;
  TermReading reading;
  std::vector<std::string> notices;  ///< what was chosen where there was a choice
};

/// By the rules of the table of losses, from the labels, which are all of the batch that is no input of the model, and
/// the model's last node. Throws Error(input) unless those are one tensor that fits.
DefaultLoss default_loss(const PreparedModel& model, const std::vector<TensorInfo>& inputs, const NamedTensors& batch);

/// Of each term; its row is null where it has no labels. Notices that they give rise to are appended.
std::vector<TermReading> read_terms(const PreparedModel& model, const std::vector<TensorInfo>& inputs,
                                    const NamedTensors& batch, const LossOptions& loss,
                                    std::vector<std::string>& notices);

}  // namespace halfstep
