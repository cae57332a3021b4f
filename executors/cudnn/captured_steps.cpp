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

constexpr const char* kNotWanted = "HALFSTEP_CUDA_GRAPHS is 0";
bool may_capture() {
  const char* wanted = std::getenv("HALFSTEP_CUDA_GRAPHS");
  return !wanted || std::string_view(wanted) != "0";
}

/// A step by itself is launched as fast as a graph of it.
bool is_worth_a_graph(const StepPart& part, std::size_t parts) {
  return part.on_device && (parts == 1 || part.end - part.first > 1);
}

}  // namespace

GraphExec capture(cudaStream_t stream, const std::function<void()>& work, std::string& refusal) {
  const auto refuse = [&](const char* call, const std::string& why) {
    forget_failure();
    refusal = fmt::format("{} gave {}", call, why);
    return GraphExec();
  };
  if (!may_capture()) {
    refusal = kNotWanted;
    return {};
  }
  cudaError_t status = cudaStreamBeginCapture(stream, cudaStreamCaptureModeThreadLocal);
  if (status != cudaSuccess) return refuse("cudaStreamBeginCapture", text_of(status));
  std::exception_ptr failed;
  try {
    work();
  } catch (...) {  // whatever it is: the stream must not be left capturing
    failed = std::current_exception();
  }
  cudaGraph_t graph = nullptr;
  status = cudaStreamEndCapture(stream, &graph);  // ends the capture even when a call in it failed
  const CapturedGraph owned(graph);
  if (failed) return refuse("a call under capture", message_of(failed));
  if (status != cudaSuccess) return refuse("cudaStreamEndCapture", text_of(status));
  cudaGraphExec_t exec = nullptr;
  status = cudaGraphInstantiate(&exec, graph, 0);
  if (status != cudaSuccess) return refuse("cudaGraphInstantiate", text_of(status));
  return GraphExec(exec);
}

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
                             cudaStream_t stream, std::function<void()> wait, std::shared_ptr<const bool> have_failed,
                             std::vector<std::string>& notes)
    : steps_(steps), stream_(stream), wait_(std::move(wait)), have_failed_(std::move(have_failed)), notes_(notes) {
  const std::vector<StepPart> parts = parts_of_step(on_device);
  for (const StepPart& part : parts) parts_.push_back({part});
  captures_ = may_capture();
  if (!captures_)
    notes_.emplace_back(fmt::format("the step is launched kernel by kernel: {}", kNotWanted));
  else if (parts.size() > 1)
    notes_.push_back(note_on_parts(parts));
  own_notes_ = notes_.size();
}

void CapturedSteps::operator()() {
  for (const Part& part : parts_)
    if (part.graph && captured_ == *have_failed_)
      check(cudaGraphLaunch(part.graph.get(), stream_), "cudaGraphLaunch");
    else
      enqueue(part);
  if (!captures_ || captured_ == *have_failed_) return;
  wait_();
  while (captured_ != *have_failed_) capture_all();  // once, and again where a kernel fails under capture
}

void CapturedSteps::capture_all() {
  captured_ = *have_failed_;
  notes_.resize(own_notes_);
  if (*have_failed_)
    notes_.emplace_back(
        "a library's call has failed when it ran: kernels that were made for that case compute instead");
  for (Part& part : parts_)
    if (std::string refusal; is_worth_a_graph(part.steps, parts_.size())) {
      part.graph = capture(
          stream_, [&] { enqueue(part); }, refusal);
      if (!part.graph)
        notes_.push_back(fmt::format("{} is launched kernel by kernel: {}",
                                     parts_.size() == 1 ? "the step" : "a part of the step", refusal));
    }
  if (parts_.size() == 1 && parts_[0].graph) notes_.push_back(note_on_parts({parts_[0].steps}));
}

void CapturedSteps::enqueue(const Part& part) const {
  for (std::size_t i = part.steps.first; i < part.steps.end; ++i) steps_[i]();
}

}  // namespace halfstep::cudnn
