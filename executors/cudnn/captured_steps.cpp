#include "executors/cudnn/captured_steps.h"

#include <algorithm>
#include <cstdlib>
#include <exception>
#include <string_view>
#include <utility>

#include <fmt/format.h>

#include "executors/cudnn/pending_failure.h"
#include <halfstep/base/error.h>

namespace halfstep::cudnn {
namespace {

std::string message_of(const std::exception_ptr& thrown) {
  try {
    std::rethrow_exception(thrown);
  } catch (const Error& e) {
    return e.found();
  } catch (const std::exception& e) {
    return e.what();
  } catch (...) {
    return "an exception";
  }
}

/// A step by itself is launched as fast as a graph of it.
bool is_worth_a_graph(const StepPart& part, std::size_t parts) {
  return part.on_device && (parts == 1 || part.end - part.first > 1);
}

}  // namespace

std::vector<StepPart> parts_of_step(const std::vector<bool>& on_device) {
  std::vector<StepPart> parts;
  for (std::size_t i = 0; i < on_device.size(); ++i) {
    if (parts.empty() || parts.back().on_device != on_device[i]) parts.push_back({i, i, on_device[i]});
    parts.back().end = i + 1;
  }
  return parts;
}

std::string note_on_parts(const std::vector<StepPart>& parts) {
  if (std::ranges::all_of(parts, &StepPart::on_device)) return "the step is one launch of a captured CUDA graph";
  const auto graphs =
      std::ranges::count_if(parts, [&](const StepPart& part) { return is_worth_a_graph(part, parts.size()); });
  return fmt::format(
      "some nodes are reference kernels on the host, or exchanges with other ranks: what is between them is {} "
      "captured "
      "CUDA graph{}",
      graphs, graphs == 1 ? "" : "s");
}

CapturedSteps::CapturedSteps(const std::vector<core::Run>& steps, const std::vector<bool>& on_device,
                             cudaStream_t stream, std::function<void()> wait, std::vector<std::string>& notes)
    : steps_(steps), stream_(stream), wait_(std::move(wait)), notes_(notes) {
  const std::vector<StepPart> parts = parts_of_step(on_device);
  for (const StepPart& part : parts) parts_.push_back({part});
  const char* wanted = std::getenv("HALFSTEP_CUDA_GRAPHS");
  tried_ = wanted && std::string_view(wanted) == "0";
  if (tried_)
    notes_.emplace_back("the step is launched kernel by kernel: HALFSTEP_CUDA_GRAPHS is 0");
  else if (parts.size() > 1)
    notes_.push_back(note_on_parts(parts));
}

void CapturedSteps::operator()() {
  for (const Part& part : parts_)
    if (part.graph)
      check(cudaGraphLaunch(part.graph.get(), stream_), "cudaGraphLaunch");
    else
      enqueue(part);
  if (tried_) return;
  wait_();
  tried_ = true;
  for (Part& part : parts_)
    if (is_worth_a_graph(part.steps, parts_.size())) capture(part);
  if (parts_.size() == 1 && parts_[0].graph) notes_.push_back(note_on_parts({parts_[0].steps}));
}

void CapturedSteps::enqueue(const Part& part) const {
  for (std::size_t i = part.steps.first; i < part.steps.end; ++i) steps_[i]();
}

void CapturedSteps::give_up(const char* call, const std::string& why) {
  forget_failure();
  notes_.push_back(fmt::format("{} is launched kernel by kernel: {} gave {}",
                               parts_.size() == 1 ? "the step" : "a part of the step", call, why));
}

void CapturedSteps::capture(Part& part) {
  cudaError_t status = cudaStreamBeginCapture(stream_, cudaStreamCaptureModeThreadLocal);
  if (status != cudaSuccess) return give_up("cudaStreamBeginCapture", text_of(status));
  std::exception_ptr failed;
  try {
    enqueue(part);
  } catch (...) {  // whatever it is: the stream must not be left capturing
    failed = std::current_exception();
  }
  cudaGraph_t graph = nullptr;
  status = cudaStreamEndCapture(stream_, &graph);  // ends the capture even when a call in it failed
  const CapturedGraph owned(graph);
  if (failed) return give_up("a call under capture", message_of(failed));
  if (status != cudaSuccess) return give_up("cudaStreamEndCapture", text_of(status));
  cudaGraphExec_t exec = nullptr;
  status = cudaGraphInstantiate(&exec, graph, 0);
  if (status != cudaSuccess) return give_up("cudaGraphInstantiate", text_of(status));
  part.graph = GraphExec(exec);
}

}  // namespace halfstep::cudnn
