// Running a model to see what half precision does to it.
#pragma once

#include <atomic>
#include <functional>
#include <string>

#include <halfstep/base/api.h>
#include <halfstep/conversion/convert.h>
#include <halfstep/executors/executor.h>
#include <halfstep/graph/named_tensors.h>

namespace HALFSTEP_API halfstep {

// `inputs` has a tensor for every input of the model, of the type it has in the source.

/// Runs the model in f32 and returns the range of every f32 value of the main graph, for ConvertOptions::measured.
/// Throws Error as load_model and Executor::compile do: the model must be one that halfstep can run.
ActivationRanges measure_ranges(const ModelFile& model, const NamedTensors& inputs, Executor& executor);

/// The outputs of the conversion beside those of its source.
std::vector<OutputError> compare_outputs(const ModelFile& model, const Conversion& conversion,
                                         const NamedTensors& inputs, Executor& executor);

struct SearchOptions {
  double max_error = 0;  ///< of OutputError::relative(), for every output
  /// Told after every trial: how many of how many half nodes are in f32 so far, in the best answer.
  std::function<void(int trial, int kept, int candidates, double error)> on_trial = {};
  const std::atomic<bool>* stop = nullptr;  ///< ends the search with the best answer so far
};

struct SearchResult {
  Conversion conversion;
  double error = 0;
  int trials = 0;
  std::vector<std::string> kept = {};  ///< names of the nodes that stay f32 for it
  bool complete = false;               ///< no single one of them can be half
};

/// Converts with as few nodes kept in f32 as the error allows: starts from all of them and gives back ever smaller
/// groups of neighbours, so that at every moment there is an answer within the error. Throws Error(failure) when even
/// with all nodes in f32 the outputs are not within it (weights and inputs alone lose more).
SearchResult search_precision(const ModelFile& model, const ConvertOptions& options, const NamedTensors& inputs,
                              Executor& executor, const SearchOptions& search);

}  // namespace halfstep
