// Inference sessions: a model with inputs and outputs by name.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include <halfstep/base/api.h>
#include <halfstep/executors/executor.h>
#include <halfstep/graph/graph.h>
#include <halfstep/graph/named_tensors.h>
#include <halfstep/graph/precision.h>
#include <halfstep/passes/pass.h>
#include <halfstep/session/profile.h>

namespace HALFSTEP_API halfstep {

struct SessionOptions {
  Precision precision = Precision::fp32;                ///< of the computation; inputs and outputs keep their types
  std::map<std::string, std::int64_t> batch_axes = {};  ///< see batch_first
  std::size_t programs = 16;                            ///< cached programs, one per set of shapes; at least 1
  PassObserver observer = {};                           ///< called with the stages of each program
};

/// A model on an executor, in inference form: BatchNormalization uses its running statistics, and there is no dropout.
/// Accepts inputs of all shapes that the model accepts, and compiles a program for each new set of shapes. Random
/// operators of the model draw different numbers in each run.
///
/// The executor must outlive the session. A session is not thread-safe; different threads may use different sessions,
/// also those of one executor: see Program.
class Session {
 public:
  /// Compiles nothing yet. Throws Error(input) for a batch axis that the model does not have.
  Session(Graph model, Executor& executor, const SessionOptions& options = {});
  ~Session();
  Session(Session&&) noexcept;
  Session& operator=(Session&&) noexcept;

  /// In the model's order.
  std::vector<TensorInfo> inputs() const;
  std::vector<TensorInfo> outputs() const;
  DType precision() const;
  /// The model from which programs are compiled: with the batch as the first axis, and simplified.
  const Graph& graph() const;

  /// Computes all outputs from all inputs; input types may be those that `as_type` converts. Throws Error(input) for a
  /// missing or unknown name, another type, and shapes that the model does not accept; Error(failure) if the
  /// computation fails.
  NamedTensors run(const NamedTensors& inputs);
  /// The same without a copy: the outputs are the program's own memory, valid until the next run.
  NamedTensors run_in_place(const NamedTensors& inputs);

  /// The plan for inputs of these types and shapes; their elements are ignored.
  const Plan& plan(const NamedTensors& inputs);
  /// Profiles runs on these inputs.
  Profile profile(const NamedTensors& inputs, const ProfileOptions& options = {});

 private:
  class Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace halfstep
