// A graph compiled for the device.
#pragma once

#include <memory>
#include <vector>

#include "executors/cudnn/kernel.h"
#include "executors/cudnn/resources.h"
#include "executors/cudnn/schedule.h"
#include "executors/cudnn/store.h"
#include "executors/executor.h"
#include "ops/op_def.h"

namespace halfstep::cudnn {

/// Runs the steps of a schedule in one stream. When all nodes are on the device the first run launches them one by one
/// (which lets the libraries load what they need) and then captures the step into a CUDA graph; later runs are one
/// launch of that. A step that cannot be captured goes on being launched one by one, and the plan says so.
class DeviceProgram final : public Program {
 public:
  /// `kernels` has one entry per node, empty but for those placed on the device.
  DeviceProgram(const Graph& graph, std::shared_ptr<const Libraries> libraries, DeviceStore& store, Schedule schedule,
                std::vector<DeviceKernel> kernels, Plan plan);

  Tensor input(std::size_t i) override { return host_tensor(graph_.inputs.at(i)); }
  Tensor output(std::size_t i) override { return host_tensor(graph_.outputs.at(i)); }
  void run() override;
  const Plan& plan() const override { return plan_; }

 private:
  /// A reference kernel with its operands; output tensors are made anew only where shapes depend on data.
  struct HostCall {
    ReferenceKernel kernel = nullptr;
    std::vector<Tensor> in, out;
  };

  Tensor& host_tensor(ValueId v) { return host_[static_cast<std::size_t>(v)]; }
  void* address(ValueId v) const;
  void make_host_tensors();
  void upload_constants();
  void bind_states(DeviceStore& store);
  void bind_kernels();
  void call_reference(std::size_t node);
  void enqueue(const Step& step);
  void capture();

  Graph graph_;
  std::shared_ptr<const Libraries> libraries_;
  Schedule schedule_;
  std::vector<DeviceKernel> kernels_;
  std::vector<Launch> launches_;
  std::vector<HostCall> calls_;
  Plan plan_;

  DeviceBuffer arena_, constants_;
  std::vector<std::size_t> constant_offsets_;  // by value
  std::vector<void*> states_;
  std::vector<Tensor> host_;  // by value, page-locked
  GraphExec captured_;
  bool tried_capture_ = false;
};

}  // namespace halfstep::cudnn
