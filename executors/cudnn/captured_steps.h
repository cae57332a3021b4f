// The steps of a program as CUDA graphs.
#pragma once

#include <cstddef>
#include <functional>
#include <string>
#include <vector>

#include "executors/cudnn/resources.h"
#include <halfstep/executors/core/kernel.h>

namespace halfstep::cudnn {

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
class CapturedSteps {
 public:
  /// `wait` returns when the stream's work is done. `steps` and `notes` must outlive this.
  CapturedSteps(const std::vector<core::Run>& steps, const std::vector<bool>& on_device, cudaStream_t stream,
                std::function<void()> wait, std::vector<std::string>& notes);
  void operator()();

 private:
  struct Part {
    StepPart steps;
    GraphExec graph = {};
  };
  void enqueue(const Part& part) const;
  void capture(Part& part);
  void give_up(const char* call, const std::string& why);

  const std::vector<core::Run>& steps_;
  std::vector<Part> parts_;
  cudaStream_t stream_;
  std::function<void()> wait_;
  std::vector<std::string>& notes_;
  bool tried_ = false;
};

}  // namespace halfstep::cudnn
