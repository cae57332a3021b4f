// A model to run: outputs by name for inputs by name.
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
  Precision precision = Precision::fp32;  ///< of what is computed inside; inputs and outputs keep their types
  std::map<std::string, std::int64_t> batch_axes = {};  ///< see batch_first
  std::size_t programs = 16;                            ///< as many are kept, each for its shapes; at least 1
  PassObserver observer = {};                           ///< is shown the stages of each program
};

/// A model on an executor, in inference form: BatchNormalization by its running statistics, no dropout. Takes inputs of
/// any shapes that the model takes, and compiles a program for each set of shapes when it first comes. What the model
/// draws at random differs from run to run.
///
/// The executor must outlive the session. A session is not for several threads at once; several sessions are.
class Session {
 public:
  /// Compiles nothing yet. Throws Error(input) for a batch axis that the model has not.
  Session(Graph model, Executor& executor, const SessionOptions& options = {});
  ~Session();
  Session(Session&&) noexcept;
  Session& operator=(Session&&) noexcept;

  /// In the model's order.
  std::vector<TensorInfo> inputs() const;
  std::vector<TensorInfo> outputs() const;
  DType precision() const;
  /// The model as it is made into programs: its batch first, exporters' detours taken out.
  const Graph& graph() const;

  /// All outputs, for all inputs; each input's type may be one that `as_type` takes. Throws Error(input) for a missing
  /// or unknown name, another type, and shapes that the model does not take; Error(failure) where it cannot be
  /// computed.
  NamedTensors run(const NamedTensors& inputs);
  /// The same without a copy: the outputs are the program's own memory, good until the next run.
  NamedTensors run_in_place(const NamedTensors& inputs);

  /// What went where for inputs of these types and shapes, whose elements do not matter.
  const Plan& plan(const NamedTensors& inputs);
  /// Where the time of a run on these inputs goes.
  Profile profile(const NamedTensors& inputs, const ProfileOptions& options = {});

 private:
  class Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace halfstep
