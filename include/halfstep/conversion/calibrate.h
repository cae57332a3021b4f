// Running a model to measure the effect of half precision.
#pragma once

#include <atomic>
#include <functional>
#include <string>

#include <halfstep/base/api.h>
#include <halfstep/conversion/convert.h>
#include <halfstep/executors/executor.h>
#include <halfstep/graph/named_tensors.h>

namespace HALFSTEP_API halfstep {

// `inputs` has a tensor for every input of the model, with its type in the source.

/// Runs the model in f32 and returns the range of every f32 value of the main graph, for ConvertOptions::measured.
/// Throws Error as load_model and Executor::compile do: halfstep must be able to run the model.
ActivationRanges measure_ranges(const ModelFile& model, const NamedTensors& inputs, Executor& executor);

/// Compares the outputs of the conversion with those of its source.
std::vector<OutputError> compare_outputs(const ModelFile& model, const Conversion& conversion,
                                         const NamedTensors& inputs, Executor& executor);

struct SearchOptions {
  double max_error = 0;  ///< bound of OutputError::relative() for every output
  /// Called after every trial: in the best result so far, `kept` of `candidates` half nodes are in f32.
  std::function<void(int trial, int kept, int candidates, double error)> on_trial = {};
  const std::atomic<bool>* stop = nullptr;  ///< ends the search with the best result so far
};

struct SearchResult {
  Conversion conversion;
  double error = 0;
  int trials = 0;
  std::vector<std::string> kept = {};  ///< names of the nodes that stay f32 to meet the bound
  bool complete = false;               ///< none of them alone can be half
};

/// Converts with as few nodes kept in f32 as the error bound allows. Starts with all nodes in f32 and converts ever
/// smaller groups of neighbours, so that a result within the bound exists at any time. Throws Error(failure) if the
/// bound is exceeded even with all nodes in f32 (due to weights and inputs alone).
SearchResult search_precision(const ModelFile& model, const ConvertOptions& options, const NamedTensors& inputs,
                              Executor& executor, const SearchOptions& search);

}  // namespace halfstep
