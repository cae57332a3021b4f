// The steps of a program as CUDA graphs.
#pragma once

#include <cstddef>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "executors/cudnn/resources.h"
#include <halfstep/executors/core/kernel.h>

namespace halfstep::cudnn {

/// What `work` puts into the stream, as a graph; where it cannot be captured, none, and `refusal` says why. It may be
/// captured once it has run, when the libraries have loaded what they need.
GraphExec capture(cudaStream_t stream, const std::function<void()>& work, std::string& refusal);

/// Steps that follow each other, from `first` up to `end`, which all are on the device or all are not.
struct StepPart {
  std::size_t first = 0, end = 0;
  bool on_device = false;
};
std::vector<StepPart> parts_of_step(const std::vector<bool>& on_device);
/// What a plan says of them.
std::string note_on_parts(const std::vector<StepPart>& parts);

/// The first run launches all steps one by one, which lets the libraries load what they need, and then captures each
/// part on the device into a CUDA graph; from then on the part is one launch of that. The others, reference kernels on
/// the host and exchanges between ranks, run between them as in the first run. A part that cannot be captured goes on
/// being launched step by step, and the notes say so.
///
/// A step may launch another kernel than before, once one has failed: then no graph from before is launched, in the run
/// in which that happens neither, and all parts are captured again.
class CapturedSteps {
 public:
  /// `wait` returns when the stream's work is done. `have_failed` becomes true once, by a step that launches another
  /// kernel from then on. `steps` and `notes` must outlive this; nobody else adds notes.
  CapturedSteps(const std::vector<core::Run>& steps, const std::vector<bool>& on_device, cudaStream_t stream,
                std::function<void()> wait, std::shared_ptr<const bool> have_failed, std::vector<std::string>& notes);
  void operator()();

 private:
  struct Part {
    StepPart steps;
    GraphExec graph = {};
  };
  void enqueue(const Part& part) const;
  void capture_all();

  const std::vector<core::Run>& steps_;
  std::vector<Part> parts_;
  cudaStream_t stream_;
  std::function<void()> wait_;
  std::shared_ptr<const bool> have_failed_;
  std::vector<std::string>& notes_;
  std::size_t own_notes_ = 0;  // where those on the capture begin
  bool captures_ = true;
  std::optional<bool> captured_;  // what `have_failed` was then; unset: before
};

}  // namespace halfstep::cudnn
